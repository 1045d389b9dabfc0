"""The stream of torch's CUDA generator: Philox words, and which thread of the GPU draws which.

Integers again, so it costs little and gives the same on every backend, with or without a GPU.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from jaxnet.cache import jit

_BLOCK = 256  # threads of a block in torch's kernels
_LANES = 4  # words of one Philox block
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_STRIDES = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10

Words = UInt32[Array, "*n"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["blocks"],
    meta_fields=["multiprocessors", "threads_per_multiprocessor"],
)
@dataclass(frozen=True)
class CudaStream:
    """The position of a GPU's stream, and what of the GPU decides which thread draws what."""

    blocks: Any  # JAX also rebuilds it around what is no array
    """Philox blocks that every thread has left behind, uint32 (2,), low word first: a quarter of
    the offset in `torch.cuda.get_rng_state()`."""
    multiprocessors: int
    threads_per_multiprocessor: int

    def threads(self, count: int) -> int:
        """Threads that torch starts for this many elements."""
        most = self.multiprocessors * (self.threads_per_multiprocessor // _BLOCK)
        return _BLOCK * min(most, -(-count // _BLOCK))


def start_cuda(multiprocessors: Any, threads_per_multiprocessor: Any) -> CudaStream:
    """The stream after `torch.manual_seed`, on a GPU of this size."""
    for name, value, least in (
        ("multiprocessors", multiprocessors, 1),
        ("threads_per_multiprocessor", threads_per_multiprocessor, _BLOCK),
    ):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    blocks = np.zeros(2, np.uint32)
    return CudaStream(blocks, int(multiprocessors), int(threads_per_multiprocessor))


def _multiply(word: Words, factor: int) -> tuple[Words, Words]:
    """The two halves of a 64-bit product, high and low, from 16-bit digits."""
    upper, lower = np.uint32(factor >> 16), np.uint32(factor & 0xFFFF)
    left, right = word >> 16, word & 0xFFFF
    cross, other = right * upper, left * lower
    middle = (right * lower >> 16) + (cross & 0xFFFF) + (other & 0xFFFF)
    return left * upper + (cross >> 16) + (other >> 16) + (middle >> 16), word * np.uint32(factor)


def philox(
    key: UInt32[Array | np.ndarray, "2"], counter: tuple[Words, Words, Words, Words]
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10: four words from each 128-bit counter, given by its words, lowest first.

    Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    key_0, key_1 = jnp.asarray(key)
    a, b, c, d = counter
    for _ in range(_ROUNDS):
        high_a, low_a = _multiply(a, _MULTIPLIERS[0])
        high_c, low_c = _multiply(c, _MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ key_0, low_c, high_a ^ d ^ key_1, low_a
        key_0, key_1 = key_0 + _STRIDES[0], key_1 + _STRIDES[1]
    return a, b, c, d


@partial(jit, static_argnames=("count", "vector"))
def draw_words(
    stream: CudaStream, seed: UInt32[Array | np.ndarray, "2"], count: int, vector: int
) -> tuple[CudaStream, UInt32[Array, " count"]]:
    """One word for each of `count` elements, as a kernel of torch's assigns them to its threads.

    Thread t draws the block numbered by the stream, in its own subsequence t, and another one each
    time it comes round. With `vector` 1 a round of T threads covers 4 T elements, of which thread
    t fills t, t + T, t + 2 T and t + 3 T; with 2 or 4 it fills that many in a row.
    """
    if count == 0:
        return stream, jnp.zeros(0, jnp.uint32)
    threads = stream.threads(count)
    used = vector if vector > 1 else _LANES
    rounds = -(-count // (threads * used))
    low, high = stream.blocks[0], stream.blocks[1]
    turn = low + jnp.arange(rounds, dtype=jnp.uint32)[:, None]
    carried = high + (turn < low)
    thread = jnp.arange(threads, dtype=jnp.uint32)[None, :]
    shape = (rounds, threads)
    turn, carried, thread = (jnp.broadcast_to(word, shape) for word in (turn, carried, thread))
    lanes = philox(seed, (turn, carried, thread, jnp.zeros_like(thread)))[:used]
    words = jnp.stack(lanes, axis=1 if vector == 1 else 2).reshape(-1)[:count]
    # torch counts four elements to a block, whatever its kernel did.
    after = low + np.uint32((count - 1) // (threads * _LANES) + 1)
    blocks = jnp.stack([after, high + (after < low)])
    return CudaStream(blocks, stream.multiprocessors, stream.threads_per_multiprocessor), words
