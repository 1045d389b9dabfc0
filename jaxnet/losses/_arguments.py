"""What the losses share: the types of their arguments, the checks of them, the reductions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer, Real

from jaxnet._utils.validation import nearest

Floats = Float[Array | np.ndarray, "..."]
Classes = Integer[Array | np.ndarray, "..."]
Weights = Real[Array | np.ndarray, "..."]


def reduce(loss, reduction, where=None):
    """The mean or the sum over what counts, or the loss as it is."""
    if reduction == "none":
        return loss
    return jnp.mean(loss, where=where) if reduction == "mean" else jnp.sum(loss, where=where)


def broadcast(name, weight, like):
    """A weight in the shape and type of what it weighs, or a ValueError that names it."""
    try:
        fits = np.broadcast_shapes(weight.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {weight.shape}, expected one that fits {like.shape}")
    return jnp.broadcast_to(jnp.asarray(weight), like.shape).astype(like.dtype)


def check_reduction(reduction):
    """Reject anything but torch's three reductions."""
    if reduction not in (known := ("none", "mean", "sum")):
        meant = nearest(reduction, known)
        raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'{meant}")


def check_arrays(**arrays):
    """Reject anything but an array, by name; of weights, which may be None, anything but reals."""
    for name, array in arrays.items():
        if array is None and name not in ("input", "target"):
            continue
        if not isinstance(array, jax.Array | np.ndarray | np.generic):
            raise TypeError(f"{name} is a {type(array).__name__}, expected an array")
        real = (jnp.issubdtype(array.dtype, k) for k in (jnp.floating, jnp.integer, jnp.bool_))
        if "weight" in name and not any(real):
            raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")


def check_floating(name, array):
    """Reject integers, which torch's losses of real numbers reject too."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected a floating dtype")


def check_elements(input, target, reduction, **weights):
    """The checks of a loss of single elements: a target that would be broadcast is rejected."""
    check_reduction(reduction)
    check_arrays(input=input, target=target, **weights)
    if target.shape != input.shape:
        raise ValueError(f"target has shape {target.shape}, expected {input.shape} as in input")
    check_floating("input", input)
    check_floating("target", target)


def known_values(array):
    """The values, or None of a tracer; in NumPy, as inside jit jnp would trace a constant too."""
    return None if isinstance(array, Tracer) else np.asarray(array)
