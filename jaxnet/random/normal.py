"""torch's normal numbers on an x86 CPU, to the last bit: which words, and whose logarithm."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32

from jaxnet._utils.validation import check_number
from jaxnet.cache import jit
from jaxnet.random._arguments import Shape, as_shape
from jaxnet.random._arithmetic import fused_multiply_add
from jaxnet.random.mt19937 import (
    Generator,
    call_host,
    check_concrete,
    check_generator,
    draw_units,
    host_doubles,
    host_units,
    is_traced,
    manual_seed,
)

_ROW = 16  # numbers that torch's vector code makes at once; below it, and here, pair by pair
_TWO_PI = np.float32(2 * math.pi)

# The polynomials of the cephes library's logf, sinf and cosf, highest power first.
_LOG = np.array([
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
], np.float32)  # fmt: skip
_SIN = np.array([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1], np.float32)
_COS = np.array([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2], np.float32)
_SQRT_HALF = np.float32(0.707106781186547524)
_LN2_LOW, _LN2_HIGH = np.float32(-2.12194440e-4), np.float32(0.693359375)
_QUARTER_PI = np.array([-0.78515625, -2.4187564849853516e-4, -3.77489497744594108e-8], np.float32)
_FOUR_OVER_PI = np.float32(1.27323954473516)


def normal(
    generator: Generator, shape: Shape, mean: float = 0.0, std: float = 1.0
) -> tuple[Generator, Float32[Array, "..."]]:
    """Normal float32 numbers, bit for bit `torch.empty(shape).normal_(mean, std)` on x86.

    Box and Muller's $\\sqrt{-2 \\ln u_1}\\,(\\cos 2\\pi u_2, \\sin 2\\pi u_2)$, times `std`, plus
    `mean`. From 16 elements on, one word each in rows of 16, the last row drawn anew where they do
    not divide; fewer come in pairs from two 53-bit draws each, and the second of a pair stays in
    the generator for the next such call. On the host only.

    Raises:
      TypeError: `generator` is traced.
      ValueError: `std` is negative, one of the two is not finite, or a size is negative.

    These are the bits of torch on x86 with AVX2 or later. Without AVX2, and on ARM, torch takes
    other logarithms and differs from itself by up to 2.4e-6. Fewer than 16 numbers rest on the C
    library's log1p, sin and cos, in float64.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, values = jaxnet.random.normal(generator, (2,))
    >>> print(values)
    [0.66135216 0.2669241 ]

    Source: `torch.Tensor.normal_`, `torch.randn`.
    """
    check_number("mean", mean)
    check_number("std", std)
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise ValueError(f"mean and std must be finite and std not negative: {mean=}, {std=}")
    check_concrete(generator)
    shape = as_shape(shape)
    count = math.prod(shape)
    draw = _draw_pairs if count < _ROW else _draw_rows
    generator, values = draw(generator, count, float(mean), float(std))
    return generator, jax.device_put(values.reshape(shape))


def standard_normal(
    generator: Generator, shape: Shape, dtype: Any = np.float32, *, in_rows: bool = True
) -> tuple[Generator, Float[Array | np.ndarray, "..."]]:
    """`torch.randn(shape, dtype=dtype)` for float32 and float64; works under jit, scan and vmap.

    With `in_rows=False` as torch fills a tensor that is not contiguous: in pairs, whatever its
    size. Under jit, float32 numbers in rows are computed there where this processor's compiled
    arithmetic gives the host's bits, which is tried once in a process; all others, and those, on
    the host.

    >>> import jaxnet
    >>> draw = jax.jit(lambda generator: standard_normal(generator, (2,))[1])
    >>> print(draw(jaxnet.random.manual_seed(1)))
    [0.66135216 0.2669241 ]
    """
    check_generator(generator)
    shape, dtype = as_shape(shape), np.dtype(dtype)
    rows = in_rows and math.prod(shape) >= _ROW
    count = math.prod(shape)
    if is_traced(generator) and rows and dtype == np.float32 and _is_compiled_exactly():
        generator, values = _fill_rows(jnp, draw_units, _compile_box_muller, generator, count)
        return generator, values.reshape(shape)

    def draw_there(generator):
        return _draw_standard(generator, count, dtype, rows)

    generator, values = call_host(draw_there, generator, count, dtype)
    return generator, jax.device_put(values.reshape(shape))


def _draw_standard(generator: Generator, count: int, dtype: Any, rows: bool):
    if not rows:
        return _draw_pairs(generator, count, 0.0, 1.0, dtype)
    if dtype == np.float32:
        return _draw_rows(generator, count, 0.0, 1.0)
    return _fill_rows(np, host_doubles, _wide_box_muller, generator, count)


def _draw_rows(generator: Generator, count: int, mean: float, std: float):
    def transform(rows):
        pairs = _box_muller(_HOST, rows)
        return fused_multiply_add(pairs, np.float32(std), np.float32(mean))

    return _fill_rows(np, host_units, transform, generator, count)


def _fill_rows(xp: Any, draw: Callable, transform: Callable, generator: Generator, count: int):
    """Normal numbers from rows of 16 uniform ones.

    Where they do not divide, the last row is drawn anew and ends where the tensor ends.
    """
    left = count % _ROW
    generator, unit = draw(generator, count + (_ROW if left else 0))
    rows = xp.concatenate([unit[: count - left], unit[count:]]).reshape(-1, _ROW)
    values = transform(rows).reshape(-1)
    if left:
        values = xp.concatenate([values[: count - _ROW], values[-_ROW:]])
    return generator, values


def _wide_box_muller(rows):
    """float64, of the C library's functions."""
    half, functions = _ROW // 2, (math.log, math.cos, math.sin)
    log, cosine, sine = (np.vectorize(each, otypes=[float]) for each in functions)
    radius = np.sqrt(-2.0 * log(1.0 - rows[:, :half]))
    angle = 2.0 * math.pi * rows[:, half:]
    return np.concatenate([radius * cosine(angle), radius * sine(angle)], axis=1)


@functools.cache
def _is_compiled_exactly() -> bool:
    """Whether compiled code gives the host's bits: multiply-adds fused, and nothing else."""
    rows = host_units(manual_seed(1), 2**14)[1].reshape(-1, _ROW)
    with jax.ensure_compile_time_eval():
        compiled = np.asarray(_compile_box_muller(rows))
    values = fused_multiply_add(_box_muller(_HOST, rows), np.float32(1), np.float32(0))
    return np.array_equal(compiled, values)


@jit  # op by op, as under vmap alone, nothing would be fused
def _compile_box_muller(unit):
    values = _box_muller(_COMPILED, unit)
    return lax.optimization_barrier(jnp.where(values == 0, np.float32(0), values))


class _Arithmetic(NamedTuple):
    """float32 arithmetic that is rounded where torch's vector code rounds, and nowhere else."""

    xp: Any
    multiply: Callable
    """A product that no sum is fused with."""
    fma: Callable
    """`x * y + z`, rounded once."""
    view: Callable
    """The bits as those of another type."""


# The sum is looked up in each call: `torchref` tries one that is rounded twice in its place.
_HOST = _Arithmetic(
    np, np.multiply, lambda x, y, z: fused_multiply_add(x, y, z), lambda x, dtype: x.view(dtype)
)
# Where a product stands in no barrier, XLA's compiler fuses it with the sum that follows.
_COMPILED = _Arithmetic(
    jnp,
    lambda x, y: lax.optimization_barrier(x * y),
    lambda x, y, z: x * y + z,
    lax.bitcast_convert_type,
)


def _box_muller(of: _Arithmetic, unit):
    """Rows of 16 uniform numbers: the first 8 give the radii, the last 8 the angles."""
    half = _ROW // 2
    radius = of.xp.sqrt(np.float32(-2) * _log(of, np.float32(1) - unit[:, :half]))
    sine, cosine = _sincos(of, of.multiply(unit[:, half:], _TWO_PI))
    return of.xp.concatenate([of.multiply(radius, cosine), of.multiply(radius, sine)], axis=1)


def _horner(of: _Arithmetic, x, coefficients):
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = of.fma(value, x, coefficient)
    return value


def _log(of: _Arithmetic, x):
    """Natural logarithm of positive normal numbers, as the cephes library computes it with FMA."""
    bits = of.view(x, np.int32)
    mantissa = of.view((bits & 0x7FFFFF) | 0x3F000000, np.float32)
    small = mantissa < _SQRT_HALF
    exponent = ((bits >> 23) - 126 - small).astype(np.float32)
    x = of.xp.where(small, mantissa + mantissa, mantissa) - np.float32(1)
    square = of.multiply(x, x)
    y = of.multiply(x, _horner(of, x, _LOG))
    y = of.fma(y, square, of.multiply(exponent, _LN2_LOW))
    y = of.fma(-square, np.float32(0.5), y)
    return of.fma(exponent, _LN2_HIGH, x + y)


def _sincos(of: _Arithmetic, x):
    """Sine and cosine of angles from 0 to 2 pi, as the cephes library computes them with FMA."""
    octant = (of.multiply(x, _FOUR_OVER_PI).astype(np.int32) + 1) & ~1
    for part in _QUARTER_PI:
        x = of.fma(octant.astype(np.float32), part, x)
    square = of.multiply(x, x)
    cosine = of.multiply(_horner(of, square, _COS), square)
    half = of.multiply(square, np.float32(0.5))
    cosine = of.fma(cosine, square, -half) + np.float32(1)
    sine = of.fma(of.multiply(_horner(of, square, _SIN), square), x, x)
    swapped = octant & 2 != 0
    sine, cosine = of.xp.where(swapped, cosine, sine), of.xp.where(swapped, sine, cosine)
    sine = of.xp.where(octant & 4 != 0, -sine, sine)
    return sine, of.xp.where((octant - 2) & 4 == 0, -cosine, cosine)


def _draw_pairs(generator: Generator, count: int, mean: float, std: float, dtype: Any = np.float32):
    kept = np.asarray(generator.next_normal_sample)
    second = [float(kept[1:].view(np.float64)[0])] if kept[0] else []
    values = []
    for _ in range(count):
        if not second:
            generator, (angle, u) = host_doubles(generator, 2)
            radius = math.sqrt(-2.0 * math.log1p(-u))
            second = [radius * math.sin(2.0 * math.pi * angle)]
            sample = radius * math.cos(2.0 * math.pi * angle)
        else:
            sample = second.pop()
        # Rounded once, as by a float64 FMA.
        values.append(float(Fraction(sample) * Fraction(std) + Fraction(mean)))
    kept = np.zeros(3, np.uint32)
    if second:
        kept[0], kept[1:] = 1, np.array(second).view(np.uint32)
    values = np.array(values, np.float64).astype(dtype)
    return generator._replace(next_normal_sample=kept), values
