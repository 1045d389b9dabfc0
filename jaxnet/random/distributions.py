"""torch's distributions on the CPU: which words make which numbers."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, UInt32

from jaxnet.random.engine import Generator, draw, host_words, temper


def _fused_multiply_add(x: np.ndarray, scale: np.float32, shift: np.float32) -> np.ndarray:
    """`x * scale + shift` of float32 numbers, rounded once, as the processor's FMA rounds it.

    A product of two float32 numbers is exact in float64; their sum with a third is rounded to odd
    there, after which rounding to float32 cannot fall on the wrong side of a tie.
    """
    product = x.astype(np.float64) * np.float64(scale)
    total = product + np.float64(shift)
    back = total - product
    error = (product - (total - back)) + (np.float64(shift) - back)
    inexact_even = (error != 0) & (total.view(np.uint64) & 1 == 0)
    odd = np.nextafter(total, np.copysign(np.inf, error))
    return np.where(inexact_even, odd, total).astype(np.float32)


def uniform(
    generator: Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
) -> tuple[Generator, Float32[Array, "..."]]:
    """Uniform float32 numbers in [low, high), bit for bit `torch.empty(shape).uniform_(low, high)`.

    Each element takes one word w:
    $r = \\mathrm{fma}(2^{-24} (w \\bmod 2^{24}),\\ high - low,\\ low)$
    with the width rounded to float32 first, and `low` where r rounds up to `high`.
    On the host only: nothing guarantees that XLA contracts the multiplication and the addition.

    Raises:
      TypeError: `generator` is traced.
      ValueError: `low` is above `high`, or the width is not finite.

    torch differs in one place: on an x86 processor without AVX2 it rounds twice.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, values = jaxnet.random.uniform(generator, (2,))
    >>> print(values)
    [0.7576316  0.27931088]

    Source: `torch.Tensor.uniform_`.
    """
    low32, high32 = np.float32(low), np.float32(high)
    if not low32 <= high32 or not np.isfinite(high32 - low32):
        raise ValueError(f"low must not exceed high, by a finite width: low={low}, high={high}")
    generator, words = host_words(generator, math.prod(shape))
    unit = (words & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)
    values = _fused_multiply_add(unit, np.float32(high32 - low32), low32)
    values = np.where(values == high32, low32, values)
    return generator, jnp.asarray(values.reshape(shape))


def bernoulli(
    generator: Generator, p: float, shape: tuple[int, ...]
) -> tuple[Generator, Bool[Array, "..."]]:
    """True with probability `p`, bit for bit `torch.empty(shape).bernoulli_(p)`; works under jit.

    Each element takes two words, hi and lo, and is True where
    $2^{-53} ((2^{32} hi + lo) \\bmod 2^{53}) < p$; here in integers: with
    $T = \\lceil 2^{53} p \\rceil$, where (hi mod 2^21, lo) comes before T's two halves.

    Raises:
      ValueError: `p` is not between 0 and 1.

    torch gives floats 0 and 1, this gives booleans. `p` is a Python float, a constant of the
    compiled program.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, keep = jaxnet.random.bernoulli(generator, 0.5, (6,))
    >>> print(keep)
    [ True  True  True  True False  True]

    Source: `torch.Tensor.bernoulli_`.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be a probability between 0 and 1, not {p}")
    high, low = divmod(math.ceil(p * 2.0**53), 2**32)
    count = 2 * math.prod(shape)
    if low == 0:  # the low words cannot decide, as for p = 1/2
        generator, below = draw(generator, count, partial(_below, high=high))
        return generator, below[::2].reshape(shape)
    generator, words = draw(generator, count)
    pairs = words.reshape(-1, 2)
    top = pairs[:, 0] & 0x1FFFFF
    keep = (top < np.uint32(high)) | ((top == np.uint32(high)) & (pairs[:, 1] < np.uint32(low)))
    return generator, keep.reshape(shape)


@partial(jax.jit, static_argnames="high")
def _below(block: UInt32[Array, "624"], high: int) -> Bool[Array, "624"]:
    return (temper(block) & 0x1FFFFF) < np.uint32(high)


def dropout_mask(
    generator: Generator, p: float, shape: tuple[int, ...]
) -> tuple[Generator, Bool[Array, "..."]]:
    """Which elements `torch.nn.functional.dropout(x, p)` keeps, for x of this shape: True = kept.

    A `bernoulli` draw with probability 1 - p, computed in float64 as torch does. Where p is 0 or 1
    torch draws nothing, and neither does this.

    Raises:
      ValueError: `p` is not between 0 and 1.

    The order is that of the elements in memory, row by row; torch follows the strides of x, so a
    transposed input gets its mask in another order there.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, keep = jaxnet.random.dropout_mask(generator, 0.5, (2, 4))
    >>> print(keep)
    [[ True  True  True  True]
     [False  True  True False]]

    Source: `torch.nn.functional.dropout` on a CPU.
    """
    if p in (0.0, 1.0):
        return generator, jnp.full(shape, p == 0.0)
    if not 0.0 < p < 1.0:
        raise ValueError(f"p must be a probability between 0 and 1, not {p}")
    return bernoulli(generator, 1.0 - p, shape)
