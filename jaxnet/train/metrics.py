"""Which rows a net gets right, as the lecture counts them: a report averages these over the rows.

A metric takes `(outputs, targets)` and gives one number or boolean for each row.
"""

from typing import Any

import jax
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
    _check_pairs(probs=probs, targets=targets)
    return ((probs > 0.5) == (targets > 0.5)).all(axis=1)


def logit_is_right(
    logits: Float[Array | np.ndarray, "n 1"], targets: Float[Array | np.ndarray, "n 1"]
) -> Bool[Array | np.ndarray, " n"]:
    """Whether logit > 0 and target > 1/2 agree: `probability_is_right` without the sigmoid.

    >>> import jax.numpy as jnp
    >>> print(logit_is_right(jnp.array([[2.0], [-2.0]]), jnp.array([[1.0], [1.0]])))
    [ True False]
    """
    _check_pairs(logits=logits, targets=targets)
    return ((logits > 0) == (targets > 0.5)).all(axis=1)


def class_is_right(
    logits: Float[Array | np.ndarray, "n classes"], targets: Float[Array | np.ndarray, "n classes"]
) -> Bool[Array | np.ndarray, " n"]:
    """Whether the largest logit and the largest target are in the same place, row by row.

    >>> import jax.numpy as jnp
    >>> print(class_is_right(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])))
    [ True]
    """
    _check_pairs(logits=logits, targets=targets)
    return logits.argmax(axis=1) == targets.argmax(axis=1)


def _check_pairs(**arrays: Any) -> None:
    """Refuse what would be broadcast or counted along another axis: a wrong accuracy, silently."""
    for name, array in arrays.items():
        if not isinstance(array, jax.Array | np.ndarray):
            raise TypeError(f"{name} must be an array, not {type(array).__name__}")
    (name, outputs), (other, targets) = arrays.items()
    if outputs.ndim != 2:
        raise ValueError(f"{name} must have shape (n, classes), not {outputs.shape}")
    if targets.shape != outputs.shape:
        raise ValueError(
            f"{other} must have the shape of {name}, {outputs.shape}, not {targets.shape}"
        )
