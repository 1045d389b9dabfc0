"""Where the outputs of torch's layers are among what a port computes."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from torchref.steps import Named

_NEAR = 0.1
"""How far, of its size, an array may be from a layer's output and still be taken for its like."""


class Sighting(NamedTuple):
    """An array of the port's that is most like a layer's output."""

    place: int
    """Of the value, in the order in which the port computes."""
    axes: tuple[int, ...] | None
    """In which order its axes are torch's; None where it is only reshaped."""
    gap: float
    """Its distance from torch's, as a share of torch's size."""

    def turn(self, array: np.ndarray, like: tuple[int, ...]) -> np.ndarray:
        """The port's array as torch has it."""
        turned = array if self.axes is None else np.transpose(array, self.axes)
        return turned.reshape(like)


def sight(named: Named, values: Mapping[int, Any]) -> dict[str, tuple[Sighting, np.ndarray]]:
    """Of some of the port's values, by their places, what is most like each of some arrays.

    >>> found = sight({"0": np.array([[1.0, 2.0], [3.0, 5.0]])}, {7: np.array([[1.0, 3], [2, 5]])})
    >>> found["0"][0]
    Sighting(place=7, axes=(1, 0), gap=0.0)
    """
    best: dict[str, tuple[Sighting, np.ndarray]] = {}
    named = {n: np.asarray(array, np.float64) for n, array in named.items() if _tells(array)}
    sizes = {name: np.linalg.norm(array) for name, array in named.items()}
    for index, value in values.items():
        array = np.asarray(value)
        array = array if array.dtype.kind == "f" else array.astype(np.float32)  # bfloat16
        size = np.linalg.norm(array.astype(np.float64))
        for name, theirs in named.items():
            near = _NEAR * sizes[name]
            if array.size != theirs.size or not abs(size - sizes[name]) <= near:
                continue
            for axes in list_axes(array.shape, theirs.shape):
                turned = Sighting(index, axes, 0.0).turn(array, theirs.shape)
                gap = float(np.linalg.norm(turned - theirs) / sizes[name])
                if gap <= _NEAR and (name not in best or gap < best[name][0].gap):
                    best[name] = Sighting(index, axes, gap), turned
    return best


def list_axes(ours: tuple[int, ...], torchs: tuple[int, ...]) -> Iterator[tuple[int, ...] | None]:
    """The orders of a port's axes that give torch's shape, lengths of 1 apart; None reshapes."""
    yield None
    wanted = [n for n in torchs if n != 1]
    for axes in itertools.permutations(range(len(ours))):
        if axes != tuple(range(len(ours))) and [ours[a] for a in axes if ours[a] != 1] == wanted:
            yield axes


def _tells(array: np.ndarray) -> bool:
    """Whether an array can be told from others: constants are everywhere."""
    return array.dtype.kind == "f" and bool(np.isfinite(array).all()) and len(np.unique(array)) > 2


def find_place(
    order: Iterable[str], agrees: Callable[[str], bool], depends: Callable[[str, str], bool]
) -> str | None:
    """The first layer whose output the port has not, and no later one's that depends on it.

    Args:
      order: torch's layers in the order of execution.
      agrees: whether the port computes a layer's output.
      depends: whether the first layer's output depends on the second's.
    """
    order = list(order)
    found = [name for name in order if agrees(name)]
    for at, name in enumerate(order):
        if name not in found and not any(
            depends(other, name) for other in order[at + 1 :] if other in found
        ):
            return name
    return None


def align(ours: Any, shape: tuple[int, ...]) -> Any:
    """An array with its axes as torch has them, where that is told by their lengths."""
    if ours.shape == shape or ours.size != np.prod(shape):
        return ours
    orders = [axes for axes in list_axes(ours.shape, shape) if axes is not None]
    return ours.transpose(orders[0]).reshape(shape) if len(orders) == 1 else ours


def make_depends(nodes: Mapping[str, Any]) -> Callable[[str, str], bool]:
    """Whether one output depends on another, from the nodes of torch's graph that gave them."""
    behind: dict[str, set[object]] = {}

    def depends(later: str, earlier: str) -> bool:
        if later not in behind:
            behind[later] = _walk(nodes[later])
        return nodes[earlier] in behind[later]

    return depends


def _walk(node: object) -> set[object]:
    seen: set[object] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in getattr(node, "next_functions", ())]
    return seen
