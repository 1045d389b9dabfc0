"""Where a leaf's numbers are among torch's, by the numbers themselves."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from torchref.matching.linear import Layout
from torchref.steps import Named

_TELLING = 0.5
"""Of a leaf's numbers, the share that must be found nowhere else for the others to follow them."""


def list_layouts(places: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A tensor's places as a leaf of this shape may have them: axes in any order, then split,
    joined or of length 1, and a convolution's spatial axes the other way round."""
    if places.size != np.prod(shape):
        return
    for flip in (False, True) if places.ndim > 2 else (False,):
        turned = np.flip(places, tuple(range(2, places.ndim))) if flip else places
        for axes in itertools.permutations(range(places.ndim)):
            yield np.transpose(turned, axes).reshape(shape)


def find_layouts(
    layout: Layout, name: str, tensor: np.ndarray, leaf: np.ndarray
) -> list[np.ndarray]:
    """The layouts in which a tensor's numbers are a leaf's; the same places once."""
    found: list[np.ndarray] = []
    flat, offset = tensor.ravel(), layout.offsets[name]
    for places in list_layouts(layout.places(name), leaf.shape):
        new = not any(np.array_equal(places, other) for other in found)
        if new and np.array_equal(flat[places - offset], leaf):
            found.append(places)
    return found


class Pool:
    """The numbers of some of torch's tensors, and of sums of two of one layer, to be looked up."""

    def __init__(self, layout: Layout, named: Named) -> None:
        self._layout = layout
        sums = list(_pairs(named))
        values = [array.ravel() for array in named.values()]
        values += [(named[one] + named[two]).ravel() for one, two in sums]
        first = [layout.places(name).ravel() for name in named]
        first += [layout.places(one).ravel() for one, _ in sums]
        second = [np.full(array.size, -1) for array in named.values()]
        second += [layout.places(two).ravel() for _, two in sums]
        self._first = np.concatenate(first) if first else np.zeros(0, int)
        self._second = np.concatenate(second) if second else np.zeros(0, int)
        joined = np.concatenate(values) if values else np.zeros(0)
        self._order = np.argsort(joined, kind="stable")
        self._sorted, self._values = joined[self._order], joined

    def find(self, leaf: np.ndarray) -> np.ndarray | None:
        """The places of a leaf's numbers, `(terms, *shape)`, -1 for none, if the numbers tell."""
        if leaf.size < 2 or not self._sorted.size:
            return None
        begin = np.searchsorted(self._sorted, leaf, side="left")
        end = np.searchsorted(self._sorted, leaf, side="right")
        if (begin == end).any():
            return None
        rows = self._order[begin]
        if (sure := end - begin == 1).mean() < _TELLING:
            return None
        if not sure.all():
            rows = _complete(rows, sure)
            if rows.min() < 0 or rows.max() >= self._values.size:
                return None
            if not np.array_equal(self._values[rows], leaf):
                return None
        if len(np.unique(rows)) < rows.size:
            return None
        terms = np.stack([self._first[rows], self._second[rows]])
        return terms if (terms[1] >= 0).any() else terms[:1]


def _pairs(named: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Pairs of biases of one layer, which a port may hold as their sum."""
    flat = [name for name, array in named.items() if array.ndim == 1 and array.size > 1]
    for one, two in itertools.combinations(flat, 2):
        alike = named[one].shape == named[two].shape
        if alike and one.rpartition(".")[0] == two.rpartition(".")[0]:
            yield one, two


def _complete(rows: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Rows that are a sum of one offset along each axis, from those that are sure."""
    found = np.where(sure, rows, -1)
    total = np.zeros(rows.shape, int)
    for axis in range(rows.ndim):
        moved = np.moveaxis(found, axis, 0).reshape(rows.shape[axis], -1)
        both = (moved >= 0) & (moved[:1] >= 0)
        steps = [
            _mode((moved[i] - moved[0])[both[i]]) if both[i].any() else 0 for i in range(len(moved))
        ]
        total += np.array(steps).reshape([-1 if a == axis else 1 for a in range(rows.ndim)])
    return total + _mode((rows - total)[sure])


def _mode(numbers: np.ndarray) -> int:
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[np.argmax(counts)])
