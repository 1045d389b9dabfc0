"""Rows that stay where they are until a batch takes them: mapped from a file, or a data set's."""

import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.checks import check_finite, check_pair, check_real, check_rows
from jaxnet.precision import Precision, cast_array, use

BLOCK = 2**22
"""Bytes of rows, about, that are read at once: two such blocks are in memory at a time."""

_SAMPLE = 64
"""Rows of a sample, at most."""

_READERS = 4
"""Threads that read a data set's rows: where a row is waited for, four are."""

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_Pair = tuple[np.ndarray, np.ndarray]
_Read = Callable[[np.ndarray], _Pair]
"""`read(indices)`: x and y of some rows, as they are stored, in memory of their own."""


class Rows:
    """Rows `(x, y)` that are read where a batch needs them, in whatever order it names.

    Args:
      data: `(x, y)`, arrays of which one at least is a `numpy.memmap`; or a Grain `MapDataset`
        whose elements are `(x, y)`, one row each.
      precision: what the run computes in; floats are converted as they are read.
      finite: whether x with nan or an infinity is refused, where it is read for the first time.

    Raises:
      ValueError: the arrays differ in length, the data set has no row, or no end.
      TypeError: an element is no pair, or holds what are no real numbers.
    """

    def __init__(self, data: Any, precision: Precision = "parity", *, finite: bool = True):
        self._count, self._read = _open_elements(data) if is_map_dataset(data) else _open(data)
        first = self._read(np.zeros(1, int))
        self.precision: Precision = precision
        with use(precision):
            native = [np.zeros(0, values.dtype.newbyteorder("=")) for values in first]
            self._kinds = [cast_array(values, precision).dtype for values in native]
        self.like = self._cast(first)
        """The first row of x and of y: their types and shapes are those of all."""
        finite = finite and jnp.issubdtype(first[0].dtype, jnp.floating)
        self._unseen = np.ones(self._count, bool) if finite else None

    def __len__(self) -> int:
        return self._count

    @property
    def block(self) -> int:
        """How many rows are read at once."""
        size = sum(like.nbytes for like in self.like)
        return min(self._count, max(1, BLOCK // max(1, size)))

    def take(self, indices: np.ndarray) -> _Pair:
        """x and y of some rows, read now.

        Raises:
          ValueError: x holds nan or an infinity in one of them, the first time that it is read.
        """
        x, y = self._read(indices)
        if self._unseen is not None and self._unseen[indices].any():
            check_finite(x, indices)
            self._unseen[indices] = False
        return self._cast((x, y))

    def blank(self, indices: np.ndarray) -> _Pair:
        """Zeros in place of these rows, read from nowhere: what they look like to a compiler."""
        x, y = (np.zeros((len(indices), *v.shape[1:]), v.dtype) for v in self.like)
        return x, y

    def sample(self) -> _Pair:
        """Some rows from all over: what tells data sets apart that are too large to be read."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(np.int64)))

    def describe(self) -> list[str]:
        """Type and shape of x and of y, all rows together."""
        return [f"{like.dtype} {(self._count, *like.shape[1:])}" for like in self.like]

    def _cast(self, pair: _Pair) -> _Pair:
        x, y = (v.astype(kind, copy=False) for v, kind in zip(pair, self._kinds, strict=True))
        return x, y


def is_map_dataset(data: Any) -> bool:
    """Whether it is a Grain `MapDataset`; where Grain was not imported, nothing is.

    >>> is_map_dataset(range(3))
    False
    """
    kind = getattr(sys.modules.get("grain"), "MapDataset", None)
    return kind is not None and isinstance(data, kind)


def is_streamed(data: Any) -> bool:
    """Whether data are read as they are needed: a `MapDataset`, or a pair with a mapped array.

    >>> is_streamed((np.zeros(2), np.zeros(2)))
    False
    """
    if is_map_dataset(data):
        return True
    return isinstance(data, tuple | list) and any(map(_is_mapped, data))


def check_data(data: Any) -> Any:
    """A pair, or a `MapDataset` as it is; refuse all else."""
    if is_map_dataset(data):
        return data
    if type(data).__module__.partition(".")[0] == "grain":
        raise TypeError(
            "data must be (x, y) or a grain.MapDataset, whose rows can be read in any order, "
            f"not a {type(data).__name__}"
        )
    return check_pair(data)


def check_readable(data: Any) -> None:
    """Refuse a pair whose arrays are not rows by rows, or a `MapDataset` whose first row is none.

    >>> check_readable((np.zeros(2), np.zeros(2)))
    """
    if is_map_dataset(data):
        Rows(data, finite=False)
    else:
        check_rows(*data)


def count_rows(data: Any) -> int:
    """How many rows there are in a pair or in `Rows`.

    >>> count_rows((np.zeros(2), np.zeros(2)))
    2
    """
    return len(data) if isinstance(data, Rows) else len(data[0])


def list_blanks(data: Any) -> list[Any]:
    """What stands in for data where a report is compiled: a pair itself, for `Rows` zeros."""
    if not isinstance(data, Rows):
        return [data]
    sizes = {len(part) for part in cut(len(data), data.block)}
    return [data.blank(np.arange(size)) for size in sizes]


def read_all(data: Any, precision: Precision = "parity") -> Any:
    """A pair as it is, or all rows of a `MapDataset`, in memory."""
    if not is_map_dataset(data):
        return data
    rows = Rows(data, precision)
    return rows.take(np.arange(len(rows)))


def prefetch(
    make: Callable[[_Item], _Made], items: Iterable[_Item]
) -> Generator[_Made, None, None]:
    """What `make` makes of each item, the next one in a thread while the last one is used.

    An error of `make` comes where its item is due. The thread ends with the iterator, which waits
    for the item under way.

    >>> list(prefetch(lambda number: number + 1, range(3)))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(1, "jaxnet-rows")
    try:
        coming = None
        for item in items:
            last, coming = coming, pool.submit(make, item)
            if last is not None:
                yield last.result()
                del last  # its result would stay with it
        if coming is not None:
            yield coming.result()
    finally:
        pool.shutdown(cancel_futures=True)


def cut(count: int, size: int) -> list[range]:
    """So many steps or rows in stretches of at most `size`.

    >>> cut(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]


def place(take: _Read, indices: np.ndarray, sharding: Any = None) -> tuple[jax.Array, jax.Array]:
    """x and y of the rows that an array of indices names, (*indices.shape, *row), on the device.

    With a sharding of the indices, they lie as it says. Each part is read once, and of what lies
    on another process's devices, nothing is. The arrays are nobody else's: JAX may use their
    memory as it is.
    """

    def take_part(part: np.ndarray) -> _Pair:
        x, y = take(part.reshape(-1))
        return x.reshape(*part.shape, *x.shape[1:]), y.reshape(*part.shape, *y.shape[1:])

    if sharding is None:
        x, y = take_part(indices)
        return jax.device_put(x), jax.device_put(y)
    where = sharding.addressable_devices_indices_map(indices.shape)
    parts = {str(index): index for index in where.values()}  # slices are no keys
    read = {name: take_part(indices[index]) for name, index in parts.items()}
    x, y = (
        jax.make_array_from_single_device_arrays(
            (*indices.shape, *values.shape[indices.ndim :]),
            sharding,
            [jax.device_put(read[str(index)][side], device) for device, index in where.items()],
        )
        for side, values in enumerate(next(iter(read.values())))
    )
    return x, y


def _is_mapped(values: Any) -> bool:
    """Whether an array is a file's: what was computed of one may still be called a memmap."""
    return isinstance(values, np.memmap) and getattr(values, "_mmap", None) is not None


def _open(data: Any) -> tuple[int, _Read]:
    """How many rows two arrays have, and how to read them."""
    check_rows(*data)
    x, y = (values if _is_mapped(values) else np.asarray(values) for values in data)
    return len(x), lambda indices: (_pick(x, indices), _pick(y, indices))


def _pick(values: Any, indices: np.ndarray) -> np.ndarray:
    """Rows of an array, a copy; without gathering where they lie in a row."""
    begin, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(begin, begin + count)):
        return np.array(values[begin : begin + count])
    return np.asarray(np.take(values, indices, axis=0))


def _open_elements(data: Any) -> tuple[int, _Read]:
    """How many rows a `MapDataset` has, and how to read them."""
    count = len(data)
    if count == sys.maxsize:
        raise ValueError("data must be a MapDataset that ends: epochs repeat it")
    if count == 0:
        raise ValueError("data must have at least one row; the MapDataset is empty")
    first = _read_element(data, 0)
    check_real(x=first[0], y=first[1])

    def read(indices: np.ndarray) -> _Pair:
        x, y = (np.empty((len(indices), *v.shape), v.dtype) for v in first)

        def fill(part: range) -> None:
            for at in part:
                element = _read_element(data, int(indices[at]))
                _check_alike(element, first, int(indices[at]))
                x[at], y[at] = element

        with ThreadPoolExecutor(_READERS) as pool:
            for _ in pool.map(fill, cut(len(indices), -(-len(indices) // _READERS))):
                pass  # an error, if there is one
        return x, y

    return count, read


def _check_alike(element: _Pair, first: _Pair, index: int) -> None:
    for side, values, like in zip("xy", element, first, strict=True):
        if values.shape != like.shape or values.dtype != like.dtype:
            raise ValueError(
                f"data must have rows of one shape and type, but {side} of element {index} is "
                f"{values.dtype} {values.shape}, not {like.dtype} {like.shape} as in element 0"
            )


def _read_element(data: Any, index: int) -> _Pair:
    element = data[index]
    if not isinstance(element, tuple | list) or len(element) != 2:
        what = f"a {type(element).__name__}"
        advice = "data.map(lambda element: (element[...], element[...])) makes pairs"
        if element is None:
            what, advice = "missing", "filter the rows before they become a MapDataset"
        elif isinstance(element, tuple | list):
            what += f" of {len(element)}"
        raise TypeError(
            f"data must be a MapDataset of pairs (x, y), but its element {index} is {what}: "
            f"{advice}"
        )
    x, y = element
    try:
        return np.asarray(x), np.asarray(y)
    except ValueError as error:
        raise TypeError(f"data must hold real numbers; element {index}: {error}") from error
