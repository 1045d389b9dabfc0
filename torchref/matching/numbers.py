"""Which tensors move the outputs alike, where names and values leave a choice."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from scipy.spatial import KDTree

from torchref.matching.linear import Leaf

_CLEAR = 0.5
"""The best candidate's distance, as a share of the next one's, from which on it is chosen."""


class Prints(NamedTuple):
    """How the outputs move with each number: its gradient of a few random sums of the outputs."""

    torch: Mapping[str, np.ndarray]
    """By torch's names, `(sums, *shape)`."""
    port: Sequence[np.ndarray]
    """By the position of the leaf, `(sums, *shape)`."""


def assign(
    leaves: Sequence[Leaf], names: Sequence[str], away: Mapping[tuple[int, str], float]
) -> dict[int, str]:
    """By a leaf's position, the tensor that moves the outputs as it does, where that is clear.

    Args:
      leaves, names: those to be paired.
      away: by position and name, how far apart their prints are, 0 to 1; a pair that is not listed
        cannot be.
    """
    far = np.array([[away.get((leaf.position, name), 1e6) for name in names] for leaf in leaves])
    found = {}
    for i, j in zip(*scipy.optimize.linear_sum_assignment(far), strict=True):
        others = [1.0, *np.delete(far[i], j), *np.delete(far[:, j], i)]
        if far[i, j] < _CLEAR * min(others):
            found[leaves[i].position] = names[j]
    return found


def gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How far apart two prints are, 0 to 1; 1 where there is no effect, which tells nothing."""
    scale = np.linalg.norm(ours) + np.linalg.norm(theirs)
    return float(np.linalg.norm(ours - theirs) / scale) if scale else 1.0


def follow(leaf: np.ndarray, places: np.ndarray, theirs: np.ndarray) -> np.ndarray | None:
    """The place of each number of a leaf, by how it moves the outputs; None where that is unclear.

    Args:
      leaf: the leaf's prints, `(sums, size)`.
      places, theirs: of the numbers to choose from, their places and prints, `(sums, n)`.
    """
    found: Any = KDTree(theirs.T).query(leaf.T, k=2)  # inf without a second
    away, nearest = found
    if (away[:, 0] >= _CLEAR * away[:, 1]).any() or len(np.unique(nearest[:, 0])) < len(nearest):
        return None
    return places[nearest[:, 0]]
