"""Which examples make which batch, and what a `torch.utils.data.DataLoader` draws to decide it."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32

from jaxnet._utils.validation import INT32, check_count, check_pair, check_stream
from jaxnet.data.sources import as_source, read_all
from jaxnet.precision import Precision
from jaxnet.random import Generator, randperm
from jaxnet.random._arguments import as_integer
from jaxnet.random.mt19937 import draw, seed_words

_BASE_SEED = 2  # words that each iteration of a DataLoader draws for its workers, shuffled or not


class DataLoader(NamedTuple):
    """Data with everything that decides its minibatches: `torch.utils.data.DataLoader`'s arguments.

    For `fit`, in place of `(x, y)`, where a loader needs more than a batch size and a shuffle.

    >>> import numpy as np
    >>> loader = DataLoader((np.ones((5, 3)), np.ones(5)), batch_size=2, drop_last=True)
    >>> make_batching(len(loader.data[0]), loader.batch_size, drop_last=loader.drop_last).steps
    2

    Unlike in torch, `batch_size` is at most the number of rows, and not None.

    Source: `torch.utils.data.DataLoader`.
    """

    data: Any
    """`(x, y)`, arrays with the same number of rows, or a Grain `MapDataset` of such rows."""
    batch_size: int = 1
    """Rows of a minibatch."""
    shuffle: bool = False
    """Whether each epoch takes the rows in a new order."""
    drop_last: bool = False
    """Whether a last minibatch that would be short is left out."""
    generator: Generator | None = None
    """The loader's own generator, which its draws come from instead of the run's."""
    persistent_workers: bool = False
    """Whether torch's loader keeps its workers, and so draws their base seed in the first epoch
    alone: the one that begins where the state has counted no step. How many they are decides
    nothing, and has no argument."""


class Batching(NamedTuple):
    """How n rows are cut into minibatches: `batch_size` None takes all rows, without a loader.

    >>> Batching(12665, 16).steps, Batching(12665, 16, drop_last=True).steps
    (792, 791)
    """

    num_examples: int
    batch_size: int | None
    shuffle: bool = False
    drop_last: bool = False
    own: bool = False
    """Whether the loader draws from a generator of its own."""
    persistent_workers: bool = False
    """Whether the base seed is drawn in the first epoch alone."""

    @property
    def size(self) -> int:
        """Rows of every minibatch but the last."""
        return self.num_examples if self.batch_size is None else self.batch_size

    @property
    def full(self) -> int:
        """Minibatches with all their rows."""
        return self.num_examples // self.size

    @property
    def left(self) -> int:
        """Rows of the short minibatch at the end, 0 where there is none."""
        return 0 if self.drop_last else self.num_examples % self.size

    @property
    def steps(self) -> int:
        """Minibatches in an epoch."""
        return self.full + (self.left > 0)


def make_batching(
    num_examples: int,
    batch_size: Any,
    shuffle: bool = False,
    drop_last: bool = False,
    own: bool = False,
    persistent_workers: bool = False,
) -> Batching:
    """A `Batching`, or a ValueError that names what does not fit the number of examples.

    >>> make_batching(5, 2).steps
    3
    """
    check_count("num_examples", num_examples, INT32)
    if batch_size is None:
        if shuffle or drop_last:
            which = "shuffle" if shuffle else "drop_last"
            raise ValueError(f"{which}=True needs a batch_size: a full batch has no order or rest")
        return Batching(num_examples, None)
    batch_size = check_count("batch_size", batch_size)
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size must be at most the number of rows, {num_examples}, not {batch_size}"
        )
    return Batching(num_examples, batch_size, shuffle, drop_last, own, persistent_workers)


def batching_of(loader: DataLoader) -> Batching:
    """How the rows of a loader of a `Source` are cut."""
    own = loader.generator is not None
    return make_batching(
        loader.data.num_examples,
        loader.batch_size,
        loader.shuffle,
        loader.drop_last,
        own,
        loader.persistent_workers,
    )


def make_loader(data: Any, batch_size: Any, shuffle: bool) -> DataLoader:
    """What `fit` was given as a `DataLoader` of a `Source`; a ValueError where it is said twice."""
    if not isinstance(data, DataLoader):
        return DataLoader(as_source(data), batch_size, shuffle)
    if batch_size is not None or shuffle:
        raise ValueError("batch_size and shuffle are the DataLoader's own: give them there alone")
    check_count("batch_size", data.batch_size)
    return data._replace(data=as_source(data.data))


def open_loader(
    data: Any, batch_size: Any, shuffle: bool, precision: Precision, *, pairs: bool
) -> DataLoader:
    """`make_loader` in a run's precision, in memory where each step takes all examples.

    Called inside `use`. With `pairs`, examples must be `(x, y)`, and finite.
    """
    loader = make_loader(data, batch_size, shuffle)
    if pairs:
        check_pair(loader.data.example)
        loader.data.check_finite()
    source = loader.data.convert(precision, finite=pairs)
    if loader.batch_size is None:  # in JAX's arrays, which no chunk has to move again
        source = read_all(source).convert(precision)
    return loader._replace(data=source)


def start_epoch(
    generator: Any, batching: Batching, first: Any = True
) -> tuple[Any, Int32[Array, " rows"] | None]:
    """Start a loader's iteration: the generator after its draws, and the order of the rows.

    The order is None where rows stay as they are. With torch's generator, each iteration draws a
    base seed (two words; with persistent workers, the `first` alone), and when it shuffles another
    seed (two words), of which the second word seeds the permutation's own generator. Where the
    generator is the loader's own, the permutation comes from it directly, and after it another one,
    which the sampler draws when it runs out of rows and nobody sees. With a `jax.random.key`, only
    a shuffle uses the key. Works under jit.

    >>> import jaxnet
    >>> _, order = start_epoch(jaxnet.random.manual_seed(1), Batching(5, 2, shuffle=True))
    >>> print(order)
    [4 1 3 0 2]

    Source: `torch.utils.data.DataLoader`, `RandomSampler`.
    """
    if batching.batch_size is None:
        return generator, None
    check_stream(generator)
    if not isinstance(generator, Generator):
        if not batching.shuffle:
            return generator, None
        generator, key = jax.random.split(generator)
        # Of int32 in float64's runs too, where a bare count would give int64.
        return generator, jax.random.permutation(
            key, jnp.arange(batching.num_examples, dtype=jnp.int32)
        )
    base = _BASE_SEED
    if batching.persistent_workers:
        begin = lambda generator: draw(generator, _BASE_SEED)[0]  # noqa: E731
        generator, base = lax.cond(first, begin, lambda generator: generator, generator), 0
    if not batching.shuffle:
        return draw(generator, base)[0], None
    if batching.own:
        generator, _ = draw(generator, base)
        generator, order = randperm(generator, batching.num_examples)
        return draw(generator, batching.num_examples - 1)[0], order
    generator, words = draw(generator, base + 2)
    return generator, randperm(seed_words(words[-1]), batching.num_examples)[1]


def random_split(
    generator: Generator, rows: int, lengths: Sequence[int | float]
) -> tuple[Generator, tuple[Int32[Array, "..."], ...]]:
    """Cut a permutation of `rows` rows into parts: `torch.utils.data.random_split`.

    Args:
      generator: where the permutation comes from; works under jit.
      rows: how many there are.
      lengths: rows of each part, which sum to `rows`; or fractions that sum to 1, each rounded
        down, after which the rows left over go to the parts in turn, from the first.

    Returns:
      The generator, and the indices of the rows of each part.

    Raises:
      ValueError: the lengths do not sum to `rows`, or one is negative.

    torch returns subsets of a data set; here `x[indices]` is one. torch warns of an empty part.

    >>> import jaxnet
    >>> generator, (train, test) = random_split(jaxnet.random.manual_seed(1), 5, [0.8, 0.2])
    >>> print(train, test)
    [0 4 2 3] [1]

    Source: `torch.utils.data.random_split`.
    """
    if as_integer("rows", rows) < 0:
        raise ValueError(f"rows must be at least 0, not {rows}")
    numbers = int | float | np.integer | np.floating
    kinds = [type(n) for n in lengths] if isinstance(lengths, Sequence) else [type(None)]
    if bool in kinds or not all(issubclass(kind, numbers) for kind in kinds):
        raise TypeError(f"lengths must sum to the number of rows, {rows}, or to 1, not {lengths}")
    counts = _count_parts(rows, lengths)
    whole = all(isinstance(count, int | np.integer) and count >= 0 for count in counts)
    if not whole or sum(counts) != rows:
        raise ValueError(f"lengths must sum to the number of rows, {rows}, or to 1, not {lengths}")
    counts = [int(count) for count in counts]
    generator, order = randperm(generator, rows)
    ends = itertools.accumulate(counts)
    return generator, tuple(
        order[end - count : end] for end, count in zip(ends, counts, strict=True)
    )


def _count_parts(rows: int, lengths: Sequence[Any]) -> list[Any]:
    total = sum(lengths)
    if not (math.isclose(total, 1) and total <= 1):
        return list(lengths)
    counts = [math.floor(rows * fraction) for fraction in lengths]
    for part in range(rows - sum(counts)):
        counts[part % len(counts)] += 1
    return counts
