"""What the optimizers share: the types of their arguments, the checks of them, their parts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from jaxnet._utils.validation import check_number

Params = PyTree[Float[Array | np.ndarray, "..."]]
LearningRate = float | int | Float[Array, ""] | optax.Schedule


def check_lr(lr, name="lr") -> Any:
    """The rate; reject one below 0, nan or not a scalar, as far as its value is known."""
    if callable(lr):
        return lr
    if np.ndim(lr) != 0:
        raise ValueError(f"{name} has shape {np.shape(lr)}, expected a scalar")
    if not isinstance(lr, Tracer):
        # float, as `lr >= 0` would be traced inside jit even where lr is known.
        check_not_negative(**{name: check_number(name, lr)})
    return _as_float(lr)


def check_not_negative(**values):
    """The numbers; reject one below 0, and nan, by name."""
    for name, value in values.items():
        if not isinstance(value, Tracer):
            check_number(name, value)
        if not value >= 0.0:
            raise ValueError(f"{name} is {value}, expected a number of at least 0")
    return tuple(map(_as_float, values.values()))


def _as_float(value):
    # Of integers JAX takes those of int32 alone.
    return float(value) if isinstance(value, int) else value


def check_floating(params):
    """Reject parameters that no gradient can move."""
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params have dtype {jnp.result_type(leaf)}, expected a floating dtype")


def chain(*parts: optax.GradientTransformation | None) -> optax.GradientTransformation:
    """One part after another; those that are None are left out."""
    return optax.chain(*(part for part in parts if part is not None))


def average_squares(averages, grads, decay: float):
    """`decay * average + (1 - decay) * grad**2` of every parameter."""
    # torch's order: with 0.999 `grad * grad` overflows from 1.8e19 on, this product from 5.8e20 on.
    return jax.tree.map(lambda v, grad: decay * v + (1 - decay) * grad * grad, averages, grads)


def lerp(start, end, weight: float):
    """`torch.lerp`: of its two forms each is exact where the other loses `end` or `start`."""
    if weight < 0.5:
        return start + weight * (end - start)
    return end - (1 - weight) * (end - start)
