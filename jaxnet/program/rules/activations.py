"""Activations, from the functions that the layers of `jaxnet.nn` are made of."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.nn import _functions
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten, tabulate


@aten("elu")
def elu(x, alpha=1.0, scale=1.0, input_scale=1.0):
    """scale x above 0, else alpha scale (exp(input_scale x) - 1)."""
    y = widen(x)
    curve = _functions.expm1(jnp.where(y > 0, 0.0, y * input_scale))
    return narrow(jnp.where(y > 0, y * scale, alpha * scale * curve), x)


@aten("celu")
def celu(x, alpha=1.0):
    """max(x, 0) + min(alpha (exp(x / alpha) - 1), 0); torch's gradient takes float32(1 / alpha)."""
    return elu(x, alpha, 1.0, 1.0 / alpha)


@aten("leaky_relu")
def leaky_relu(x, negative_slope=0.01):
    """x above 0, else negative_slope x."""
    return narrow(_functions.leaky_relu(widen(x), float(negative_slope)), x)


@aten("rrelu")
def rrelu(x, lower=0.125, upper=1 / 3, training=False):
    """In evaluation; in training it takes as many random words as there are negative elements."""
    if training:
        raise NotImplementedError("rrelu in training draws a number of words that depends on data")
    return leaky_relu(x, (lower + upper) / 2)


@aten("prelu _prelu_kernel")
def prelu(x, weight):
    """One slope for all, or one for each channel, axis 1."""
    if weight.ndim != x.ndim:
        weight = weight.reshape((1, -1, *(1,) * (x.ndim - 2)) if weight.size > 1 else ())
    y = widen(x)
    return narrow(jnp.where(y > 0, y, y * jnp.broadcast_to(weight, y.shape)), x)


@aten("log_sigmoid")
def log_sigmoid(x):
    """-log(1 + exp(-x))."""
    return narrow(_functions.log_sigmoid(widen(x)), x)


@aten("log_sigmoid_forward")
def log_sigmoid_forward(x):
    """The result, and exp(-|x|) for the way back."""
    return log_sigmoid(x), jnp.exp(-jnp.abs(x))


@aten("hardtanh")
def hardtanh(x, min_val=-1, max_val=1):
    """min(max(x, min_val), max_val), with gradient 0 at both ends."""
    low, high = jnp.asarray(min_val, x.dtype), jnp.asarray(max_val, x.dtype)
    return jnp.where(x <= low, low, jnp.where(x >= high, high, x))


@aten("hardsigmoid")
def hardsigmoid(x):
    """min(max(x + 3, 0), 6) / 6, with gradient 0 at both ends."""
    y = widen(x)
    inside = _linear_sixth(y)
    return narrow(jnp.where(y <= -3, 0.0, jnp.where(y >= 3, 1.0, inside)), x)


@jax.custom_jvp
def _linear_sixth(x):
    return (x + 3) / 6


# torch's slope is float32(1 / 6), in float64 too.
_linear_sixth.defjvps(lambda tangent, y, x: tangent * np.asarray(np.float32(1 / 6), x.dtype))


@jax.custom_jvp
def _hardswish(x):
    return x * jnp.minimum(jnp.maximum(x + 3, 0), 6) / 6


def _hardswish_slope(tangent, y, x):
    return tangent * jnp.where(x <= -3, 0.0, jnp.where(x < 3, x / 3 + 0.5, 1.0)).astype(x.dtype)


_hardswish.defjvps(_hardswish_slope)


@aten("softshrink")
def softshrink(x, lambd=0.5):
    """x nearer to 0 by lambd, and 0 between -lambd and lambd; nan stays nan."""
    low, high = jnp.asarray(-lambd, x.dtype), jnp.asarray(lambd, x.dtype)
    return jnp.where(x > high, x - high, jnp.where(x < low, x - low, x * 0))


@aten("glu")
def glu(x, dim=-1):
    """The first half of an axis times the sigmoid of the second."""
    first, second = jnp.split(widen(x), 2, dim)
    return narrow(first * jax.nn.sigmoid(second), x)


@aten("mish")
def mish(x):
    """x tanh(log(1 + exp(x)))."""
    y = widen(x)
    return narrow(y * _functions.tanh(_functions.softplus(y)), x)


tabulate({
    "relu": lambda x: jax.nn.relu(x),
    "relu6": lambda x: hardtanh(x, 0, 6),
    "silu": lambda x: narrow(jax.nn.silu(widen(x)), x),
    "hardswish": lambda x: narrow(_hardswish(widen(x)), x),
    "selu": lambda x: elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946),
    "gelu": lambda x, approximate="none": narrow(_functions.gelu(widen(x), approximate), x),
    "softplus": lambda x, beta=1, threshold=20: (
        narrow(_functions.softplus(widen(x), float(beta), float(threshold)), x)
    ),
    "threshold": lambda x, threshold, value: (
        jnp.where(x <= threshold, jnp.asarray(value, x.dtype), x)
    ),
    "hardshrink": lambda x, lambd=0.5: (
        jnp.where((x >= -lambd) & (x <= lambd), jnp.zeros((), x.dtype), x)
    ),
})  # fmt: skip
