"""Arithmetic of two arrays, comparisons, choices and bits: torch's types for what they give."""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxnet.program.registry import rule
from jaxnet.program.rules._types import broadcast, is_floating, promote, result_type


@rule("aten.add.Tensor", "aten.add.Scalar")
def add(x, other, alpha=1):
    x, other = promote(x, other)
    if x.dtype == jnp.bool_:
        return x | other
    return x + other if alpha == 1 else x + other * jnp.asarray(alpha, x.dtype)


@rule("aten.sub.Tensor", "aten.sub.Scalar")
def sub(x, other, alpha=1):
    x, other = promote(x, other)
    return x - other if alpha == 1 else x - other * jnp.asarray(alpha, x.dtype)


@rule("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(x, other, alpha=1):
    return sub(other, x, alpha)


@rule("aten.mul.Tensor", "aten.mul.Scalar")
def mul(x, other):
    x, other = promote(x, other)
    return x & other if x.dtype == jnp.bool_ else x * other


@rule("aten.div.Tensor", "aten.div.Scalar")
def div(x, other):
    x, other = promote(x, other, floating=True)
    return x / other


@rule("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(x, other, rounding_mode=None):
    if rounding_mode is None:
        return div(x, other)
    if rounding_mode == "floor":
        return floor_divide(x, other)
    x, other = promote(x, other)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return lax.div(x, other)
    return jnp.trunc(x / other)


@rule("aten.floor_divide.default", "aten.floor_divide.Scalar")
def floor_divide(x, other):
    # torch has no gradient of it: 0.
    x, other = promote(x, other)
    return lax.stop_gradient(jnp.floor_divide(x, other))


@rule("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")
def remainder(x, other):
    """The sign of what is left is that of the divisor."""
    return jnp.remainder(*promote(x, other))


@rule("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(x, other):
    """The sign of what is left is that of x."""
    return lax.rem(*promote(x, other))


def _compare(compare):
    return lambda x, other: compare(*promote(x, other))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _function = _compare(getattr(operator, _name))
    rule(f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")(_function)

for _name, _function in {
    "and": jnp.bitwise_and,
    "or": jnp.bitwise_or,
    "xor": jnp.bitwise_xor,
}.items():
    _compared = _compare(_function)
    for _overload in ("Tensor", "Scalar"):
        rule(f"aten.bitwise_{_name}.{_overload}", f"aten.__{_name}__.{_overload}")(_compared)
    _logical = getattr(jnp, f"logical_{_name}")
    rule(f"aten.logical_{_name}.default")(_compare(_logical))

rule("aten.logical_not.default")(lambda x: jnp.logical_not(x))
rule("aten.bitwise_not.default")(lambda x: jnp.invert(x))


@rule("aten.bitwise_left_shift.Tensor", "aten.bitwise_left_shift.Tensor_Scalar")
@rule("aten.__lshift__.Scalar", "aten.__lshift__.Tensor")
def left_shift(x, other):
    return jnp.left_shift(*promote(x, other))


@rule("aten.bitwise_right_shift.Tensor", "aten.bitwise_right_shift.Tensor_Scalar")
@rule("aten.__rshift__.Scalar", "aten.__rshift__.Tensor")
def right_shift(x, other):
    return jnp.right_shift(*promote(x, other))


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


def _register_choice(choice, *names):
    def choose(x, other):
        x, other = promote(x, other)
        return _choose(choice, x, other) if is_floating(x) else choice(x, other)

    rule(*names)(choose)
    return choose


maximum = _register_choice(jnp.maximum, "aten.maximum.default", "aten.max.other")
minimum = _register_choice(jnp.minimum, "aten.minimum.default", "aten.min.other")
_register_choice(jnp.fmax, "aten.fmax.default")
_register_choice(jnp.fmin, "aten.fmin.default")


@rule("aten.clamp.default")
def clamp(x, min=None, max=None):
    """min(max(x, min), max) for numbers: the gradient is 0 at the bounds, as it is beyond."""
    x = jnp.asarray(x).astype(result_type(x, *(v for v in (min, max) if v is not None)))
    y, inside = x, ~jnp.isnan(x)
    if min is not None:
        y, inside = jnp.where(y < min, jnp.asarray(min, x.dtype), y), inside & (x > min)
    if max is not None:
        y, inside = jnp.where(y > max, jnp.asarray(max, x.dtype), y), inside & (x < max)
    return jnp.where(inside, x, lax.stop_gradient(y))


@rule("aten.clamp.Tensor")
def clamp_between(x, min=None, max=None):
    """min(max(x, min), max) for arrays, which share the gradient with x where they are equal."""
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


@rule("aten.clamp_min.default")
def clamp_min(x, min):
    return clamp(x, min)


@rule("aten.clamp_max.default")
def clamp_max(x, max):
    return clamp(x, None, max)


rule("aten.clamp_min.Tensor")(lambda x, min: maximum(x, min))
rule("aten.clamp_max.Tensor")(lambda x, max: minimum(x, max))


@rule("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(condition, self, other):
    x, other = promote(self, other)
    condition, x, other = broadcast(condition, x, other)
    return jnp.where(condition, x, other)


@rule("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(x, mask, value):
    mask, x, value = broadcast(mask, x, jnp.asarray(value).astype(x.dtype))
    return jnp.where(mask, value, x)


@rule("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(x, end, weight):
    """x + weight * (end - x), from the nearer end."""
    x, end, weight = broadcast(*promote(x, end), jnp.asarray(weight).astype(x.dtype))
    near, far = x + weight * (end - x), end - (end - x) * (1 - weight)
    return jnp.where(jnp.abs(weight) < 0.5, near, far)


@rule("aten.addcmul.default")
def addcmul(x, tensor1, tensor2, value=1):
    x, tensor1, tensor2 = promote(x, tensor1, tensor2)
    return x + jnp.asarray(value, x.dtype) * tensor1 * tensor2


@rule("aten.addcdiv.default")
def addcdiv(x, tensor1, tensor2, value=1):
    x, tensor1, tensor2 = promote(x, tensor1, tensor2, floating=True)
    return x + jnp.asarray(value, x.dtype) * (tensor1 / tensor2)


@rule("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
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


@rule("aten.atan2.default")
def atan2(x, other):
    """The angle; torch's gradient at the origin is 0."""
    y, x = promote(x, other, floating=True)
    origin = (x == 0) & (y == 0)
    inside = jnp.arctan2(jnp.where(origin, 1.0, y), jnp.where(origin, 1.0, x))
    return jnp.where(origin, lax.stop_gradient(jnp.arctan2(y, x)), inside)


@rule("aten.hypot.default")
def hypot(x, other):
    return jnp.hypot(*promote(x, other, floating=True))


@rule("aten.logaddexp.default")
def logaddexp(x, other):
    """log(exp(x) + exp(other)), whose slopes are the logistic function of the difference."""
    return _logaddexp(*promote(x, other, floating=True))


_logaddexp = jax.custom_jvp(jnp.logaddexp)
_logaddexp.defjvps(
    lambda tangent, y, x, other: tangent * jax.nn.sigmoid(x - other),
    lambda tangent, y, x, other: tangent * jax.nn.sigmoid(other - x),
)


@rule("aten.xlogy.Tensor", "aten.xlogy.Scalar_Other", "aten.xlogy.Scalar_Self")
def xlogy(x, other):
    return jax.scipy.special.xlogy(*promote(x, other, floating=True))


@rule("aten.isclose.default")
def isclose(x, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    x, other = promote(x, other)
    return jnp.isclose(x, other, rtol, atol, equal_nan)
