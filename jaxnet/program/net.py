"""A torch net's programs as a Flax module."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from jaxnet._utils.validation import nearest
from jaxnet.cache import memoize
from jaxnet.nn import Draws, Module, Variables
from jaxnet.nn.draws import Draw, insert
from jaxnet.program._inputs import choose
from jaxnet.program.data import Port, Program, Tensor
from jaxnet.program.draws import Given, Keyed
from jaxnet.program.registry import is_random
from jaxnet.program.run import Drawer, run, trace_draws


class TorchNet(Module):
    """A torch net's own forward, from its exported graphs; `jaxnet.convert.from_torch` makes it.

    `apply(variables, *inputs)` is `net.eval()(*inputs)`, and with `train=True` it is
    `net.train()(*inputs)`; what that changes in buffers is returned where their collections are
    `mutable`. Inputs are nested as in the call that was exported; several may also come as one
    tuple, or as one mapping of their names. It is a pure function, for jit, grad, vmap and scan,
    also within other Flax modules.

    `init`, as well as `jaxnet.init`, gives the tensors that torch's net had, whatever the key:
    how its constructor drew them is not known.

    Raises:
      ValueError: inputs have other sizes than those that were exported, or are nested otherwise;
        the net draws random numbers and has neither `draws` nor a key; `capture` names no layer.
      TypeError: an input is of another kind.

    torch keeps mode, buffers and random state in the net and beside it; here all are arguments.
    """

    port: Port

    def initial_variables(self, generator: Any) -> tuple[Any, Variables]:
        """The tensors that torch's net had; nothing is drawn."""
        return generator, start_variables(self.port)

    def list_draws(self, *args: Any, **kwargs: Any) -> list[Draw]:
        """What `train=True` draws at random, in torch's order."""
        programs = self.port.list_programs(True)
        if not any(is_random(node.op) for node in programs[0].nodes):
            return []
        program, inputs = choose(programs, args, kwargs)
        leaves = tuple(_describe(leaf) for leaf in inputs)
        wide = jnp.zeros((), float).dtype == np.float64
        return list(_list_draws(program, self.port.tensors, leaves, wide))

    @flax.linen.compact
    def __call__(
        self,
        *args: Any,
        train: bool = False,
        draws: Draws | None = None,
        capture: bool | Collection[str] = (),
        **kwargs: Any,
    ) -> Any:
        """What torch's net gives, nested as there.

        Args:
          args, kwargs: the net's inputs.
          train: training mode.
          draws: what it draws at random, as `jaxnet.nn.draw` gives it; without it, the key of
            `rngs={"dropout": key}` draws JAX's numbers.
          capture: names of layers, "layer1.0.conv1", or True for all: their outputs are returned
            beside the net's, `(outputs, {name: output})`.
        """
        program, leaves = choose(self.port.list_programs(train), args, kwargs)
        trees = {name: self._read(*name) for name in _list_tops(self.port.tensors)}
        tensors = _name_tensors(self.port, trees)
        source = self._open_draws(draws)
        layers = _find_layers(program, capture)
        seen: dict[str, Any] = {}

        def watch(name, value):
            if name in layers.values():
                seen[name] = value

        outputs, changed = run(
            program, tensors, leaves, draws=source, watch=watch if layers else None
        )
        if isinstance(source, Given):
            source.check_all()
        self._write(changed, tensors, trees)
        values = {**tensors, **dict(zip((u.name for u in program.users), leaves, strict=True))}
        values |= seen
        return (outputs, {k: values[v] for k, v in layers.items()}) if capture else outputs

    def _read(self, collection: str, top: str) -> Any:
        """The tensors under a first name, in a collection."""
        scope: Any = self.scope  # not `self.param`, to which names of torch's may be attributes
        if scope.has_variable(collection, top):
            return scope.get_variable(collection, top)
        if not self.is_initializing():
            raise ValueError(
                f"variables must have {top!r} in {collection!r}, as from_torch gives them"
            )
        tree = start_variables(self.port)[collection][top]
        if collection == "params":
            return scope.param(top, lambda key: tree)
        return scope.variable(collection, top, lambda: tree).value

    def _open_draws(self, draws: Any) -> Drawer | None:
        if draws is not None:
            return Given(draws)
        if self.has_rng("dropout"):
            return Keyed(self.make_rng("dropout"))
        return Keyed(self.make_rng("params")) if self.is_initializing() else None

    def _write(self, changed: dict[str, Any], tensors: Any, trees: Any) -> None:
        """Put changed buffers into the collections that are mutable."""
        if self.is_initializing() or not changed:
            return
        scope: Any = self.scope
        aliases = dict(self.port.aliases)
        places = {each.name: each.collection for each in self.port.tensors}
        written: dict[tuple[str, str], Any] = {}
        for name, value in changed.items():
            name = aliases.get(name, name)
            top, *path = name.split(".")
            place = places[name], top
            value = lax.stop_gradient(value).astype(tensors[name].dtype)
            tree = written.get(place, trees[place])
            written[place] = insert(tree, path, value)
        for (collection, top), tree in written.items():
            if self.is_mutable_collection(collection):
                scope.put_variable(collection, top, tree)


def start_variables(port: Port) -> Variables:
    """The tensors that torch's net had, in their collections."""
    return nest_tensors(port.tensors, port.start)


def nest_tensors(tensors: Iterable[Tensor], named: Mapping[str, Any]) -> Variables:
    """Tensors under torch's names in their collections."""
    flat: dict[str, dict[tuple[str, ...], Any]] = {"params": {}}
    for each in tensors:
        array = jax.device_put(named[each.name])
        flat.setdefault(each.collection, {})[tuple(each.name.split("."))] = array
    return {collection: unflatten_dict(tree) for collection, tree in flat.items()}


def _list_tops(tensors: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    """The collections, and the first parts of the names in each."""
    return list(dict.fromkeys((each.collection, each.name.split(".")[0]) for each in tensors))


def _name_tensors(port: Port, trees: Any) -> dict[str, Any]:
    """Tensors under torch's names; those that torch does not train get no gradient."""
    found: dict[str, Any] = {}
    for (_, top), tree in trees.items():
        flat = flatten_dict(tree, sep=".") if hasattr(tree, "items") else {"": tree}
        found |= {f"{top}.{name}".rstrip("."): value for name, value in flat.items()}
    for each in port.tensors:
        if each.name not in found:
            raise ValueError(
                f"variables must have {each.name!r} in {each.collection!r}, {each.spec}"
                f"{nearest(each.name, found)}"
            )
        if np.shape(found[each.name]) != each.spec.shape:
            shape = np.shape(found[each.name])
            raise ValueError(f"variables: {each.name!r} must be {each.spec}, not of shape {shape}")
        if each.frozen:
            found[each.name] = lax.stop_gradient(found[each.name])
    return found


def _find_layers(program: Program, capture: bool | Collection[str]) -> dict[str, str]:
    """The values of the layers that are asked for."""
    layers = dict(program.layers)
    if isinstance(capture, bool):
        return layers if capture else {}
    if isinstance(capture, str):
        raise TypeError(f"capture must be True or a collection of names, not {capture!r}")
    for name in capture:
        if name not in layers:
            raise ValueError(
                f"capture must name layers of the net, not {name!r}{nearest(name, layers)}"
            )
    return {name: layers[name] for name in capture}


def _describe(leaf: Any) -> Any:
    return (tuple(leaf.shape), leaf.dtype.name) if hasattr(leaf, "dtype") else leaf


@memoize
def _list_draws(
    program: Program, known: tuple[Tensor, ...], leaves: tuple[Any, ...], wide: bool
) -> tuple[Draw, ...]:
    """`wide` tells JAX's two widths apart, in each of which it is traced."""
    given = [jax.ShapeDtypeStruct(*leaf) if isinstance(leaf, tuple) else leaf for leaf in leaves]
    return tuple(draw for _, draw in trace_draws(program, known, given))
