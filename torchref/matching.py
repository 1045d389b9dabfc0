"""Which leaf of a port's tree holds which of torch's tensors."""

import itertools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from torchref.recorder import Named


class Match(NamedTuple):
    """A leaf, by its place among `jax.tree.leaves`, and torch's axes in the leaf's order."""

    leaf: int
    axes: tuple[int, ...]


class _Leaf(NamedTuple):
    position: int
    parent: str
    name: str
    value: np.ndarray


def match_tensors(
    named: Named, tree: Any, parents: dict[str, set[str]] | None = None, *, skip: int = 0
) -> dict[str, Match]:
    """The leaf that holds each of torch's tensors; tensors that none holds are left out.

    A leaf under torch's dotted name is the tensor's. The others are found by value, with their axes
    in any order, as a Flax `kernel` is torch's `weight` transposed; of several that fit (the zeros
    of two biases), the one beside a tensor of the same layer, or else the first. `parents` says
    where each layer's tensors are, and is filled on the way. The first `skip` parts of a path (the
    name of a collection) do not count.
    """
    leaves = _leaves(tree, skip)
    by_name = {f"{leaf.parent}.{leaf.name}".lstrip("."): leaf for leaf in leaves}
    found, parents = {}, {} if parents is None else parents
    if set(named) <= set(by_name):
        for name, array in named.items():
            if by_name[name].value.shape == array.shape:
                found[name] = Match(by_name[name].position, tuple(range(array.ndim)))
        return found
    fits = {name: list(_fits(array, leaves)) for name, array in named.items()}
    taken: set[int] = set()
    for name in sorted(fits, key=lambda name: len(fits[name])):  # the certain ones first
        layer = name.rpartition(".")[0]
        free = [(leaf, axes) for leaf, axes in fits[name] if leaf.position not in taken]
        beside = [pair for pair in free if pair[0].parent in parents.get(layer, ())]
        if not beside and len({_stem(leaf) for leaf, _ in free}) > 1:
            places = " and ".join(f"{leaf.parent}.{leaf.name}" for leaf, _ in free)
            raise ValueError(
                f"port has several tensors with the values of {name}, {places}: name them as torch "
                "does, or let the values differ"
            )
        if free:
            leaf, axes = (beside or free)[0]
            found[name] = Match(leaf.position, axes)
            taken.add(leaf.position)
            parents.setdefault(layer, set()).add(leaf.parent)
    return found


def place(tree: Any, named: Named, matches: dict[str, Match]) -> Any:
    """The tree with torch's tensors in the leaves that hold them."""
    leaves, structure = jax.tree.flatten(tree)
    for name, match in matches.items():
        array = np.transpose(named[name], match.axes)
        leaves[match.leaf] = np.asarray(array, leaves[match.leaf].dtype)
    return jax.tree.unflatten(structure, leaves)


def name_leaves(tree: Any, matches: dict[str, Match]) -> Named:
    """A tree's leaves under torch's names, with their axes in torch's order."""
    leaves = jax.tree.leaves(tree)
    return {
        name: np.transpose(np.asarray(leaves[match.leaf]), np.argsort(match.axes))
        for name, match in matches.items()
    }


def _leaves(tree: Any, skip: int) -> list[_Leaf]:
    """In the order of the layers' numbers, where Dense_10 follows Dense_9."""
    found = []
    for index, (path, leaf) in enumerate(jax.tree_util.tree_flatten_with_path(tree)[0]):
        parts = [jax.tree_util.keystr((key,), simple=True) for key in path][skip:]
        found.append(_Leaf(index, ".".join(parts[:-1]), parts[-1] if parts else "", leaf))
    found = [leaf._replace(value=np.asarray(leaf.value)) for leaf in found]
    return sorted(found, key=lambda leaf: _natural(f"{leaf.parent}.{leaf.name}"))


def _stem(leaf: _Leaf) -> str:
    """The name without its numbers: LayerNorm_0 and LayerNorm_1 are in their order."""
    return re.sub(r"\d+", "", f"{leaf.parent}.{leaf.name}")


def _natural(name: str) -> list[Any]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
    ]


def _fits(array: np.ndarray, leaves: Iterable[_Leaf]) -> Any:
    for leaf in leaves:
        if sorted(leaf.value.shape) == sorted(array.shape):
            for axes in itertools.permutations(range(array.ndim)):
                if np.array_equal(np.transpose(array, axes), leaf.value):
                    yield leaf, axes
                    break
