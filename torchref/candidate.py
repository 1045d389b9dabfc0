"""A JAX port of a torch net, as compiled functions of torch's own state."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet.cache import memoize
from jaxnet.nn import Dropout, call_keywords
from jaxnet.program import TorchNet
from torchref.matching.linear import WeightMap
from torchref.matching.search import match_names
from torchref.steps import Drawn, Named


class Seen(NamedTuple):
    """A step's forward and backward, as a port computes them."""

    outputs: Any
    """The net's own."""
    inner: Named
    """Of the layers that are found in the port, in torch's layout."""
    noise: dict[str, Any]
    """What each `jaxnet.nn.Dropout` multiplies by."""
    model_state: Any
    loss: Any
    grads: Any


class Port:
    """A port beside torch's net, with its tensors under torch's names.

    Args:
      params, model_state: the port's trees.
      optimizer: an optax one.
      maps: how the two trees hold torch's parameters and its buffers.
    """

    shows_layers = False
    """Whether a step gives the outputs of torch's layers by their own names."""

    def __init__(
        self,
        params: Any,
        model_state: Any,
        optimizer: optax.GradientTransformation,
        maps: tuple[WeightMap, WeightMap],
    ) -> None:
        self.params, self.model_state = params, model_state
        self.optimizer, self.opt_state = optimizer, optimizer.init(params)
        self.weights, self.buffers = maps

    def place(self, weights: Named, buffers: Named) -> tuple[Any, Any]:
        """torch's tensors as the port's parameters and other collections."""
        params = self.weights.place(self.params, weights)
        return params, self.buffers.place(self.model_state, buffers)

    def name_weights(self, params: Any, placed: Any, named: Named) -> Named:
        """Parameters under torch's names: `named` where they are `placed`, which holds those."""
        with np.errstate(invalid="ignore"):
            moved = self.weights.pull(jax.tree.map(_subtract, params, placed))
        return {name: named[name] + np.float64(step) for name, step in moved.items()}

    def name_buffers(self, model_state: Any) -> Named:
        """The other collections under torch's names."""
        return self.buffers.pull(model_state)

    def step(self, params: Any, state: Any, inputs: Any, y: Any, draws: Sequence[Drawn]) -> Seen:
        """A forward and a backward, with what torch has drawn in them."""
        raise NotImplementedError

    def predict(self, params: Any, state: Any, inputs: Any, draws: Sequence[Drawn] = ()) -> Any:
        """The outputs in evaluation mode, with what torch drew there."""
        raise NotImplementedError

    @cached_property  # to hash a deep net at every step takes longer than the step
    def update(self) -> Callable[..., tuple[Any, Any, Any]]:
        """`update(grads, opt_state, params)` to updates, optimizer state and weights, compiled."""
        factory: Any = make_update
        return factory.__wrapped__(self.optimizer)


def _give(draw: Drawn) -> np.ndarray:
    """What a `TorchNet` takes: for probabilities in a tensor, the numbers compared with them."""
    if draw.kind == "bernoulli" and np.isnan(draw.p):
        return np.where(draw.values, 0.0, 1.0).astype(np.float32)
    return draw.values


def _subtract(ours: Any, placed: Any) -> np.ndarray:
    """The difference in float64; 0 where both are the same infinity or nan."""
    ours, placed = np.asarray(ours, np.float64), np.asarray(placed, np.float64)
    same = (ours == placed) | (np.isnan(ours) & np.isnan(placed))
    return np.where(same, 0.0, ours - placed)


class OwnPort(Port):
    """jaxnet's translation of a net.

    Args:
      net, variables: what `jaxnet.convert.from_torch` gives.
      loss: `loss(outputs, y)`.
      named: torch's parameters and buffers, at the start.
      layers: torch's names of the layers whose outputs are wanted.
      shared: whether an equal port may use this one's programs: a user's loss may read what has
        changed since.
    """

    def __init__(
        self,
        net: flax.linen.Module,
        variables: Any,
        optimizer: optax.GradientTransformation,
        loss: Callable,
        *,
        named: tuple[Named, Named],
        layers: Collection[str],
        shared: bool = False,
    ) -> None:
        params = variables["params"]
        state = {key: tree for key, tree in variables.items() if key != "params"}
        self.shows_layers = True
        maps = match_names(named[0], params), match_names(named[1], state)
        super().__init__(params, state, optimizer, maps)
        self._net, self._loss, self._layers, self._shared = net, loss, frozenset(layers), shared

    def step(self, params: Any, state: Any, inputs: Any, y: Any, draws: Any) -> Seen:
        """The same; `draws` are jaxnet's own."""
        return self._step(params, state, inputs, y, draws)

    def predict(self, params: Any, state: Any, inputs: Any, draws: Sequence[Drawn] = ()) -> Any:
        drawn = isinstance(self._net, TorchNet) and {draw.name: _give(draw) for draw in draws}
        return self._predict(params, state, inputs, drawn or None)

    @cached_property
    def update(self) -> Callable[..., tuple[Any, Any, Any]]:
        """The same."""
        return self._make(make_update, self.optimizer)

    @cached_property
    def _step(self) -> Callable[..., Seen]:
        return self._make(_make_step, self._net, self._loss, self._layers)

    @cached_property
    def _predict(self) -> Callable[..., Any]:
        return self._make(_make_predict, self._net)

    def _make(self, factory: Any, *arguments: Any) -> Any:
        return factory(*arguments) if self._shared else factory.__wrapped__(*arguments)


@memoize
def make_update(optimizer: optax.GradientTransformation) -> Callable[..., tuple[Any, Any, Any]]:
    """An optimizer's step, compiled."""

    @jax.jit
    def update(grads, opt_state, params):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return updates, opt_state, optax.apply_updates(params, updates)

    return update


@memoize
def _make_step(net: Any, loss: Callable, layers: frozenset[str]) -> Callable[..., Seen]:
    def objective(params, model_state, inputs, y, draws):
        outputs: dict[str, Any] = {}
        noise: dict[str, Any] = {}
        (args, given), keywords = inputs, call_keywords(net, True, draws)
        variables = {"params": params, **model_state}
        if isinstance(net, TorchNet):
            keywords["capture"] = tuple(layers)
        with flax.linen.intercept_methods(partial(_note, layers, outputs, noise)):
            out, model_state = net.apply(
                variables, *args, **given, **keywords, mutable=list(model_state)
            )
        if isinstance(net, TorchNet) and layers:
            out, outputs = out
        return loss(out, y), (out, outputs, noise, model_state)

    @jax.jit
    def step(params, model_state, inputs, y, draws):
        differentiate = jax.value_and_grad(objective, has_aux=True)
        (loss, (out, *seen)), grads = differentiate(params, model_state, inputs, y, draws)
        inner, noise, state = seen
        return Seen(out, inner, noise, state, loss, grads)

    return step


@memoize
def _make_predict(net: Any) -> Callable[..., Any]:
    @jax.jit
    def predict(params, model_state, inputs, draws):
        args, keywords = inputs
        keywords = {**keywords, **call_keywords(net, False, draws)}
        return net.apply({"params": params, **model_state}, *args, **keywords)

    return predict


def _note(
    layers: Collection[str], outputs: dict, noise: dict, call: Any, args: Any, keys: Any, at: Any
) -> Any:
    """What passes by in a Flax module: the outputs of its layers, the noise of its dropouts."""
    out = call(*args, **keys)
    if at.method_name == "__call__" and (name := ".".join(at.module.path)) in layers:
        while name in outputs:  # as the recorder names a layer that runs again
            first, _, again = name.partition("#")
            name = f"{first}#{int(again or 0) + 1}"
        outputs[name] = out
        if isinstance(at.module, Dropout):
            noise[name] = call(jnp.ones_like(args[0]), **keys)
    return out
