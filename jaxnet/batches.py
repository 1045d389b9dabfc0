"""Which rows make which minibatch, and what a `torch.utils.data.DataLoader` draws to decide it."""

import math
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int32

from jaxnet.checks import check_count
from jaxnet.random import Generator, randperm
from jaxnet.random.engine import draw, seed_words

_BASE_SEED = 2  # words that each iteration of a DataLoader draws for its workers, shuffled or not


class Batching(NamedTuple):
    """How n rows are cut into minibatches: `batch_size` None takes all rows, without a loader.

    >>> Batching(12665, 16, shuffle=False).steps
    792
    """

    rows: int
    batch_size: int | None
    shuffle: bool

    @property
    def size(self) -> int:
        """Rows of every minibatch but the last."""
        return self.rows if self.batch_size is None else self.batch_size

    @property
    def steps(self) -> int:
        """Minibatches in an epoch; the last one may be short."""
        return math.ceil(self.rows / self.size)


def make_batching(rows: int, batch_size: Any, shuffle: bool) -> Batching:
    """A `Batching`, or a ValueError that names what does not fit the rows."""
    if batch_size is None:
        if shuffle:
            raise ValueError("shuffle=True needs a batch_size: a full batch has no order")
        return Batching(rows, None, shuffle=False)
    batch_size = check_count("batch_size", batch_size)
    if batch_size > rows:
        raise ValueError(f"batch_size must be at most the number of rows, {rows}, not {batch_size}")
    return Batching(rows, batch_size, shuffle)


def start_epoch(generator: Any, batching: Batching) -> tuple[Any, Int32[Array, " rows"] | None]:
    """Start a loader's iteration: the generator after its draws, and the order of the rows.

    The order is None where rows stay as they are. With torch's generator, each iteration draws a
    base seed (two words), and when it shuffles another seed (two words), of which the second word
    seeds the permutation's own generator. With a `jax.random.key`, only a shuffle uses the key.
    Works under jit.

    >>> import jaxnet
    >>> _, order = start_epoch(jaxnet.random.manual_seed(1), Batching(5, 2, shuffle=True))
    >>> print(order)
    [4 1 3 0 2]

    Source: `torch.utils.data.DataLoader`, `RandomSampler`.
    """
    if batching.batch_size is None:
        return generator, None
    if not isinstance(generator, Generator):
        if not batching.shuffle:
            return generator, None
        generator, key = jax.random.split(generator)
        return generator, jax.random.permutation(key, batching.rows)
    if not batching.shuffle:
        return draw(generator, _BASE_SEED)[0], None
    generator, words = draw(generator, _BASE_SEED + 2)
    return generator, randperm(seed_words(words[-1]), batching.rows)[1]
