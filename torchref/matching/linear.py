"""Linear maps from torch's tensors to the leaves of a port's tree: `leaf = M tensors`.

A port's gradient is compared as torch's through the transpose, its updates through
`M^T (M M^T)^-1`, the smallest change of torch's tensors that gives them. Where each number of
torch's is one number of the port's, both are the inverse.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torchref.matching.spelling import name_path, parent
from torchref.steps import Named


class Leaf(NamedTuple):
    """A leaf of a tree, by its place among `jax.tree.leaves`."""

    position: int
    path: str
    value: np.ndarray


def list_leaves(tree: Any) -> list[Leaf]:
    """The leaves of a tree with their dotted paths."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return [Leaf(i, name_path(path), np.asarray(leaf)) for i, (path, leaf) in enumerate(found)]


class Layout:
    """torch's tensors as one vector: each number of theirs has a place in it."""

    def __init__(self, named: Named) -> None:
        self.shapes = {name: array.shape for name, array in named.items()}
        sizes = [array.size for array in named.values()]
        ends = np.cumsum([0, *sizes])
        self.offsets = dict(zip(named, (int(end) for end in ends), strict=False))
        self.size = int(ends[-1])

    def places(self, name: str) -> np.ndarray:
        """The places of a tensor's numbers, in its shape."""
        shape = self.shapes[name]
        return self.offsets[name] + np.arange(int(np.prod(shape))).reshape(shape)

    def join(self, named: Named) -> np.ndarray:
        """The vector, and a zero at its end; zeros for the tensors that `named` lacks."""
        joined = np.zeros(self.size + 1)
        for name in self.shapes.keys() & named.keys():
            joined[self.places(name)] = named[name]
        return joined

    def split(self, joined: np.ndarray, names: Iterable[str]) -> Named:
        """Tensors of the vector."""
        return {name: joined[self.places(name)] for name in names}

    def owners(self, places: np.ndarray) -> list[str]:
        """The tensors that have numbers among these places, in their order."""
        starts = np.array([*self.offsets.values()])
        places = places[places >= 0]
        found = np.unique(np.searchsorted(starts, places, side="right") - 1)
        names = list(self.offsets)
        return [names[i] for i in found]


class IndexMap:
    """Each number of a leaf is one number of torch's, or the sum of several.

    Args:
      layout: of torch's tensors.
      tree: the port's, for the paths of its leaves.
      held: by the leaf's position, the places of the numbers that make it, `(terms, *shape)`; -1
        where a sum has fewer terms.
      how: by the path of each leaf, what it holds and how that was decided.
      without: torch's tensors that no leaf holds, and why that is thought.
    """

    def __init__(
        self,
        layout: Layout,
        tree: Any,
        held: Mapping[int, np.ndarray],
        how: Mapping[str, str],
        without: Mapping[str, str],
    ) -> None:
        self._layout, self._held = layout, held
        self._paths = [leaf.path for leaf in list_leaves(tree)]
        self._owners = {at: layout.owners(places) for at, places in held.items()}
        self._names = [name for name in layout.shapes if name not in without]
        self.how, self.without = how, without
        self.terms: Mapping[str, int] = {
            name: len(places)
            for at, places in held.items()
            for name in self._owners[at]
            if len(places) > 1
        }
        """torch's tensors of which a leaf holds sums, and of how many tensors each."""

    def place(self, tree: Any, named: Named) -> Any:
        """The tree with torch's tensors in it; what `named` lacks stays the tree's."""
        return self._put(tree, named, shared=False)

    def push_grads(self, tree: Any, named: Named) -> Any:
        """The tree of gradients which `pull_grads` takes to `named`."""
        return self._put(tree, named, shared=True)

    def pull(self, tree: Any) -> Named:
        """A tree of updates, or of differences of weights, under torch's names."""
        return self._take(tree, shared=True)

    def pull_grads(self, tree: Any) -> Named:
        """A tree of gradients under torch's names."""
        return self._take(tree, shared=False)

    def others(self, tree: Any) -> Named:
        """Leaves that hold nothing of torch's, by their paths."""
        leaves = jax.tree.leaves(tree)
        return {
            path: np.asarray(leaves[at])
            for at, path in enumerate(self._paths)
            if at not in self._held
        }

    def layers(self) -> dict[str, str]:
        """By the path of a layer of the port's, torch's layer whose tensors alone it holds."""
        found: dict[str, set[str]] = {}
        for at, owners in self._owners.items():
            found.setdefault(parent(self._paths[at]), set()).update(map(parent, owners))
        return {path: min(names) for path, names in found.items() if len(names) == 1}

    def _put(self, tree: Any, named: Named, *, shared: bool) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        joined = self._layout.join(named)
        for at, places in self._held.items():
            there = [name in named for name in self._owners[at]]
            if not any(there):
                continue
            leaf = joined[places].sum(0) / (_count(places) if shared else 1)
            if not all(there):
                known = self._layout.join({n: np.ones(self._layout.shapes[n]) for n in named})
                known[-1] = 1
                leaf = np.where(known[places].all(0), leaf, np.asarray(leaves[at]))
            leaves[at] = np.asarray(leaf, np.asarray(leaves[at]).dtype)
        return jax.tree.unflatten(structure, leaves)

    def _take(self, tree: Any, shared: bool) -> Named:
        leaves = jax.tree.leaves(tree)
        types = {np.asarray(leaf).dtype for leaf in leaves}
        joined = np.zeros(self._layout.size + 1)
        for at, places in self._held.items():
            joined[places] = np.asarray(leaves[at]) / (_count(places) if shared else 1)
        found = self._layout.split(joined, self._names)
        kind = np.result_type(*types) if types else np.float32
        return {name: array.astype(kind) for name, array in found.items()}


def _count(places: np.ndarray) -> np.ndarray:
    return (places >= 0).sum(0)


class FunctionMap:
    """The caller's own linear function of torch's tensors, used as an `IndexMap` is.

    Raises:
      ValueError: the function gives another tree, is not linear, or makes one number of torch's
        several numbers of the port's, which would then be trained apart.
    """

    def __init__(self, function: Callable[[Any], Any], named: Named, tree: Any) -> None:
        self._function = function
        self._zeros = {name: jnp.zeros(array.shape) for name, array in named.items()}
        self._paths = [leaf.path for leaf in list_leaves(tree)]
        self._check_tree(tree)
        _, transpose = jax.vjp(function, self._zeros)
        self._transpose = jax.jit(lambda tree: transpose(tree)[0])
        ones = jax.tree.map(lambda leaf: jnp.ones(np.shape(leaf)), tree)
        self._count = function(self._transpose(ones))
        self._check_linear(tree)
        back = self._transpose(ones)
        self.without: Mapping[str, str] = {
            name: "port_from_torch does not use it"
            for name, array in back.items()
            if not np.asarray(array).any()
        }
        self.how: Mapping[str, str] = {path: "port_from_torch" for path in self._paths}
        back = jax.tree.map(np.asarray, self._transpose(self._count))
        self.terms: Mapping[str, int] = {
            n: round(float(a.max())) for n, a in back.items() if a.size and a.max() > 1
        }

    def place(self, tree: Any, named: Named) -> Any:
        return self._fill(tree, self._function(self._complete(self.pull(tree), named)))

    def push_grads(self, tree: Any, named: Named) -> Any:
        made = self._function(self._complete(self.pull_grads(tree), named))
        return self._fill(tree, self._divide(made))

    def pull(self, tree: Any) -> Named:
        return self.pull_grads(self._divide(tree))

    def pull_grads(self, tree: Any) -> Named:
        back = self._transpose(jax.tree.map(jnp.float32, tree))
        return {name: np.asarray(a) for name, a in back.items() if name not in self.without}

    def others(self, tree: Any) -> Named:
        leaves, counts = jax.tree.leaves(tree), jax.tree.leaves(self._count)
        return {
            path: np.asarray(leaf)
            for path, leaf, count in zip(self._paths, leaves, counts, strict=True)
            if not np.asarray(count).any()
        }

    def layers(self) -> dict[str, str]:
        return {}

    def _complete(self, mine: Named, named: Named) -> dict[str, Any]:
        known = {name: jnp.float32(named[name]) for name in self._zeros if name in named}
        return self._zeros | mine | known

    def _divide(self, tree: Any) -> Any:
        return jax.tree.map(lambda leaf, n: leaf / jnp.where(n == 0, 1, n), tree, self._count)

    def _fill(self, tree: Any, made: Any) -> Any:
        return jax.tree.map(
            lambda leaf, new, n: np.asarray(np.where(n == 0, leaf, new), np.asarray(leaf).dtype),
            tree,
            made,
            self._count,
        )

    def _check_tree(self, tree: Any) -> None:
        made = jax.eval_shape(self._function, self._zeros)
        if jax.tree.structure(made) != jax.tree.structure(tree):
            raise ValueError(
                "port_from_torch must give a tree like the port's parameters, "
                f"{self._paths}, not {[leaf.path for leaf in list_leaves(_zeros_like(made))]}"
            )
        for path, new, leaf in zip(
            self._paths, jax.tree.leaves(made), jax.tree.leaves(tree), strict=True
        ):
            if new.shape != np.shape(leaf):
                raise ValueError(
                    f"port_from_torch gives {path} the shape {new.shape}; the port's has "
                    f"{np.shape(leaf)}"
                )

    def _check_linear(self, tree: Any) -> None:
        rng = np.random.default_rng(0)
        one, two = (
            {k: jnp.float32(rng.normal(size=a.shape)) for k, a in self._zeros.items()}
            for _ in range(2)
        )
        apart = jax.tree.map(lambda a, b: a - 2 * b, self._function(one), self._function(two))
        both = self._function({name: one[name] - 2 * two[name] for name in one})
        if not _alike(both, apart):
            raise ValueError("port_from_torch must be linear: f(a - 2 b) is not f(a) - 2 f(b)")
        some = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=np.shape(leaf))), tree)
        if not _alike(
            self._function(self._transpose(some)), jax.tree.map(jnp.multiply, some, self._count)
        ):
            raise ValueError(
                "port_from_torch must make each number of torch's one number of the port's: copies "
                "would be trained apart"
            )


WeightMap = IndexMap | FunctionMap
"""How a port's tree holds torch's tensors."""


def _alike(ours: Any, theirs: Any) -> bool:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)


def _zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
