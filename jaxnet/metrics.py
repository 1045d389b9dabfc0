"""Which rows a net gets right, as the lecture counts them: a report averages these over the rows.

A metric takes `(outputs, targets)` and gives one number or boolean for each row.
"""

import numpy as np
from jaxtyping import Array, Bool, Float


def probability_is_right(
    probs: Float[Array | np.ndarray, "n 1"], targets: Float[Array | np.ndarray, "n 1"]
) -> Bool[Array | np.ndarray, " n"]:
    """Whether probability > 1/2 and target > 1/2 agree, row by row.

    >>> import jax.numpy as jnp
    >>> print(probability_is_right(jnp.array([[0.9], [0.5]]), jnp.array([[1.0], [1.0]])))
    [ True False]
    """
    return ((probs > 0.5) == (targets > 0.5)).all(axis=1)


def logit_is_right(
    logits: Float[Array | np.ndarray, "n 1"], targets: Float[Array | np.ndarray, "n 1"]
) -> Bool[Array | np.ndarray, " n"]:
    """Whether logit > 0 and target > 1/2 agree: `probability_is_right` without the sigmoid.

    >>> import jax.numpy as jnp
    >>> print(logit_is_right(jnp.array([[2.0], [-2.0]]), jnp.array([[1.0], [1.0]])))
    [ True False]
    """
    return ((logits > 0) == (targets > 0.5)).all(axis=1)


def class_is_right(
    logits: Float[Array | np.ndarray, "n classes"], targets: Float[Array | np.ndarray, "n classes"]
) -> Bool[Array | np.ndarray, " n"]:
    """Whether the largest logit and the largest target are in the same place, row by row.

    >>> import jax.numpy as jnp
    >>> print(class_is_right(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])))
    [ True]
    """
    return logits.argmax(axis=1) == targets.argmax(axis=1)
