"""The search for which leaf holds which tensor: names first, then values, then numbers."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from torchref.matching.linear import IndexMap, Layout, Leaf, WeightMap, list_leaves
from torchref.matching.numbers import Prints, assign, follow, gap
from torchref.matching.spelling import parent, spell
from torchref.matching.values import Pool, find_layouts, list_layouts
from torchref.steps import Named

_ROUNDS = 3
"""How often the outputs are moved: a branch that starts at 0 hides what lies before it."""


def match(
    named: Named,
    tree: Any,
    move: Callable[[IndexMap], Prints] | None = None,
    beside: WeightMap | None = None,
) -> IndexMap:
    """The leaf, or the part of one, that holds each of torch's tensors.

    Args:
      named: torch's tensors.
      tree: the port's, which has been given torch's values.
      move: takes the prints of both sides with other weights in what a map has matched; asked only
        where names and values leave a choice.
      beside: the map of the port's parameters, where `tree` has its other collections: tensors of
        one layer lie beside one another.

    Raises:
      ValueError: a leaf is a copy of a tensor that another leaf holds.
    """
    search = _Search(named, tree, beside)
    search.by_name()
    search.pair_alone("by its values")
    search.by_lookup()
    search.beside_others()
    search.pair_alone("alone with its values")
    for _ in range(_ROUNDS if move is not None else 0):
        if not search.open_leaves() or not search.open_tensors():
            break
        assert move is not None
        before = len(search.held)
        search.by_numbers(move(search.finish()))
        search.beside_others()
        search.pair_alone("alone with its values")
        if len(search.held) == before:
            break
    search.by_name_alone()
    search.check_copies()
    return search.finish()


def match_names(named: Named, tree: Any) -> IndexMap:
    """The map of a tree whose leaves have torch's names, shapes and axes, as jaxnet's nets do."""
    search = _Search(named, tree, None)
    search.by_path()
    return search.finish()


class _Search:
    """What has been matched so far."""

    def __init__(self, named: Named, tree: Any, beside: WeightMap | None) -> None:
        self._named, self._tree = named, tree
        self._layers = {} if beside is None else beside.layers()
        self._layout = Layout(named)
        self._leaves = list_leaves(tree)
        self.held: dict[int, np.ndarray] = {}
        self._how: dict[str, str] = {}
        self._taken = np.zeros(self._layout.size + 1, bool)

    def open_leaves(self) -> list[Leaf]:
        return [leaf for leaf in self._leaves if leaf.position not in self.held]

    def open_tensors(self) -> Named:
        """Tensors of which no number has been found."""
        return {
            name: array
            for name, array in self._named.items()
            if array.size and not self._taken[self._layout.places(name)].any()
        }

    def finish(self) -> IndexMap:
        without = {}
        for name in self._named:
            places = self._layout.places(name)
            if (missing := int((~self._taken[places]).sum())) and missing == places.size:
                without[name] = "no leaf of the port holds it"
            elif missing:
                without[name] = f"no leaf of the port holds {missing} of its {places.size} numbers"
        return IndexMap(self._layout, self._tree, dict(self.held), dict(self._how), without)

    def _hold(self, leaf: Leaf, places: np.ndarray, how: str) -> None:
        terms = places if places.ndim == leaf.value.ndim + 1 else places[None]
        self.held[leaf.position] = terms
        self._taken[terms[terms >= 0]] = True
        owners = " + ".join(self._layout.owners(terms))
        self._how[leaf.path] = f"{owners}, {how}"

    def _fits(self, name: str, leaf: Leaf) -> list[np.ndarray]:
        return find_layouts(self._layout, name, self._named[name], leaf.value)

    def by_path(self) -> None:
        """A path that is torch's, whatever its values; the first part may be a collection's."""
        for leaf in self.open_leaves():
            for name in (leaf.path, leaf.path.partition(".")[2]):
                if name in self._named and self._named[name].shape == leaf.value.shape:
                    self._hold(leaf, self._layout.places(name), "by name")
                    break

    def by_name(self) -> None:
        """A path that is torch's, or is in the known spellings, and one layout has its values."""
        tensors, named = self._alone(self.open_tensors()), self.open_tensors()
        for leaf in self.open_leaves():
            if leaf.path in named and named[leaf.path].shape == leaf.value.shape:
                if np.array_equal(named[leaf.path], leaf.value, equal_nan=True):
                    self._hold(leaf, self._layout.places(leaf.path), "by name")
                continue
            for name in self._names_of(leaf, tensors):
                if name in named and (found := self._fits(name, leaf)):
                    self._hold(leaf, self._usual(name, leaf, found), "by name")
                    break

    def _names_of(self, leaf: Leaf, tensors: dict[tuple[str, ...], str | None]) -> list[str]:
        """Tensors that a leaf's path names: by itself, without a collection's name, and as its
        layer's parameters have been matched."""
        *layer, last = spell(leaf.path) or ("",)
        paths = [(*layer, last), (*layer[1:], last)]
        names = [tensors.get(path) for path in paths]
        for path in (parent(leaf.path), parent(leaf.path).partition(".")[2]):
            if path in self._layers:
                names.append(f"{self._layers[path]}.{last}".lstrip("."))
        return [name for name in names if name is not None]

    def _alone(self, named: Iterable[str]) -> dict[tuple[str, ...], str | None]:
        """Tensors by their spelled names; None where two are spelled alike."""
        found: dict[tuple[str, ...], str | None] = {}
        for name in named:
            found[spell(name)] = None if spell(name) in found else name
        return found

    def _usual(self, name: str, leaf: Leaf, found: list[np.ndarray]) -> np.ndarray:
        """Of several layouts with the same values, that of the spelling: a `kernel` is torch's
        weight with its axes reversed, spatial ones first."""
        if leaf.path.rpartition(".")[2] in ("kernel", "w") and len(found) > 1:
            places = self._layout.places(name)
            axes = (*range(2, places.ndim), 1, 0)
            usual = np.transpose(places, axes).reshape(leaf.value.shape)
            return next((each for each in found if np.array_equal(each, usual)), found[0])
        return found[0]

    def by_lookup(self) -> None:
        """Parts of tensors, stacks and sums of them, number by number."""
        pool = Pool(self._layout, self.open_tensors())
        for leaf in self.open_leaves():
            places = pool.find(leaf.value)
            if places is not None and not self._taken[places[places >= 0]].any():
                self._hold(leaf, places, "by its values")

    def beside_others(self) -> None:
        """A bias goes as the rows of the weight beside it do."""
        named = self.open_tensors()
        layers: dict[str, list[np.ndarray]] = {}
        for leaf in self._leaves:
            if leaf.position in self.held:
                layers.setdefault(parent(leaf.path), []).append(self.held[leaf.position][0])
        for leaf in self.open_leaves():
            for weight in layers.get(parent(leaf.path), ()):
                places = self._follow_rows(leaf, weight, named)
                if places is not None and not self._taken[places].any():
                    self._hold(leaf, places, "beside its layer's weight")
                    break

    def _follow_rows(self, leaf: Leaf, weight: np.ndarray, named: Named) -> np.ndarray | None:
        """The places of a bias whose numbers go with the first axis of torch's weight."""
        shape = leaf.value.shape
        if weight.ndim <= len(shape) or not leaf.value.size:
            return None
        leading = weight.reshape(*weight.shape[: len(shape)], -1)[..., 0]
        for rows in (weight.reshape(-1, *shape)[0], leading):
            if rows.shape != shape:
                continue
            places = self._beside(rows, named)
            if places is not None and np.array_equal(self._numbers()[places], leaf.value):
                return places
        return None

    def _beside(self, rows: np.ndarray, named: Named) -> np.ndarray | None:
        """For the place of one number of each row of weights, the place of the row's bias."""
        found = np.full(rows.shape, -1)
        for name in self._layout.owners(rows):
            last = name.rpartition(".")[2].replace("weight", "bias")
            bias = f"{parent(name)}.{last}".lstrip(".")
            if bias not in named or bias == name:
                return None
            of = self._layout.places(name)
            mine = (rows >= of.min()) & (rows <= of.max())
            row = (rows[mine] - of.min()) // int(np.prod(of.shape[1:]))
            if named[bias].shape != of.shape[:1]:
                return None
            found[mine] = self._layout.offsets[bias] + row
        return found if len(np.unique(found)) == found.size else None

    def _numbers(self) -> np.ndarray:
        """torch's numbers by their places."""
        return self._layout.join(self._named)[:-1].astype(np.float32)

    def pair_alone(self, how: str) -> None:
        """Leaves and tensors that alone have their values, in the one layout that fits."""
        tensors = _group(self.open_tensors().items())
        for key, found in _group((leaf, leaf.value) for leaf in self.open_leaves()).items():
            if len(found) == len(tensors.get(key, ())) == 1:
                fits = self._fits(tensors[key][0], found[0])
                if len(fits) == 1:
                    self._hold(found[0], fits[0], how)

    def by_numbers(self, prints: Prints) -> None:
        """What moves the outputs alike: whole tensors first, then number by number."""
        tensors = _group(self.open_tensors().items())
        for key, leaves in _group((leaf, leaf.value) for leaf in self.open_leaves()).items():
            named = {name: self._named[name] for name in tensors.get(key, ())}
            self._assign(leaves, named, prints)
        for leaf in self.open_leaves():
            self._follow(leaf, prints)

    def _assign(self, leaves: list[Leaf], named: Named, prints: Prints) -> None:
        """Pairs of the same values, each in the layout in which it moves the outputs alike."""
        layouts: dict[tuple[int, str], np.ndarray] = {}
        away: dict[tuple[int, str], float] = {}
        for leaf, name in itertools.product(leaves, named):
            ours = _flat(prints.port[leaf.position])
            theirs = _flat(prints.torch[name])
            offset = self._layout.offsets[name]
            for fit in self._fits(name, leaf):
                apart = gap(ours, theirs[:, fit.ravel() - offset])
                if apart < away.get((leaf.position, name), 1e6):
                    away[leaf.position, name] = apart
                    layouts[leaf.position, name] = fit
        found = assign(leaves, list(named), away) if leaves and named else {}
        for leaf in leaves:
            if leaf.position in found:
                places = layouts[leaf.position, found[leaf.position]]
                self._hold(leaf, places, "by how it moves the outputs")

    def _follow(self, leaf: Leaf, prints: Prints) -> None:
        joined = self._numbers()
        free = np.flatnonzero(~self._taken[:-1] & np.isin(joined, leaf.value))
        if free.size < leaf.value.size or not np.isin(leaf.value, joined[free]).all():
            return
        whole = np.concatenate([_flat(prints.torch[name]) for name in self._named], 1)[:, free]
        ours = _flat(prints.port[leaf.position])
        far = 1e6 * (np.abs(whole).max() + np.abs(ours).max())  # other values are no candidates
        ours = np.vstack([far * leaf.value.ravel(), ours])
        places = follow(ours, free, np.vstack([far * joined[free], whole]))
        if places is not None and np.array_equal(joined[places], leaf.value.ravel()):
            self._hold(leaf, places.reshape(leaf.value.shape), "by how it moves the outputs")

    def by_name_alone(self) -> None:
        """A path that is torch's, with other values: they are compared, and diverge."""
        tensors = self._alone(self.open_tensors())
        for leaf in self.open_leaves():
            for name in [leaf.path, *self._names_of(leaf, tensors)]:
                if name in self.open_tensors():
                    layouts = list(list_layouts(self._layout.places(name), leaf.value.shape))
                    if layouts:
                        self._hold(leaf, self._usual(name, leaf, layouts), "by name alone")
                        break

    def check_copies(self) -> None:
        """Reject a leaf with the values of a tensor that another leaf holds."""
        for leaf in self.open_leaves():
            if len(np.unique(leaf.value)) < 3:
                continue
            for name, array in self._named.items():
                if array.size == leaf.value.size and self._fits(name, leaf):
                    raise ValueError(
                        f"port holds {name} twice, the second time in {leaf.path}: torch has one "
                        "tensor there (tied weights), and a copy is trained apart"
                    )


def _group(pairs: Iterable[tuple[Any, np.ndarray]]) -> dict[bytes, list[Any]]:
    """Keys whose arrays have the same numbers, in any order."""
    found: dict[bytes, list[Any]] = {}
    for key, array in pairs:
        numbers = np.sort(np.asarray(array, np.float64), axis=None) + 0.0  # -0 is 0
        found.setdefault(numbers.tobytes(), []).append(key)
    return found


def _flat(prints: np.ndarray) -> np.ndarray:
    return prints.reshape(len(prints), -1)
