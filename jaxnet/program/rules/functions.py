"""Functions of one array, element by element, and what leaves its elements as they are."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.losses.regression import absolute
from jaxnet.nn._functions import expm1, tanh
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import cast, is_floating


def _plain(function):
    """A function of floats that needs no more than its type."""
    return lambda x: narrow(function(widen(x)), x)


@jax.custom_jvp
def digamma(x):
    """The derivative of log(gamma(x)); its own is reflected below 1/2, where JAX's is not."""
    return jax.scipy.special.digamma(x)


@digamma.defjvp
def _digamma_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    low = x < 0.5
    own = jax.scipy.special.polygamma(1, jnp.where(low, 1 - x, x))
    sine = jnp.sin(jnp.pi * jnp.where(low, x, 0.5))
    return digamma(x), jnp.where(low, (jnp.pi / sine) ** 2 - own, own) * dx


for _names, _function in {
    "exp": jnp.exp,
    "exp2 special_exp2": jnp.exp2,
    "expm1 special_expm1": expm1,
    "log": jnp.log,
    "log2": lambda x: jnp.log(x) / math.log(2.0),
    "log10": lambda x: jnp.log(x) / math.log(10.0),
    "log1p special_log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lambda x: 1 / jnp.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin arcsin": jnp.arcsin,
    "acos arccos": jnp.arccos,
    "atan arctan": jnp.arctan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": tanh,
    "asinh arcsinh": jnp.arcsinh,
    "acosh arccosh": jnp.arccosh,
    "atanh arctanh": jnp.arctanh,
    "erf special_erf": jax.scipy.special.erf,
    "erfc special_erfc": jax.scipy.special.erfc,
    "erfinv special_erfinv": jax.scipy.special.erfinv,
    "sigmoid special_expit": jax.nn.sigmoid,
    "lgamma special_gammaln": jax.scipy.special.gammaln,
    "digamma special_digamma": digamma,
    "sinc special_sinc": jnp.sinc,
}.items():
    aten(_names)(_plain(_function))

for _names, _function in {"floor": jnp.floor, "ceil": jnp.ceil, "trunc fix": jnp.trunc}.items():
    aten(_names)(lambda x, *, f=_function: f(x) if is_floating(x) else x)

tabulate({
    "neg negative": lambda x: jnp.negative(x),
    "positive": lambda x: jnp.positive(x),
    "isnan": lambda x: jnp.isnan(x),
    "isinf": lambda x: jnp.isinf(x),
    "isfinite": lambda x: jnp.isfinite(x),
    "square": lambda x: jnp.square(x),
    "sign sgn": lambda x: jnp.sign(x),
    "signbit": lambda x: jnp.signbit(x),
    "round": lambda x: jnp.round(x) if is_floating(x) else jnp.asarray(x),
    "round.decimals": lambda x, decimals: jnp.round(x, decimals),
    "frac": lambda x: x - jnp.trunc(x),
    "detach": lambda x: lax.stop_gradient(x),
    "alias alias_copy lift lift_fresh_copy clone contiguous resolve_conj resolve_neg": lambda x: x,
    "zero": lambda x: jnp.zeros_like(x),
    "fill.Scalar fill.Tensor": lambda x, value: copy(x, value),
})  # fmt: skip


@aten("abs absolute")
def absolute_value(x):
    return absolute(x) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.abs(x)


@aten("logit special_logit")
def logit(x, eps=None):
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps], with no gradient outside."""
    y = widen(x)
    if eps is not None:
        y = jnp.where(y < eps, eps, jnp.where(y > 1 - eps, 1 - eps, y))
    return narrow(jnp.log(y / (1 - y)), x)


@aten("nan_to_num")
def nan_to_num(x, nan=None, posinf=None, neginf=None):
    """No gradient where something is replaced."""
    if not is_floating(x):
        return jnp.asarray(x)
    limits = jnp.finfo(x.dtype)
    y = jnp.where(jnp.isnan(x), jnp.asarray(0.0 if nan is None else nan, x.dtype), x)
    y = jnp.where(x == jnp.inf, jnp.asarray(limits.max if posinf is None else posinf, x.dtype), y)
    low = jnp.asarray(limits.min if neginf is None else neginf, x.dtype)
    return jnp.where(x == -jnp.inf, low, y)


@aten("_to_copy to.dtype to.dtype_layout to.device to.other type_as")
def to(x, *_, result, **__):
    """To another type; what is not finite has no integer, in torch as here."""
    return jnp.asarray(x).astype(result.dtype)


@aten("copy")
def copy(x, src, non_blocking=False):
    return jnp.broadcast_to(jnp.asarray(src).astype(x.dtype), x.shape)


@aten("softmax.int")
def softmax(x, dim, dtype=None):
    x = cast(x, dtype)
    return narrow(jax.nn.softmax(widen(x), dim), x) if x.ndim else jnp.ones_like(x)


@aten("_safe_softmax")
def safe_softmax(x, dim, dtype=None):
    """softmax, and 0 where a whole row is -inf."""
    x = cast(x, dtype)
    empty = jnp.all(x == -jnp.inf, dim, keepdims=True)
    empty = jnp.broadcast_to(empty, x.shape)
    return jnp.where(empty, 0, softmax(jnp.where(empty, 0, x), dim))


@aten("log_softmax.int")
def log_softmax(x, dim, dtype=None):
    x = cast(x, dtype)
    return narrow(jax.nn.log_softmax(widen(x), dim), x) if x.ndim else jnp.zeros_like(x)


aten("_softmax")(lambda x, dim, half_to_float: softmax(x, dim))
aten("_log_softmax")(lambda x, dim, half_to_float: log_softmax(x, dim))
