"""What the optimizers share: the types of their arguments and the checks of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from jaxnet._utils.validation import check_number

Params = PyTree[Float[Array | np.ndarray, "..."]]
LearningRate = float | int | Float[Array, ""] | optax.Schedule


def check_lr(lr, name="lr"):
    """Reject a rate that is below 0, nan or not a scalar, as far as its value is known."""
    if callable(lr):
        return
    if np.ndim(lr) != 0:
        raise ValueError(f"{name} has shape {np.shape(lr)}, expected a scalar")
    if not isinstance(lr, Tracer):
        # float, as `lr >= 0` would be traced inside jit even where lr is known.
        check_not_negative(name, check_number(name, lr))


def check_not_negative(name, value):
    """Reject a number below 0, and nan."""
    if not isinstance(value, Tracer):
        check_number(name, value)
    if not value >= 0.0:
        raise ValueError(f"{name} is {value}, expected a number of at least 0")


def check_floating(params):
    """Reject parameters of integers or booleans."""
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params have dtype {jnp.result_type(leaf)}, expected a floating dtype")
