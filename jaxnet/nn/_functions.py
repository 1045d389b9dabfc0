"""What the layers of single elements compute, as functions: the rules of `program` share them.

Each takes float32 or wider and gives the same; `widen` and `narrow` stand around them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where it is positive, else `negative_slope` times x."""
    return jnp.where(x > 0, x, x * negative_slope)


# JAX's own derivative, expm1(x) + 1, is 0 below -17: exp(x) is not.
expm1 = jax.custom_jvp(jnp.expm1)
expm1.defjvps(lambda tangent, y, x: tangent * jnp.exp(x))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, else alpha (exp(x) - 1)."""
    # The inner choice keeps an overflow of exp out of the gradient of large x.
    curve = alpha * expm1(jnp.where(x > 0, 0.0, x))
    return jnp.where(x > 0, x, curve)


def _logistic_slope(x):
    """The derivative of 1 / (1 + exp(-x)); y * (1 - y) would cancel for large x."""
    z = jnp.exp(-jnp.abs(x))
    return z / lax.square(1.0 + z)


_logistic = jax.custom_jvp(jax.nn.sigmoid)
_logistic.defjvps(lambda tangent, y, x: tangent * _logistic_slope(x))


def gelu(x: Array, approximate: str = "none") -> Array:
    """x times the normal distribution function of x, or its approximation by "tanh"."""
    if approximate == "none":
        return jax.nn.gelu(x, approximate=False)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * _logistic(2.0 * inner)  # (1 + tanh(u)) / 2


def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(-x)))."""
    # min and |x| as choices: their own derivatives at 0 would not add up to torch's 1/2.
    negative = x < 0
    rest = jnp.log1p(jnp.exp(jnp.where(negative, x, -x)))
    return jnp.where(negative, x, 0.0) - rest


# XLA's tanh errs by 2 ulp of 1 near its limits, which 1 - y^2 would double.
tanh = jax.custom_jvp(jnp.tanh)
tanh.defjvps(lambda tangent, y, x: tangent * (4.0 * _logistic_slope(2.0 * x)))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta; x where beta x is above the threshold."""
    scaled = x * beta
    negative = scaled < 0  # as in log_sigmoid
    rest = jnp.log1p(jnp.exp(jnp.where(negative, scaled, -scaled)))
    soft = jnp.where(negative, 0.0, scaled) + rest
    return jnp.where(scaled > threshold, x, soft / beta)


def scale_kept(x: Any, keep: Any, p: float) -> Array:
    """x times 1 / (1 - p) where kept, else times 0, the scale rounded as torch rounds it."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    scale = np.asarray(np.ones((), wide) / np.asarray(1.0 - p, wide), x.dtype)
    return x * jnp.where(keep, scale, np.zeros_like(scale))


def take_rows(weight: Any, indices: Any, padding_idx: int | None = None) -> Array:
    """The rows of `weight`; nan for an index that is none of them, no gradient of `padding_idx`."""
    rows = weight.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    if padding_idx is None:
        return rows
    padding = jnp.broadcast_to((indices == padding_idx)[..., None], rows.shape)
    return jnp.where(padding, lax.stop_gradient(rows), rows)


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance, each axis kept with size 1, in two passes: nothing cancels."""
    mean = jnp.mean(x, axes, keepdims=True)
    return mean, jnp.mean(lax.square(x - mean), axes, keepdims=True)


def normalize_channels(
    x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float
) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias, of one value for each channel, axis 1."""
    across = (1, x.shape[1], *(1,) * (x.ndim - 2))
    scale = jnp.ones(across, x.dtype) if weight is None else weight.reshape(across)
    scale = scale / jnp.sqrt(variance.reshape(across) + eps)
    y = (x - jnp.broadcast_to(mean.reshape(across), x.shape)) * jnp.broadcast_to(scale, x.shape)
    return y if bias is None else y + jnp.broadcast_to(bias.reshape(across), x.shape)


def layer_norm(x: Array, count: int, weight: Any, bias: Any, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last `count` axes."""
    mean, variance = moments(x, tuple(range(-count, 0)))
    y = (x - mean) / jnp.sqrt(variance + eps)
    y = y if weight is None else y * jnp.broadcast_to(weight, y.shape)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)
