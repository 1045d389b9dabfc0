"""Rows that stay where they are until a batch takes them: mapped from a file, or a data set's."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

from jaxnet.checks import check_finite, check_pair, check_real
from jaxnet.precision import Precision, cast_array

BLOCK = 2**24
"""Bytes of rows, about, that are read at once: two such blocks are in memory at a time."""

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class Rows:
    """Rows `(x, y)` that are read where a batch needs them, in whatever order it names.

    Args:
      data: `(x, y)`, arrays of which one at least is a `numpy.memmap`; or a Grain `MapDataset`
        whose elements are `(x, y)`, one row each.
      precision: what the run computes in; floats are converted as they are read.

    Raises:
      ValueError: the arrays differ in length, or the data set has no end.
      TypeError: an element is no pair, or holds what are no real numbers.
    """

    def __init__(self, data: Any, precision: Precision = "parity"):
        self._data, self._precision = data, precision
        self._unseen = None  # rows of which nobody knows whether they are finite
        if is_map_dataset(data):
            self._count = len(data)
            if self._count == sys.maxsize:
                raise ValueError("data must be a MapDataset that ends: fit's epochs repeat it")
            if self._count == 0:
                raise ValueError("data must have at least one row; the MapDataset is empty")
            first = self._read_elements(np.zeros(1, int))
        else:
            self._count = len(data[0])
            first = tuple(np.asarray(values[:1]) for values in data)
        check_real(x=first[0], y=first[1])
        self.like = tuple(self._cast(values[:0]) for values in first)
        """x and y without rows: their types, and the shape of a row."""
        self._unseen = np.issubdtype(first[0].dtype, np.floating) and np.ones(self._count, bool)

    def __len__(self) -> int:
        return self._count

    def with_precision(self, precision: Precision) -> "Rows":
        """The same rows for a run of another precision."""
        return Rows(self._data, precision)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of some rows, read now.

        Raises:
          ValueError: x holds nan or an infinity in one of them, the first time that it is read.
        """
        if is_map_dataset(self._data):
            x, y = self._read_elements(indices)
        else:
            x, y = (_pick(values, indices) for values in self._data)
        if self._unseen is not False and self._unseen[indices].any():
            _check_rows_finite(x, indices)
            self._unseen[indices] = False
        return self._cast(x), self._cast(y)

    def describe(self) -> list[str]:
        """Type and shape of x and of y, all rows together."""
        return [f"{like.dtype} {(self._count, *like.shape[1:])}" for like in self.like]

    @property
    def bytes(self) -> int:
        """Of one row."""
        return sum(like.dtype.itemsize * int(np.prod(like.shape[1:])) for like in self.like)

    def _read_elements(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        elements = [_as_element(self._data[int(index)], int(index)) for index in indices]
        try:
            x, y = (np.stack(values) for values in zip(*elements, strict=True))
        except ValueError as error:
            raise ValueError(f"data must have rows of one shape: {error}") from error
        return x, y

    def _cast(self, values: np.ndarray) -> np.ndarray:
        kind = cast_array(np.zeros(0, values.dtype), self._precision).dtype
        return np.asarray(values).astype(kind, copy=False)


def is_map_dataset(data: Any) -> bool:
    """Whether it is a Grain `MapDataset`; where Grain was not imported, nothing is.

    >>> is_map_dataset(range(3))
    False
    """
    grain = sys.modules.get("grain")
    return grain is not None and isinstance(data, grain.MapDataset)


def is_streamed(data: Any) -> bool:
    """Whether data are read as they are needed: a `MapDataset`, or a pair with a mapped array.

    >>> is_streamed((np.zeros(2), np.zeros(2)))
    False
    """
    if is_map_dataset(data):
        return True
    if not isinstance(data, tuple | list):
        return False
    return any(isinstance(values, np.memmap) for values in data)


def count_rows(data: Any) -> int:
    """How many rows there are in a pair, a `MapDataset` or `Rows`.

    >>> count_rows((np.zeros(2), np.zeros(2)))
    2
    """
    return len(data) if isinstance(data, Rows) or is_map_dataset(data) else len(data[0])


def check_data(data: Any) -> Any:
    """A pair, or a `MapDataset` as it is; refuse all else."""
    return data if is_map_dataset(data) else check_pair(data)


def prefetch(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """What `make` makes of each item, the next one in a thread while the last one is used.

    >>> list(prefetch(lambda number: number + 1, range(3)))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for item in items:
            last, coming = coming, pool.submit(make, item)
            if last is not None:
                made = last.result()
                del last  # its result would stay with it
                yield made
                del made
        if coming is not None:
            yield coming.result()


def cut(count: int, size: int) -> list[range]:
    """So many steps or rows in stretches of at most `size`.

    >>> cut(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]


def _pick(values: Any, indices: np.ndarray) -> np.ndarray:
    """Rows of an array, a copy; without gathering where they lie in a row."""
    begin, count = int(indices[0]), len(indices)
    if np.array_equal(indices, np.arange(begin, begin + count)):
        return np.array(values[begin : begin + count])
    return np.asarray(np.take(values, indices, axis=0))


def _as_element(element: Any, index: int) -> tuple[Any, Any]:
    if not isinstance(element, tuple | list) or len(element) != 2:
        what = type(element).__name__
        raise TypeError(
            f"data must be a MapDataset of pairs (x, y), but its element {index} is a {what}: "
            "data.map(lambda element: (element[...], element[...])) makes pairs"
        )
    return element[0], element[1]


def _check_rows_finite(x: np.ndarray, indices: np.ndarray) -> None:
    try:
        check_finite(x)
    except ValueError:
        finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        at = int(np.argmin(finite))
        value = x[at][~np.isfinite(x[at])].reshape(-1)[0]
        raise ValueError(
            f"x must be finite, but its row {int(indices[at])} holds {value}"
        ) from None


def put_pieces(
    rows: Rows, indices: np.ndarray, shardings: tuple[Any, Any] | None
) -> tuple[jax.Array, jax.Array]:
    """x and y of the rows that an array of indices names, (..., *row), on the device or the mesh.

    Of what lies elsewhere, on another process's devices, nothing is read.
    """
    if shardings is None:
        x, y = rows.take(indices.reshape(-1))
        return tuple(jax.device_put(v.reshape(*indices.shape, *v.shape[1:])) for v in (x, y))
    where = shardings[0].addressable_devices_indices_map(indices.shape)
    read: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    parts: list[list[jax.Array]] = [[], []]
    for device, index in where.items():
        named = indices[index]
        if str(index) not in read:
            x, y = rows.take(named.reshape(-1))
            read[str(index)] = x, y
        for part, values in zip(parts, read[str(index)], strict=True):
            part.append(jax.device_put(values.reshape(*named.shape, *values.shape[1:]), device))
    return tuple(
        jax.make_array_from_single_device_arrays(
            (*indices.shape, *part[0].shape[indices.ndim :]), sharding, part
        )
        for part, sharding in zip(parts, shardings, strict=True)
    )
