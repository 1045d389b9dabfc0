"""Arithmetic of two arrays, comparisons, choices and bits: torch's types for what they give."""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import broadcast, is_floating, promote, result_type


@aten("add.Tensor add.Scalar")
def add(x, other, alpha=1):
    x, other = promote(x, other)
    if x.dtype == jnp.bool_:
        return x | other
    return x + other if alpha == 1 else x + other * jnp.asarray(alpha, x.dtype)


@aten("sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar")
def sub(x, other, alpha=1):
    x, other = promote(x, other)
    return x - other if alpha == 1 else x - other * jnp.asarray(alpha, x.dtype)


@aten("mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar")
def mul(x, other):
    x, other = promote(x, other)
    return x & other if x.dtype == jnp.bool_ else x * other


@aten("div.Tensor div.Scalar divide.Tensor divide.Scalar true_divide.Tensor true_divide.Scalar")
def div(x, other):
    x, other = promote(x, other, floating=True)
    return x / other


@aten("div.Tensor_mode div.Scalar_mode divide.Tensor_mode divide.Scalar_mode")
def div_mode(x, other, rounding_mode=None):
    if rounding_mode is None:
        return div(x, other)
    if rounding_mode == "floor":
        return floor_divide(x, other)
    x, other = promote(x, other)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return lax.div(x, other)
    return jnp.trunc(x / other)


@aten("floor_divide floor_divide.Scalar")
def floor_divide(x, other):
    # torch has no gradient of it: 0.
    return lax.stop_gradient(jnp.floor_divide(*promote(x, other)))


for _names, _function in {
    # Of a remainder the sign is that of the divisor, of fmod that of x.
    "remainder.Tensor remainder.Scalar remainder.Scalar_Tensor": jnp.remainder,
    "fmod.Tensor fmod.Scalar": lax.rem,
    "eq.Tensor eq.Scalar": operator.eq,
    "ne.Tensor ne.Scalar not_equal.Tensor not_equal.Scalar": operator.ne,
    "lt.Tensor lt.Scalar less.Tensor less.Scalar": operator.lt,
    "le.Tensor le.Scalar less_equal.Tensor less_equal.Scalar": operator.le,
    "gt.Tensor gt.Scalar greater.Tensor greater.Scalar": operator.gt,
    "ge.Tensor ge.Scalar greater_equal.Tensor greater_equal.Scalar": operator.ge,
    "bitwise_and.Tensor bitwise_and.Scalar __and__.Tensor __and__.Scalar": jnp.bitwise_and,
    "bitwise_or.Tensor bitwise_or.Scalar __or__.Tensor __or__.Scalar": jnp.bitwise_or,
    "bitwise_xor.Tensor bitwise_xor.Scalar __xor__.Tensor __xor__.Scalar": jnp.bitwise_xor,
    "bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar": jnp.left_shift,
    "__lshift__.Scalar __lshift__.Tensor": jnp.left_shift,
    "bitwise_right_shift.Tensor bitwise_right_shift.Tensor_Scalar": jnp.right_shift,
    "__rshift__.Scalar __rshift__.Tensor": jnp.right_shift,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
}.items():
    aten(_names)(lambda x, other, *, f=_function: f(*promote(x, other)))

for _names, _function in {
    "hypot": jnp.hypot,
    "xlogy.Tensor xlogy.Scalar_Other xlogy.Scalar_Self special_xlogy": jax.scipy.special.xlogy,
}.items():
    aten(_names)(lambda x, other, *, f=_function: f(*promote(x, other, floating=True)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _choose(choice, x, other):
    return choice(x, other)


@_choose.defjvp
def _choose_jvp(choice, primals, tangents):
    # As torch has it: of two equal elements each gets half, beside nan both get all of it.
    (x, other), (dx, dother) = primals, tangents
    downward = choice in (jnp.minimum, jnp.fmin)
    ahead, behind = (x < other, x > other) if downward else (x > other, x < other)
    equal = x == other
    tangent = jnp.where(equal, dx / 2, jnp.where(behind, 0, dx))
    return choice(x, other), tangent + jnp.where(equal, dother / 2, jnp.where(ahead, 0, dother))


def _register_choice(choice, names):
    def choose(x, other):
        x, other = promote(x, other)
        return _choose(choice, x, other) if is_floating(x) else choice(x, other)

    return aten(names)(choose)


maximum = _register_choice(jnp.maximum, "maximum max.other")
minimum = _register_choice(jnp.minimum, "minimum min.other")
_register_choice(jnp.fmax, "fmax")
_register_choice(jnp.fmin, "fmin")


@aten("clamp clip")
def clamp(x, min=None, max=None):
    """min(max(x, min), max) for numbers: the gradient is 0 at the bounds, as it is beyond."""
    x = jnp.asarray(x).astype(result_type(x, *(v for v in (min, max) if v is not None)))
    y, inside = x, ~jnp.isnan(x)
    if min is not None:
        y, inside = jnp.where(y < min, jnp.asarray(min, x.dtype), y), inside & (x > min)
    if max is not None:
        y, inside = jnp.where(y > max, jnp.asarray(max, x.dtype), y), inside & (x < max)
    return jnp.where(inside, x, lax.stop_gradient(y))


@aten("clamp.Tensor clip.Tensor")
def clamp_between(x, min=None, max=None):
    """min(max(x, min), max) for arrays, which share the gradient with x where they are equal."""
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


tabulate({
    "rsub.Tensor rsub.Scalar": lambda x, other, alpha=1: sub(other, x, alpha),
    "clamp_min": lambda x, min: clamp(x, min),
    "clamp_max": lambda x, max: clamp(x, None, max),
    "clamp_min.Tensor": lambda x, min: maximum(x, min),
    "clamp_max.Tensor": lambda x, max: minimum(x, max),
    "logical_not": lambda x: jnp.logical_not(x),
    "bitwise_not": lambda x: jnp.invert(x),
    "isclose": lambda x, other, rtol=1e-05, atol=1e-08, equal_nan=False: (
        jnp.isclose(*promote(x, other), rtol=rtol, atol=atol, equal_nan=equal_nan)
    ),
})  # fmt: skip


@aten("where.self where.ScalarSelf where.ScalarOther where.Scalar")
def where(condition, self, other):
    return jnp.where(*broadcast(condition, *promote(self, other)))


@aten("masked_fill.Scalar masked_fill.Tensor")
def masked_fill(x, mask, value):
    mask, x, value = broadcast(mask, x, jnp.asarray(value).astype(x.dtype))
    return jnp.where(mask, value, x)


@aten("lerp.Scalar lerp.Tensor")
def lerp(x, end, weight):
    """x + weight * (end - x), from the nearer end."""
    x, end, weight = broadcast(*promote(x, end), jnp.asarray(weight).astype(x.dtype))
    near, far = x + weight * (end - x), end - (end - x) * (1 - weight)
    return jnp.where(jnp.abs(weight) < 0.5, near, far)


@aten("addcmul")
def addcmul(x, tensor1, tensor2, value=1):
    x, tensor1, tensor2 = promote(x, tensor1, tensor2)
    return x + jnp.asarray(value, x.dtype) * tensor1 * tensor2


@aten("addcdiv")
def addcdiv(x, tensor1, tensor2, value=1):
    x, tensor1, tensor2 = promote(x, tensor1, tensor2, floating=True)
    return x + jnp.asarray(value, x.dtype) * (tensor1 / tensor2)


@aten("pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar")
def power(x, exponent):
    """x ** exponent; no gradient of x where the exponent is 0, nor of the exponent where x is 0."""
    if isinstance(exponent, int | float) and float(exponent).is_integer() and abs(exponent) < 64:
        x = promote(x, exponent)[0]
        return jnp.ones_like(x) if exponent == 0 else lax.integer_pow(x, int(exponent))
    if isinstance(exponent, float) and exponent == 0.5:
        return jnp.sqrt(promote(x, exponent)[0])
    x, exponent = promote(x, exponent)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return _integer_power(x, exponent)
    return _power(x, exponent)


_power = jax.custom_jvp(jnp.power)


@functools.partial(_power.defjvp, symbolic_zeros=True)
def _power_jvp(primals, tangents):
    (x, exponent), (dx, dexponent) = primals, tangents
    y, terms = _power(x, exponent), []
    if not isinstance(dx, SymbolicZero):
        slope = exponent * jnp.power(x, exponent - 1)
        terms.append(dx * jnp.where(exponent == 0, 0, slope))
    if not isinstance(dexponent, SymbolicZero):
        still = (x == 0) & (exponent >= 0)
        terms.append(dexponent * jnp.where(still, 0, y * jnp.log(jnp.where(still, 1, x))))
    return y, sum(terms[1:], terms[0])


def _integer_power(x, exponent):
    """By squaring, where overflowing integers wrap; of a negative exponent, rounded to 0."""
    result, base = jnp.ones_like(x), x
    for bit in range(jnp.iinfo(x.dtype).bits - 1):
        result = jnp.where((exponent >> bit) & 1, result * base, result)
        base = base * base
    units = jnp.where(x == 1, 1, jnp.where(x == -1, jnp.where(exponent & 1, -1, 1), 0))
    return jnp.where(exponent < 0, units.astype(x.dtype), result)


@aten("atan2 arctan2")
def atan2(x, other):
    """The angle; torch's gradient at the origin is 0."""
    y, x = promote(x, other, floating=True)
    origin = (x == 0) & (y == 0)
    inside = jnp.arctan2(jnp.where(origin, 1.0, y), jnp.where(origin, 1.0, x))
    return jnp.where(origin, lax.stop_gradient(jnp.arctan2(y, x)), inside)


@aten("logaddexp")
def logaddexp(x, other):
    """log(exp(x) + exp(other)), whose slopes are the logistic function of the difference."""
    return _logaddexp(*promote(x, other, floating=True))


_logaddexp = jax.custom_jvp(jnp.logaddexp)
_logaddexp.defjvps(
    lambda tangent, y, x, other: tangent * jax.nn.sigmoid(x - other),
    lambda tangent, y, x, other: tangent * jax.nn.sigmoid(other - x),
)
