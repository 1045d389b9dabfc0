"""torch's generators as a pytree, and the CPU's words, mt19937's, on the host and under jit.

Everything here is integer arithmetic on uint32, so the words are torch's on every backend.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float32, Int32, UInt32, UInt64

from jaxnet._utils.validation import nearest
from jaxnet.cache import jit
from jaxnet.random._arguments import check_seed
from jaxnet.random._philox import CudaStream, start_cuda

BLOCK = 624  # words that one step of the recurrence makes
_MIDDLE = 397  # the recurrence adds the word this far ahead
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX = np.uint32(0x9908B0DF)


class Generator(NamedTuple):
    """State of a torch program's random numbers: its CPU generator, and a GPU's where it has one.

    A pytree: it passes through jit, scan and vmap, and nothing is global.
    """

    key: UInt32[Array | np.ndarray, "*lanes 624"]
    """The words of one block, before tempering."""
    position: Int32[Array | np.ndarray, "*lanes"]
    """How many of them are drawn, 0 to 624."""
    seed: UInt32[Array | np.ndarray, "*lanes 2"]
    """The 64 bits of the seed, low word first."""
    next_normal_sample: UInt32[Array | np.ndarray, "*lanes 3"]
    """The cached second sample of Box and Muller: 1 and its float64, low word first; zeros if there
    is none."""
    cuda: CudaStream | None = None
    """The GPU's stream of a program that runs there."""


def manual_seed(
    seed: Any,
    device: str = "cpu",
    multiprocessors: int = 132,
    threads_per_multiprocessor: int = 2048,
) -> Generator:
    """A generator in the state that `torch.manual_seed(seed)` gives torch's generators.

    $s_0 = seed \\bmod 2^{32}$, $s_j = 1812433253\\,(s_{j-1} \\oplus (s_{j-1} \\gg 30)) + j$
    modulo $2^{32}$, for j < 624: only the low 32 bits of the seed reach the CPU's stream.

    With `device="cuda"` it is the state of a torch program whose net lives on a GPU: weights,
    orders and all else still come from the CPU's stream, but `dropout_mask` and `bernoulli` from
    the GPU's, Philox keyed with all 64 bits. This argument alone decides it, never where JAX runs.

    Args:
      seed: an integer from -2^63 to 2^64 - 1; a negative one counts from 2^64 down. torch takes
        whatever `int(seed)` accepts, 1.5 and "1" for 1.
      device: "cpu" or "cuda".
      multiprocessors, threads_per_multiprocessor: of the GPU, as in
        `torch.cuda.get_device_properties`: masks depend on them. The defaults are an H100's.

    Raises:
      TypeError, ValueError: `seed` is no integer, or outside the range; `device` is another, or
        the GPU's numbers are not positive, or it holds no block of 256 threads.

    >>> generator = manual_seed(1)
    >>> int(generator.key[0]), int(generator.key[1]), int(generator.position)
    (1, 1812433254, 624)

    Source: `torch.manual_seed`; Matsumoto and Nishimura's `init_genrand`.
    """
    if isinstance(seed, jax.core.Tracer):
        raise TypeError(
            "seed must be concrete, not traced: for many at once, stack their generators with "
            "jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(manual_seed, seeds))"
        )
    number = check_seed(seed)
    if device not in (known := ("cpu", "cuda")):
        raise ValueError(f'device must be "cpu" or "cuda", not {device!r}{nearest(device, known)}')
    cuda = start_cuda(multiprocessors, threads_per_multiprocessor) if device == "cuda" else None
    # NumPy's legacy seeding of an integer is init_genrand itself.
    state: Any = np.random.RandomState(number % 2**32).get_state(legacy=False)
    state = state["state"]
    return Generator(
        np.asarray(state["key"], np.uint32),
        np.asarray(state["pos"], np.int32),
        np.array([number % 2**32, number % 2**64 >> 32], np.uint32),
        np.zeros(3, np.uint32),
        cuda,
    )


def check_generator(generator: Any) -> None:
    """Reject anything but a `Generator`, such as a key of JAX's."""
    if not isinstance(generator, Generator):
        raise TypeError(
            f"generator must come from jaxnet.random.manual_seed, not {type(generator).__name__}; "
            "a jax.random.key belongs to Flax's and JAX's own functions"
        )
    if lanes := np.shape(generator.position):
        raise ValueError(f"generator must be one, not {lanes} of them: use jax.vmap")


def is_traced(generator: Generator) -> bool:
    """Whether jit, scan or vmap traces it."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(generator))


def check_concrete(generator: Any) -> None:
    """Reject a generator that jit, scan or vmap traces."""
    check_generator(generator)
    if is_traced(generator):
        raise TypeError(
            "generator must be concrete here, not traced by jit, scan or vmap: "
            "this draw is exact only on the host, so make it before the compiled run"
        )


def host_words(generator: Generator, count: int) -> tuple[Generator, UInt32[np.ndarray, " count"]]:
    """Draw `count` words with NumPy, outside any compiled run."""
    check_concrete(generator)
    twister = np.random.MT19937()
    key, position = np.asarray(generator.key), int(generator.position)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
    words = twister.random_raw(count).astype(np.uint32)
    after: Any = twister.state["state"]
    position = np.asarray(after["pos"], np.int32)
    return generator._replace(key=np.asarray(after["key"], np.uint32), position=position), words


def to_units(words: Any) -> Any:
    """Numbers in [0, 1) from the lowest 24 bits of one word each."""
    return (words & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)


def host_units(generator: Generator, count: int) -> tuple[Generator, Float32[np.ndarray, " count"]]:
    """`to_units` of words drawn on the host."""
    generator, words = host_words(generator, count)
    return generator, to_units(words)


def host_pairs(generator: Generator, count: int) -> tuple[Generator, UInt64[np.ndarray, " count"]]:
    """64 bits from two words each, the first of them the upper."""
    generator, words = host_words(generator, 2 * count)
    high, low = words.astype(np.uint64).reshape(count, 2).T
    return generator, high << np.uint64(32) | low


def host_doubles(generator: Generator, count: int) -> tuple[Generator, np.ndarray]:
    """float64 numbers in [0, 1) from the lowest 53 bits of two words each."""
    generator, bits = host_pairs(generator, count)
    return generator, (bits & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53


def call_host(
    draw: Callable[[Generator], tuple[Generator, np.ndarray]],
    generator: Generator,
    count: int,
    dtype: Any,
) -> tuple[Generator, Any]:
    """`draw(generator)` on the host, from compiled code too: `count` floats of this type."""
    if not is_traced(generator):
        return draw(generator)
    # As words: a callback's thread has JAX's settings of its own, and would round float64.
    width = np.dtype(dtype).itemsize // 4

    def on_host(generator: Any) -> Any:
        generator, values = draw(jax.tree.map(np.asarray, generator))
        return generator, np.asarray(values, dtype).view(np.uint32).reshape(count, width)

    kinds = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), generator)
    kinds = kinds, jax.ShapeDtypeStruct((count, width), np.uint32)
    generator, words = jax.pure_callback(on_host, kinds, generator, vmap_method="sequential")
    words = words[:, 0] if width == 1 else words
    return generator, lax.bitcast_convert_type(words, jnp.dtype(dtype))


def seed_words(low: UInt32[Array, ""]) -> Generator:
    """`manual_seed` of a word that is itself drawn inside a compiled run."""

    def following(word, j):
        word = jnp.uint32(1812433253) * (word ^ (word >> 30)) + j
        return word, word

    _, rest = lax.scan(following, low, jnp.arange(1, BLOCK, dtype=jnp.uint32))
    return Generator(
        jnp.concatenate([low[None], rest]),
        jnp.asarray(BLOCK, jnp.int32),
        jnp.stack([low, jnp.zeros_like(low)]),
        jnp.zeros(3, jnp.uint32),
    )


def _mix(upper: UInt32[Array, " n"], lower: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    joined = (upper & _UPPER) | (lower & _LOWER)
    odd = jnp.uint32(0) - (lower & 1)  # all ones where the low bit is set
    return (joined >> 1) ^ (odd & _MATRIX)


def next_block(key: UInt32[Array, "624"]) -> UInt32[Array, "624"]:
    """The 624 words after `key`, in four vector steps: each needs only words already made."""
    ahead = BLOCK - _MIDDLE  # 227
    mixed = _mix(key[:-1], key[1:])
    first = key[_MIDDLE:] ^ mixed[:ahead]
    second = first ^ mixed[ahead : 2 * ahead]
    third = second[: _MIDDLE - ahead - 1] ^ mixed[2 * ahead :]
    last = second[_MIDDLE - ahead - 1 : _MIDDLE - ahead] ^ _mix(key[-1:], first[:1])
    return jnp.concatenate([first, second, third, last])


def temper(word: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """The output of the generator for each word of its state."""
    word = word ^ (word >> 11)
    word = word ^ ((word << 7) & np.uint32(0x9D2C5680))
    word = word ^ ((word << 15) & np.uint32(0xEFC60000))
    return word ^ (word >> 18)


def draw(
    generator: Generator, count: int, finish: Callable[[UInt32[Array, "624"]], Array] = temper
) -> tuple[Generator, Array]:
    """Draw `count` words under jit, as `finish` makes numbers of each 624 of them.

    `finish` takes 624 words of the state, of which the first is the first that is drawn, and gives
    an array of them or of 624 / k numbers that rest on k words each. It runs inside the scan, so a
    mask of millions never stores its words.
    """
    check_generator(generator)
    return _draw(generator, count, finish)


@partial(jit, static_argnames=("count", "finish"))
def _draw(generator, count, finish):
    key, position = jnp.asarray(generator.key), jnp.asarray(generator.position)
    if count == 0:
        return generator, finish(key)[:0]
    # The recurrence holds from any word on: windows of 624 words that begin where the drawing
    # begins need no alignment of what is drawn.
    windows = -(-count // BLOCK)
    first = lax.dynamic_slice_in_dim(jnp.concatenate([key, next_block(key)]), position, BLOCK)
    past = lax.dynamic_slice_in_dim(jnp.concatenate([key, key]), position, BLOCK)

    def advance(carry, index):
        window, last_but_one = carry
        # Two windows a turn: faster by an eighth, if XLA is kept from computing the one again
        # inside the other.
        pair = window, lax.optimization_barrier(next_block(window))
        here = index == (windows - 2) // 2
        last_but_one = jnp.where(here, pair[windows % 2], last_but_one)
        rows = [lax.optimization_barrier(finish(words)) for words in pair]
        return (next_block(pair[1]), last_but_one), jnp.stack(rows)

    if windows == 1:
        last_but_one, last, rows = past, first, finish(first)
    else:
        indices = jnp.arange(-(-windows // 2), dtype=jnp.int32)
        (_, last_but_one), rows = lax.scan(advance, (first, past), indices)
        last = next_block(last_but_one)
    # torch's block, the one that holds the last word drawn, spans two windows.
    end = position + (count - 1) % BLOCK
    begin = BLOCK * (1 + end // BLOCK) - position
    around = jnp.concatenate([last_but_one, last, next_block(last)])
    key = lax.dynamic_slice_in_dim(around, begin, BLOCK)
    drawn = rows.reshape(-1)[: count * rows.shape[-1] // BLOCK]
    return generator._replace(key=key, position=end % BLOCK + 1), drawn


def draw_units(generator: Generator, count: int) -> tuple[Generator, Array]:
    """`to_units` of words drawn under jit."""
    generator, words = draw(generator, count)
    return generator, to_units(words)
