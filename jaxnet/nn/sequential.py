"""Sequential: layers one after another, numbered as in torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen

from jaxnet._utils.validation import nearest
from jaxnet.nn.base import Draws, Module, Variables, call_keywords, init
from jaxnet.nn.draws import Drawing
from jaxnet.nn.layers import Dropout
from jaxnet.random import Generator


class Sequential(Module):
    """Layers one after another, their variables numbered from "0": `torch.nn.Sequential`.

    Layers without variables count too, so the numbers are those of torch's state_dict, and nested
    ones nest. `draws` is nested like the parameters, `{"1": keep}`. Other Flax modules may be
    among the layers: those whose call takes `train`, `deterministic` or `use_running_average` are
    told whether the net trains.

    torch takes the layers as separate arguments, this takes a list of them; `names` are the keys of
    torch's OrderedDict, and the variables then bear these instead of numbers. A layer object with
    variables that is used twice, also in nested layers, shares them in torch; here it is rejected.

    Raises:
      TypeError: `layers` is not a list of Flax modules.
      ValueError: a layer with variables is used twice, `names` are not as many as the layers, each
        once, or have "params" among them, or `draws` names a layer that draws nothing.

    >>> import jax, jax.numpy as jnp
    >>> from jaxnet.nn import Linear, ReLU
    >>> net = Sequential([Linear(3, 2), ReLU(), Linear(2, 1)])
    >>> variables = net.init(jax.random.key(0), jnp.ones((5, 3)))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'0': {'bias': (2,), 'weight': (2, 3)}, '2': {'bias': (1,), 'weight': (1, 2)}}

    Source: `torch.nn.Sequential`.
    """

    layers: Sequence[flax.linen.Module]
    names: Sequence[str] | None = None

    def __post_init__(self):
        if isinstance(self.layers, flax.linen.Module):
            raise TypeError("layers must be a list, Sequential([first, second]), not one module")
        if not isinstance(self.layers, Iterable):
            raise TypeError(f"layers must be a list of Flax modules, not {self.layers!r}")
        self.layers = tuple(self.layers)  # hashable, so that jit can tell nets apart
        for layer in self.layers:
            if not isinstance(layer, flax.linen.Module):
                raise TypeError(f"layers must be Flax modules, not {layer!r}")
        if self.names is not None:
            wanted = f"names must be {len(self.layers)} different ones"
            if not isinstance(self.names, Iterable):
                raise TypeError(f"{wanted}, not {self.names!r}")
            self.names = tuple(self.names)
            if len(set(self.names)) != len(self.names) or len(self.names) != len(self.layers):
                raise ValueError(f"{wanted}, not {self.names}")
            if "params" in self.names:
                raise ValueError("names must not have 'params' among them: Flax keeps that name")
            if self.names == tuple(map(str, range(len(self.layers)))):
                self.names = None  # one net, one form
        seen = set()
        for layer in _with_variables(self.layers):
            if id(layer) in seen:
                raise ValueError(f"layers holds one {type(layer).__name__} twice: make two layers")
            seen.add(id(layer))
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Each layer's variables under its name, drawn in order."""
        variables: Variables = {"params": {}}
        for name, layer in self._named():
            generator, own = init(layer, generator)
            for collection, values in own.items():
                if values:
                    variables.setdefault(collection, {})[name] = values
        return generator, variables

    def _named(self) -> list[tuple[str, Any]]:
        names = self.names or map(str, range(len(self.layers)))
        return list(zip(names, self.layers, strict=True))

    @flax.linen.compact
    def __call__(self, x: Any, train: bool = False, draws: Draws | None = None) -> Any:
        """x through every layer in turn."""
        draws = {} if draws is None else draws
        if not isinstance(draws, Mapping):
            raise TypeError(f"draws must be a mapping of layers, not {type(draws).__name__}")
        takers = [
            name
            for name, layer in self._named()
            if isinstance(layer, Dropout | Sequential | Drawing)
        ]
        if stray := [name for name in draws if name not in takers]:
            meant = nearest(stray[0], takers)
            raise ValueError(f"draws names {stray}, but only the layers {takers} draw{meant}")
        for name, layer in self._named():
            keywords = call_keywords(layer, train, draws.get(name))
            x = layer.clone(parent=self, name=name)(x, **keywords)
        return x


# No method: what Flax counts the calls of, as `tabulate` does, may not be called so early.
def _with_variables(layers: Iterable[flax.linen.Module]) -> Iterator[Module]:
    """The layers, also nested ones, that draw torch's variables and so have some."""
    for layer in layers:
        if isinstance(layer, Sequential):
            yield from _with_variables(layer.layers)
        elif isinstance(layer, Module):
            if type(layer).initial_variables is not Module.initial_variables:
                yield layer
