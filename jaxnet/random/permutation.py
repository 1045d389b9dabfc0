"""torch's permutations: the swaps that its words choose."""

from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from jaxnet.cache import jit
from jaxnet.random._arguments import as_integer
from jaxnet.random.mt19937 import Generator, check_generator, draw

_SMALL = 2**32 // 20  # from here on torch shuffles by another rule


def randperm(generator: Generator, n: int) -> tuple[Generator, Int32[Array, " n"]]:
    """A permutation of 0, ..., n - 1: `torch.randperm(n)`, element for element.

    For i = 0, ..., n - 2, one word w each, elements i and i + (w mod (n - i)) change places.

    Works under jit.

    Raises:
      TypeError: `n` is no integer.
      ValueError: `n` is negative, or so large (2^32 // 20 and above) that torch uses another rule.

    torch's elements are int64, these are int32.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, order = jaxnet.random.randperm(generator, 5)
    >>> print(order)
    [0 4 2 3 1]

    Source: `torch.randperm` on a CPU.
    """
    n = as_integer("n", n)
    if not 0 <= n < _SMALL:
        raise ValueError(f"n must lie between 0 and {_SMALL - 1}, not {n}")
    check_generator(generator)
    return _shuffle(generator, n)


@partial(jit, static_argnames="n")
def _shuffle(generator, n):
    order = jnp.arange(n, dtype=jnp.int32)
    if n < 2:
        return generator, order
    generator, words = draw(generator, n - 1)
    here = jnp.arange(n - 1, dtype=jnp.int32)
    there = here + (words % jnp.uint32(n - here)).astype(jnp.int32)

    def swap(i, order):
        pair = jnp.stack([here[i], there[i]])
        return order.at[pair].set(order[pair[::-1]], mode="promise_in_bounds")

    return generator, lax.fori_loop(0, n - 1, swap, order)
