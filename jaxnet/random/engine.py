"""torch's CPU generator, mt19937, as a pytree: its state, its words on the host and under jit.

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
from jaxtyping import Array, Int32, UInt32

BLOCK = 624  # words that one step of the recurrence makes
_MIDDLE = 397  # the recurrence adds the word this far ahead
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX = np.uint32(0x9908B0DF)
_SEEDS = range(-(2**63), 2**64)


class Generator(NamedTuple):
    """State of torch's CPU generator: the words of one block, and how many of them are used.

    `key` has shape (624,) and holds the words before tempering; `position`, from 0 to 624, counts
    those already drawn. A pytree: it passes through jit, scan and vmap, and nothing is global.
    """

    key: UInt32[Array | np.ndarray, "*lanes 624"]
    position: Int32[Array | np.ndarray, "*lanes"]


def manual_seed(seed: Any) -> Generator:
    """A generator in the state that `torch.manual_seed(seed)` gives torch's CPU generator.

    $s_0 = seed \\bmod 2^{32}$, $s_j = 1812433253\\,(s_{j-1} \\oplus (s_{j-1} \\gg 30)) + j$
    modulo $2^{32}$, for j < 624: only the low 32 bits of the seed reach the stream.

    Args:
      seed: from -2^63 to 2^64 - 1; a negative one counts from 2^64 down. As in torch, whatever
        `int(seed)` accepts will do.

    Raises:
      TypeError, ValueError: `int(seed)` fails, or lies outside the range.

    >>> generator = manual_seed(1)
    >>> int(generator.key[0]), int(generator.key[1]), int(generator.position)
    (1, 1812433254, 624)

    Source: `torch.manual_seed`; Matsumoto and Nishimura's `init_genrand`.
    """
    try:
        number = int(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed must be an integer, not {seed!r}") from error
    if number not in _SEEDS:
        raise ValueError(f"seed must lie between -2**63 and 2**64 - 1, not {seed!r}")
    # NumPy's legacy seeding of an integer is init_genrand itself.
    state: Any = np.random.RandomState(number % 2**32).get_state(legacy=False)
    state = state["state"]
    return Generator(np.asarray(state["key"], np.uint32), np.asarray(state["pos"], np.int32))


def check_generator(generator: Any) -> None:
    """Refuse what is not a `Generator`: a key of JAX's, most often."""
    if not isinstance(generator, Generator):
        raise TypeError(
            f"generator must come from jaxnet.random.manual_seed, not {type(generator).__name__}; "
            "a jax.random.key belongs to Flax's and JAX's own functions"
        )


def host_words(generator: Generator, count: int) -> tuple[Generator, UInt32[np.ndarray, " count"]]:
    """Draw `count` words with NumPy, outside any compiled run."""
    check_generator(generator)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in generator):
        raise TypeError(
            "generator must be concrete here, not traced by jit, scan or vmap: "
            "this draw is exact only on the host, so make it before the compiled run"
        )
    twister = np.random.MT19937()
    key, position = np.asarray(generator.key), int(generator.position)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
    words = twister.random_raw(count).astype(np.uint32)
    after: Any = twister.state["state"]
    return Generator(np.asarray(after["key"], np.uint32), np.asarray(after["pos"], np.int32)), words


def seed_words(low: UInt32[Array, ""]) -> Generator:
    """`manual_seed` of a word that is itself drawn inside a compiled run."""

    def following(word, j):
        word = jnp.uint32(1812433253) * (word ^ (word >> 30)) + j
        return word, word

    _, rest = lax.scan(following, low, jnp.arange(1, BLOCK, dtype=jnp.uint32))
    return Generator(jnp.concatenate([low[None], rest]), jnp.asarray(BLOCK, jnp.int32))


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
    generator: Generator,
    count: int,
    finish: Callable[[UInt32[Array, "624"]], Array] = temper,
) -> tuple[Generator, Array]:
    """Draw `count` words under jit: `finish` of each block of the state, cut to what is drawn.

    `finish` runs inside the scan, block by block, so a mask of millions never stores its words.
    """
    check_generator(generator)
    return _draw(generator, count, finish)


@partial(jax.jit, static_argnames=("count", "finish"))
def _draw(generator, count, finish):
    if count == 0:
        return generator, finish(jnp.asarray(generator.key))[:0]
    key, position = jnp.asarray(generator.key), jnp.asarray(generator.position)
    blocks = -(-count // BLOCK)  # enough from any position
    last = (position + count - 1) // BLOCK  # 0 when the block at hand suffices

    def advance(carry, index):
        block, kept = carry
        block = next_block(block)
        return (block, jnp.where(index == last, block, kept)), finish(block)

    indices = jnp.arange(1, blocks + 1, dtype=jnp.int32)
    (_, kept), rows = lax.scan(advance, (key, key), indices)
    words = jnp.concatenate([finish(key)[None], rows]).reshape(-1)
    drawn = lax.dynamic_slice_in_dim(words, position, count)
    return Generator(kept, position + count - BLOCK * last), drawn
