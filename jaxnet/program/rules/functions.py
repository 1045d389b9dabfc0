"""Functions of one array, element by element, and what leaves its elements as they are."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.losses.regression import absolute
from jaxnet.nn._functions import expm1, tanh
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import rule
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


for _name, _function in {
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": expm1,
    "log": jnp.log,
    "log2": lambda x: jnp.log(x) / math.log(2.0),
    "log10": lambda x: jnp.log(x) / math.log(10.0),
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lambda x: 1 / jnp.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": tanh,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
    "sigmoid": jax.nn.sigmoid,
    "lgamma": jax.scipy.special.gammaln,
    "digamma": digamma,
    "sinc": jnp.sinc,
}.items():
    rule(f"aten.{_name}.default")(_plain(_function))

rule("aten.special_expit.default")(_plain(jax.nn.sigmoid))

for _name in ("neg", "positive", "isnan", "isinf", "isfinite", "square", "sign", "signbit"):
    _function = getattr(jnp, {"neg": "negative"}.get(_name, _name))
    rule(f"aten.{_name}.default")(lambda x, f=_function: f(x))

for _name in ("floor", "ceil", "trunc"):
    _function = getattr(jnp, _name)
    rule(f"aten.{_name}.default")(lambda x, f=_function: f(x) if is_floating(x) else x)

rule("aten.sgn.default")(lambda x: jnp.sign(x))


@rule("aten.abs.default")
def absolute_value(x):
    return absolute(x) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.abs(x)


@rule("aten.round.default")
def round_half_to_even(x):
    return jnp.round(x) if is_floating(x) else jnp.asarray(x)


@rule("aten.round.decimals")
def round_decimals(x, decimals):
    return jnp.round(x, decimals)


@rule("aten.frac.default")
def frac(x):
    return x - jnp.trunc(x)


@rule("aten.logit.default")
def logit(x, eps=None):
    """log(x / (1 - x)), x first clamped to [eps, 1 - eps], with no gradient outside."""
    y = widen(x)
    if eps is not None:
        y = jnp.where(y < eps, eps, jnp.where(y > 1 - eps, 1 - eps, y))
    return narrow(jnp.log(y / (1 - y)), x)


@rule("aten.nan_to_num.default")
def nan_to_num(x, nan=None, posinf=None, neginf=None):
    """No gradient where something is replaced."""
    if not is_floating(x):
        return jnp.asarray(x)
    limits = jnp.finfo(x.dtype)
    y = jnp.where(jnp.isnan(x), jnp.asarray(0.0 if nan is None else nan, x.dtype), x)
    y = jnp.where(x == jnp.inf, jnp.asarray(limits.max if posinf is None else posinf, x.dtype), y)
    low = jnp.asarray(limits.min if neginf is None else neginf, x.dtype)
    return jnp.where(x == -jnp.inf, low, y)


@rule("aten.detach.default")
def detach(x):
    return lax.stop_gradient(x)


@rule("aten.alias.default", "aten.lift_fresh_copy.default", "aten.lift.default")
@rule("aten.clone.default", "aten.contiguous.default", "aten.alias_copy.default")
@rule("aten.resolve_conj.default", "aten.resolve_neg.default")
def identity(x):
    return x


@rule("aten._to_copy.default", "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device")
@rule("aten.to.other", "aten.type_as.default")
def to(x, *_, result, **__):
    """To another type; what is not finite has no integer, in torch as here."""
    return jnp.asarray(x).astype(result.dtype)


@rule("aten.copy.default")
def copy(x, src, non_blocking=False):
    return jnp.broadcast_to(jnp.asarray(src).astype(x.dtype), x.shape)


@rule("aten.fill.Scalar", "aten.fill.Tensor")
def fill(x, value):
    return jnp.broadcast_to(jnp.asarray(value).astype(x.dtype), x.shape)


@rule("aten.zero.default")
def zero(x):
    return jnp.zeros_like(x)


@rule("aten.softmax.int")
def softmax(x, dim, dtype=None):
    x = cast(x, dtype)
    return narrow(jax.nn.softmax(widen(x), dim), x) if x.ndim else jnp.ones_like(x)


@rule("aten._softmax.default")
def softmax_kernel(x, dim, half_to_float):
    return softmax(x, dim)


@rule("aten._safe_softmax.default")
def safe_softmax(x, dim, dtype=None):
    """softmax, and 0 where a whole row is -inf."""
    x = cast(x, dtype)
    empty = jnp.all(x == -jnp.inf, dim, keepdims=True)
    empty = jnp.broadcast_to(empty, x.shape)
    return jnp.where(empty, 0, softmax(jnp.where(empty, 0, x), dim))


@rule("aten.log_softmax.int")
def log_softmax(x, dim, dtype=None):
    x = cast(x, dtype)
    return narrow(jax.nn.log_softmax(widen(x), dim), x) if x.ndim else jnp.zeros_like(x)


@rule("aten._log_softmax.default")
def log_softmax_kernel(x, dim, half_to_float):
    return log_softmax(x, dim)
