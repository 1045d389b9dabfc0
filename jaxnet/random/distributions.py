"""torch's distributions on the CPU: which words make which numbers."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, UInt8, UInt32

from jaxnet._utils.validation import check_number
from jaxnet.random._arguments import Shape, as_integer, as_probability, as_shape
from jaxnet.random._arithmetic import fused_multiply_add
from jaxnet.random._philox import draw_words
from jaxnet.random.mt19937 import (
    Generator,
    check_generator,
    draw,
    host_pairs,
    host_units,
    host_words,
    temper,
)

_ONE_WORD = 2**28  # ranges of integers from here on take two words each


def uniform(
    generator: Generator, shape: Shape, low: float = 0.0, high: float = 1.0
) -> tuple[Generator, Float32[Array, "..."]]:
    """Uniform float32 numbers in [low, high), bit for bit `torch.empty(shape).uniform_(low, high)`.

    Each element takes one word w:
    $r = \\mathrm{fma}(2^{-24} (w \\bmod 2^{24}),\\ high - low,\\ low)$
    with the width rounded to float32 first, and `low` where r rounds up to `high`.
    On the host only: nothing guarantees that XLA contracts the multiplication and the addition.

    Raises:
      TypeError: `generator` is traced, or a bound is no number.
      ValueError: `low` is above `high`, the width is not finite, or a size is negative.

    torch differs in one place: on an x86 processor without AVX2 it rounds twice.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, values = jaxnet.random.uniform(generator, (2,))
    >>> print(values)
    [0.7576316  0.27931088]

    Source: `torch.Tensor.uniform_`.
    """
    check_number("low", low)
    check_number("high", high)
    low32, high32 = np.float32(low), np.float32(high)
    if not low32 <= high32 or not np.isfinite(high32 - low32):
        raise ValueError(f"low must not exceed high, by a finite width: low={low}, high={high}")
    shape = as_shape(shape)
    generator, unit = host_units(generator, math.prod(shape))
    values = fused_multiply_add(unit, np.float32(high32 - low32), low32)
    values = np.where(values == high32, low32, values)
    return generator, jax.device_put(values.reshape(shape))  # compiles nothing for a new shape


def bernoulli(generator: Generator, p: float, shape: Shape) -> tuple[Generator, Bool[Array, "..."]]:
    """True with probability `p`, bit for bit `torch.empty(shape).bernoulli_(p)`; works under jit.

    Each element takes two words, hi and lo, and is True where
    $2^{-53} ((2^{32} hi + lo) \\bmod 2^{53}) < p$; here in integers: with
    $T = \\lceil 2^{53} p \\rceil$, where (hi mod 2^21, lo) comes before T's two halves.

    Raises:
      TypeError: `p` is no number, or a size no integer.
      ValueError: `p` is not between 0 and 1, or a size is negative.

    torch gives floats 0 and 1, this gives booleans. `p` is a Python float, a constant of the
    compiled program. A generator of `manual_seed(..., device="cuda")` draws from the GPU's stream
    instead, as torch does for a tensor there.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, keep = jaxnet.random.bernoulli(generator, 0.5, (6,))
    >>> print(keep)
    [ True  True  True  True False  True]

    Source: `torch.Tensor.bernoulli_`.
    """
    p, shape = as_probability(p), as_shape(shape)
    check_generator(generator)
    if generator.cuda is not None:
        return _bernoulli_cuda(generator, p, shape, vector=1)
    below = _Below(*divmod(math.ceil(p * 2.0**53), 2**32))
    generator, values = draw(generator, 2 * math.prod(shape), below)
    return generator, values.reshape(shape)


def bernoulli_ranks(
    generator: Generator, ps: tuple[float, ...], count: int
) -> tuple[Generator, UInt8[Array, " count"]]:
    """For each of `count` draws, how many of the `ps` a `bernoulli` draw would be True for.

    A draw is True for p where its rank is above the number of `ps` greater than p: many draws of
    several probabilities at once, from the CPU's stream, where `bernoulli` makes them one by one.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> print(bernoulli_ranks(generator, (0.5, 0.25), 6)[1], bernoulli(generator, 0.5, (6,))[1])
    [2 2 2 2 0 2] [ True  True  True  True False  True]
    """
    ps = tuple(as_probability(p) for p in ps)
    thresholds = tuple(_Below(*divmod(math.ceil(p * 2.0**53), 2**32)) for p in ps)
    return draw(generator, 2 * count, _Rank(thresholds))


class _Rank(NamedTuple):
    """How many thresholds the 53 bits of each pair of words lie below."""

    thresholds: tuple["_Below", ...]

    def __call__(self, block: UInt32[Array, "624"]) -> UInt8[Array, "312"]:
        return sum((below(block).astype(jnp.uint8) for below in self.thresholds), jnp.uint8(0))


class _Below(NamedTuple):
    """Whether the 53 bits of each pair of words lie below `high` and `low`, 21 and 32 bits."""

    high: int
    low: int

    def __call__(self, block: UInt32[Array, "624"]) -> Bool[Array, "312"]:
        top = temper(block[::2]) & 0x1FFFFF
        below = top < np.uint32(self.high)
        if self.low == 0:  # the low words cannot decide, as for p = 1/2
            return below
        return below | ((top == np.uint32(self.high)) & (temper(block[1::2]) < np.uint32(self.low)))


def dropout_mask(
    generator: Generator, p: float, shape: Shape
) -> tuple[Generator, Bool[Array, "..."]]:
    """Which elements `torch.nn.functional.dropout(x, p)` keeps, for x of this shape: True = kept.

    Kept where $2^{-53} ((2^{32} hi + lo) \\bmod 2^{53}) < 1 - p$, the right side in float64, of two
    words each: a `bernoulli` draw. Where p is 0 or 1 torch draws nothing, and neither does this.
    Works under jit.

    Raises:
      TypeError: `p` is no number, or a size no integer.
      ValueError: `p` is not between 0 and 1, or a size is negative.

    The order is that of the elements in memory, row by row; torch follows the strides of x, so a
    transposed input gets its mask in another order there. A generator of
    `manual_seed(..., device="cuda")` gives the mask that torch's CUDA kernel makes for float32
    numbers on that GPU: kept where $2^{-32} w + 2^{-33} < 1 - p$, in float32, for one Philox word
    w each, in an order that depends on whether 4 or 2 divide the number of elements. Never run
    on a GPU here. Where 4 divides, the first and last three zeros of a mask posted from an RTX
    4080 SUPER agree; for odd counts, how many a P100 and a K80 kept of a million, and the order of
    the numbers that `rand` and `randn` gave on an A100 and an H100. Where only 2 divides, torch's
    source is all there is: unverified.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, keep = jaxnet.random.dropout_mask(generator, 0.5, (2, 4))
    >>> print(keep)
    [[ True  True  True  True]
     [False  True  True False]]

    Source: `torch.nn.functional.dropout` on a CPU.
    """
    p, shape = as_probability(p), as_shape(shape)
    check_generator(generator)
    if p in (0.0, 1.0):
        return generator, jnp.full(shape, p == 0.0)
    if generator.cuda is not None:
        return _bernoulli_cuda(generator, 1.0 - p, shape, math.gcd(math.prod(shape), 4))
    return bernoulli(generator, 1.0 - p, shape)


def _bernoulli_cuda(generator: Generator, p: float, shape: tuple[int, ...], vector: int):
    cuda, words = draw_words(generator.cuda, generator.seed, math.prod(shape), vector)
    values = (words < np.uint32(first_word_not_below(p))).reshape(shape)
    return generator._replace(cuda=cuda), values


def first_word_not_below(p: float) -> int:
    """The first word w of the GPU's with $2^{-32} w + 2^{-33} \\ge p$, both sides in float32."""
    first, beyond = 0, 2**32 - 1  # the last word gives 1.0, which is below no probability
    while first < beyond:
        middle = (first + beyond) // 2
        unit = np.float32(middle) * np.float32(2.0**-32) + np.float32(2.0**-33)
        first, beyond = (middle + 1, beyond) if unit < np.float32(p) else (first, middle)
    return first


def randint(
    generator: Generator, low: int, high: int, shape: Shape
) -> tuple[Generator, Int[Array | np.ndarray, "..."]]:
    """Integers from `low` to `high` - 1, equal to `torch.randint(low, high, shape)`.

    $low + (w \\bmod (high - low))$ with one word w each where the range is below 2^28, and with
    two, the first of them the upper, from there on.

    Returns:
      int32 under jit, scan, vmap and outside where the range is below 2^28 and the values fit;
      otherwise a NumPy array of int64, on the host only.

    Raises:
      TypeError: a bound or a size is no integer, or `generator` is traced where two words are
        drawn or the values do not fit int32.
      ValueError: `low` is not below `high`, they do not fit int64, or a size is negative.

    torch's elements are int64 throughout.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, values = jaxnet.random.randint(generator, 0, 10, (4,))
    >>> print(values)
    [5 9 4 8]

    Source: `torch.randint`.
    """
    low, high, shape = as_integer("low", low), as_integer("high", high), as_shape(shape)
    if not -(2**63) <= low < high <= 2**63 - 1:
        raise ValueError(f"low must be below high, both of int64's range: low={low}, high={high}")
    width, count = high - low, math.prod(shape)
    small = width < _ONE_WORD
    if small and low >= -(2**31) and high <= 2**31:
        generator, words = draw(generator, count)
        return generator, (words % np.uint32(width)).astype(jnp.int32).reshape(shape) + low
    generator, words = (host_words if small else host_pairs)(generator, count)
    values = words.astype(np.uint64) % np.uint64(width) + np.uint64(low % 2**64)
    return generator, values.astype(np.int64).reshape(shape)


def random_int64(generator: Generator) -> tuple[Generator, int]:
    """One integer from 0 to 2^63 - 1: `torch.empty((), dtype=torch.int64).random_().item()`.

    $(2^{32} w_1 + w_2) \\bmod 2^{63}$ of two words: how torch's loaders draw their seeds. On the
    host only.

    Raises:
      TypeError: `generator` is traced.

    >>> import jaxnet
    >>> generator, value = jaxnet.random.random_int64(jaxnet.random.manual_seed(1))
    >>> value
    7692698082559361259

    Source: `torch.Tensor.random_`.
    """
    generator, (word,) = host_pairs(generator, 1)
    return generator, int(word) % 2**63
