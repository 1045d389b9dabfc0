"""Where examples come from: arrays in memory, or files that are read as batches need them."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxnet._utils.digests import digest_array
from jaxnet._utils.validation import check_finite, check_pair, check_real
from jaxnet.data._blocks import split_range
from jaxnet.data._grain import is_map_dataset, open_elements
from jaxnet.precision import Precision, cast_array, use

BLOCK = 2**22
"""Bytes of examples, about, that are read at once: two such blocks are in memory at a time."""

_SAMPLE = 64
"""At most so many examples are digested of a source that is too large to be read."""

_Read = Callable[[np.ndarray], Any]
"""`read(indices)`: some examples as they are stored, in memory of their own."""


@runtime_checkable
class Source(Protocol):
    """Where a run's examples come from: `InMemory` or `Mapped`.

    An example is a pytree of arrays, `(x, y)` for `fit`; a batch is the same with a leading axis.
    """

    streamed: bool
    """Whether examples are read block by block as batches need them."""
    example: Any
    """A batch of one example, which has the types and shapes of all."""

    @property
    def num_examples(self) -> int:
        """How many there are."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """A batch of these examples."""
        ...

    def check_finite(self) -> None:
        """Reject data with nan or an infinity, now or when they are read."""
        ...

    def list_blanks(self) -> list[Any]:
        """Sources of the shapes in which this one is evaluated, to compile with."""
        ...

    def convert(self, precision: Precision, *, finite: bool = True) -> "Source":
        """The source with its floating-point numbers in a precision; called inside `use`."""
        ...

    def digest(self) -> list[str]:
        """What tells its data from others': types, shapes and SHA-256."""
        ...


class InMemory:
    """A pytree of arrays in memory, whose leading axis is the examples.

    Args:
      arrays: `(x, y)`, for example; x and y may be pytrees of arrays themselves.

    Raises:
      ValueError: two arrays have another number of rows, or none.
      TypeError: an array holds anything but real numbers.

    torch has `torch.utils.data.TensorDataset`.

    >>> InMemory((np.ones((5, 3)), np.ones(5))).num_examples
    5
    """

    streamed = False

    def __init__(self, arrays: Any):
        self.arrays = _as_arrays(arrays)
        """All examples."""

    @property
    def num_examples(self) -> int:
        """The length of the leading axis."""
        return len(jax.tree.leaves(self.arrays)[0])

    @property
    def example(self) -> Any:
        """A batch of one example."""
        return jax.tree.map(lambda values: values[:1], self.arrays)

    def take(self, indices: np.ndarray) -> Any:
        """A batch of these examples."""
        return jax.tree.map(lambda values: values[indices], self.arrays)

    def check_finite(self) -> None:
        """Reject data with nan or an infinity, by their first row."""
        for name, values in _name_arrays(self.arrays):
            check_finite(name, values)

    def convert(self, precision: Precision, *, finite: bool = True) -> "InMemory":
        """The arrays as JAX's, their floats in a precision; called inside `use`."""
        return self.replace(jax.tree.map(lambda a: cast_array(a, precision), self.arrays))

    def replace(self, arrays: Any) -> "InMemory":
        """The same examples in other arrays, which were placed elsewhere for example."""
        made = object.__new__(InMemory)
        made.arrays = arrays
        return made

    def list_blanks(self) -> list["InMemory"]:
        """Itself."""
        return [self]

    def digest(self) -> list[str]:
        """Type, shape and SHA-256 of each array."""
        leaves = jax.tree.leaves(self.arrays)
        return [f"{a.dtype} {a.shape}, SHA-256 {digest_array(a)}" for a in leaves]


class Mapped:
    """Examples that are read where a batch needs them, in whatever order it names.

    Args:
      data: a pytree of arrays of which one at least is a `numpy.memmap`, `(x, y)` for example; or a
        Grain `MapDataset` whose elements are pairs `(x, y)`, one example each.
      precision: what the run computes in; floats are converted as they are read.
      finite: whether data with nan or an infinity are rejected, where they are read first.

    Raises:
      ValueError: the arrays differ in length, the data set has no row, or no end.
      TypeError: an element is no pair, or holds what are no real numbers.
    """

    streamed = True

    def __init__(self, data: Any, precision: Precision = "parity", *, finite: bool = True):
        self._data, self._finite = data, finite
        self._count, self._read = open_elements(data) if is_map_dataset(data) else _open(data)
        first = self._read(np.zeros(1, int))
        self.precision: Precision = precision
        with use(precision):
            empty = lambda a: cast_array(np.zeros(0, a.dtype.newbyteorder("=")), precision).dtype  # noqa: E731
            self._types = jax.tree.map(empty, first)
        self._unseen = np.full(self._count, finite)
        self.example = self._convert(first)
        """A batch of the first example."""

    @property
    def num_examples(self) -> int:
        """How many there are."""
        return self._count

    @property
    def block(self) -> int:
        """How many examples are read at once."""
        size = sum(a.nbytes for a in jax.tree.leaves(self.example))
        return min(self._count, max(1, BLOCK // max(1, size)))

    def take(self, indices: np.ndarray) -> Any:
        """A batch of these examples, read now.

        Raises:
          ValueError: one of them holds nan or an infinity, the first time that it is read.
        """
        batch = self._read(indices)
        if self._unseen[indices].any():
            for name, values in _name_arrays(batch):
                check_finite(name, values, indices)
            self._unseen[indices] = False
        return self._convert(batch)

    def check_finite(self) -> None:
        """Nothing yet: rows are checked when they are read for the first time."""

    def convert(self, precision: Precision, *, finite: bool = True) -> "Mapped":
        """The same files, read in a precision, with nan or not."""
        finite = finite and self._finite
        if (precision, finite) == (self.precision, self._finite):
            return self
        return Mapped(self._data, precision, finite=finite)

    def blank(self, indices: np.ndarray) -> Any:
        """Zeros of the shapes and types of these examples, to compile with."""
        shape = lambda a: np.zeros((len(indices), *a.shape[1:]), a.dtype)  # noqa: E731
        return jax.tree.map(shape, self.example)

    def list_blanks(self) -> list[InMemory]:
        """Zeros, of each size of block."""
        sizes = {len(part) for part in split_range(self._count, self.block)}
        return [InMemory(self.blank(np.arange(size))) for size in sizes]

    def digest(self) -> list[str]:
        """Type and shape of all examples, and SHA-256 of some from all over."""
        some = np.unique(np.linspace(0, self._count - 1, _SAMPLE).astype(np.int64))
        return [
            f"{a.dtype} {(self._count, *a.shape[1:])}, SHA-256 of {len(a)} rows {digest_array(a)}"
            for a in jax.tree.leaves(self.take(some))
        ]

    def _convert(self, batch: Any) -> Any:
        return jax.tree.map(lambda a, kind: a.astype(kind, copy=False), batch, self._types)


def as_source(data: Any) -> Source:
    """The source that stands for a pair of arrays or a `MapDataset`; a source as it is."""
    if isinstance(data, InMemory | Mapped):
        return data
    if is_map_dataset(data):
        return Mapped(data)
    if type(data).__module__.partition(".")[0] == "grain":
        raise TypeError(
            "data must be (x, y) or a grain.MapDataset, whose rows can be read in any order, "
            f"not a {type(data).__name__}"
        )
    if any(kind.__module__.startswith("torch.") for kind in type(data).__mro__):
        raise TypeError(
            "data must be (x, y), or a jaxnet.data.DataLoader of them with torch's arguments, not "
            f"torch's {type(data).__name__}"
        )
    pair = check_pair(data)
    return Mapped(pair) if any(map(_is_mapped, jax.tree.leaves(pair))) else InMemory(pair)


def read_all(source: Source) -> InMemory:
    """All examples in memory."""
    if isinstance(source, InMemory):
        return source
    return InMemory(source.take(np.arange(source.num_examples)))


def _name_arrays(batch: Any) -> list[tuple[str, Any]]:
    """The arrays of a batch `(x, y)`, each named by its side; those of any other are the data."""
    pair = isinstance(batch, tuple) and len(batch) == 2
    sides = zip("xy", batch, strict=True) if pair else [("data", batch)]
    return [(name, values) for name, side in sides for values in jax.tree.leaves(side)]


def _as_arrays(tree: Any) -> Any:
    """A pytree whose leaves are arrays of one length; a list is an array, not a tree."""
    leaf = lambda node: not isinstance(node, tuple | dict)  # noqa: E731
    to_array = lambda a: a if isinstance(a, jax.Array | np.ndarray) else np.asarray(a)  # noqa: E731
    pair = type(tree) is tuple and len(tree) == 2
    shapes = {}
    for path, values in jax.tree_util.tree_leaves_with_path(tree, is_leaf=leaf):
        name = "xy"[path[0].idx] if pair else "data"
        name += jax.tree_util.keystr(path[pair:])
        check_real(**{name: values})
        shapes[name] = np.shape(values)
    lengths = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(lengths) != 1 or 0 in lengths:
        listed = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            "data must be arrays with the same number of rows, at least one; "
            f"their shapes: {listed}"
        )
    return jax.tree.map(to_array, tree, is_leaf=leaf)


def _is_mapped(values: Any) -> bool:
    """Whether an array is a file's: what was computed of one may still be called a memmap."""
    return isinstance(values, np.memmap) and getattr(values, "_mmap", None) is not None


def _open(data: Any) -> tuple[int, _Read]:
    """How many examples some arrays have, and how to read them."""
    arrays = _as_arrays(data)
    count = len(jax.tree.leaves(arrays)[0])
    return count, lambda indices: jax.tree.map(lambda a: _pick(a, indices), arrays)


def _pick(values: Any, indices: np.ndarray) -> np.ndarray:
    """Rows of an array, a copy; without gathering where they are consecutive."""
    begin, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(begin, begin + count)):
        return np.array(values[begin : begin + count])
    return np.asarray(np.take(values, indices, axis=0))
