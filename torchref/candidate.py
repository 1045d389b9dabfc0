"""A JAX port of a torch net, whoever wrote it, as compiled functions of torch's own state."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet.cache import memoize
from jaxnet.nn import Dropout, call_keywords, name_draws
from torchref.matching import match_tensors, name_leaves, place
from torchref.recorder import Named


class Seen(NamedTuple):
    """A step's forward and backward, as a port computes them."""

    outputs: dict[str, Any]
    """Of the layers that have torch's names, and of the whole net under ""."""
    noise: dict[str, Any]
    """What each `jaxnet.nn.Dropout` multiplies by."""
    model_state: Any
    loss: Any
    grads: Any


class Port:
    """A port beside torch's net, with its tensors under torch's names.

    Args:
      apply: `net.apply` of a Flax module, or a function of `(variables, x)` that may take `train`
        (or `training`, `deterministic`, `use_running_average`) and `masks` (or `draws`, as
        jaxnet's own nets do), and returns the outputs, or a tuple of the outputs and the other
        collections after the step.
      variables: `{"params": ...}` and other collections.
      optimizer: an optax one.
      loss: `loss(outputs, y)`.
      weights, buffers: torch's, at the start.
      layers: torch's names of the layers whose outputs are wanted.
      shared: whether an equal port may use this one's programs. A user's net, loss or optimizer may
        read what has changed since, so that each port of a user's has programs of its own.

    Raises:
      TypeError: `variables` has no "params".
    """

    def __init__(
        self,
        apply: Callable,
        variables: Any,
        optimizer: optax.GradientTransformation,
        loss: Callable,
        *,
        weights: Named,
        buffers: Named,
        layers: Collection[str],
        shared: bool = False,
    ) -> None:
        if not isinstance(variables, Mapping) or "params" not in variables:
            raise TypeError('port must have variables {"params": ..., ...}, as Flax has them')
        self.params = variables["params"]
        self.model_state = {key: tree for key, tree in variables.items() if key != "params"}
        self.optimizer, self.opt_state = optimizer, optimizer.init(self.params)
        self._loss, self._layers, self._shared = loss, frozenset(layers), shared
        whole = getattr(apply, "__func__", None) is flax.linen.Module.apply
        self._net = getattr(apply, "__self__") if whole else apply  # noqa: B009
        beside: dict[str, set[str]] = {}
        self.matches = self._params = match_tensors(weights, self.params, beside)
        self._buffers = match_tensors(buffers, self.model_state, beside, skip=1)
        self.without = [name for name in weights if name not in self._params]
        """torch's parameters that no leaf holds."""

    @property
    def takes_masks(self) -> bool:
        """Whether masks can be handed to the port, under whichever of their two names."""
        return name_draws(self._net) is not None

    def place(self, weights: Named, buffers: Named) -> tuple[Any, Any]:
        """torch's tensors as the port's parameters and other collections."""
        held = {name: match for name, match in self._buffers.items() if name in buffers}
        return place(self.params, weights, self._params), place(self.model_state, buffers, held)

    def name_params(self, tree: Any) -> Named:
        """A tree like the parameters under torch's names, in torch's layout."""
        return name_leaves(tree, self._params)

    def name_others(self, tree: Any) -> Named:
        """Leaves of a tree like the parameters that hold nothing of torch's, by their paths."""
        held = {match.leaf for match in self._params.values()}
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
            for place, (path, leaf) in enumerate(leaves)
            if place not in held
        }

    def name_buffers(self, tree: Any) -> Named:
        """The other collections under torch's names."""
        return name_leaves(tree, self._buffers)

    @cached_property  # to hash a deep net at every step takes longer than the step
    def step(self) -> Callable[..., Seen]:
        """`step(params, model_state, x, y, masks)`, compiled."""
        return self._make(_make_step, self._net, self._loss, self._layers)

    @cached_property
    def update(self) -> Callable[..., tuple[Any, Any, Any]]:
        """`update(grads, opt_state, params)` to updates, optimizer state and weights, compiled."""
        return self._make(_make_update, self.optimizer)

    @cached_property
    def predict(self) -> Callable[..., Any]:
        """`predict(params, model_state, x)` in evaluation mode, compiled."""
        return self._make(_make_predict, self._net)

    def _make(self, factory: Any, *arguments: Any) -> Any:
        return factory(*arguments) if self._shared else factory.__wrapped__(*arguments)


@memoize
def _make_step(net: Any, loss: Callable, layers: frozenset[str]) -> Callable[..., Seen]:
    def objective(params, model_state, x, y, masks):
        outputs: dict[str, Any] = {}
        noise: dict[str, Any] = {}
        with flax.linen.intercept_methods(partial(_note, layers, outputs, noise)):
            out, model_state = _call(net, params, model_state, x, train=True, masks=masks)
        return loss(out, y), ({"": out, **outputs}, noise, model_state)

    @jax.jit
    def step(params, model_state, x, y, masks):
        differentiate = jax.value_and_grad(objective, has_aux=True)
        (loss, (outputs, noise, state)), grads = differentiate(params, model_state, x, y, masks)
        return Seen(outputs, noise, state, loss, grads)

    return step


@memoize
def _make_update(optimizer: optax.GradientTransformation) -> Callable[..., tuple[Any, Any, Any]]:
    @jax.jit
    def update(grads, opt_state, params):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return updates, opt_state, optax.apply_updates(params, updates)

    return update


@memoize
def _make_predict(net: Any) -> Callable[..., Any]:
    @jax.jit
    def predict(params, model_state, x):
        return _call(net, params, model_state, x, train=False, masks=None)[0]

    return predict


def _call(net: Any, params: Any, model_state: Any, x: Any, *, train: bool, masks: Any) -> Any:
    """A module's or a function's outputs, and the other collections afterwards."""
    variables = {"params": params, **model_state}
    nothing = masks is None or (isinstance(masks, dict) and not masks)
    keywords = call_keywords(net, train, None if nothing or not name_draws(net) else masks)
    if not isinstance(net, flax.linen.Module):
        out = net(variables, x, **keywords)
        return out if isinstance(out, tuple) else (out, model_state)
    if not train:
        return net.apply(variables, x, **keywords), model_state
    return net.apply(variables, x, mutable=list(model_state), **keywords)


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
