"""A JAX port of a torch net, whoever wrote it, as compiled functions of torch's own state."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import optax

from jaxnet.nn import Dropout, call_keywords
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
        (or `training`, `deterministic`, `use_running_average`) and `masks`, and returns the
        outputs, or a tuple of the outputs and the other collections after the step.
      variables: `{"params": ...}` and other collections.
      optimizer: an optax one.
      loss: `loss(outputs, y)`.
      weights, buffers: torch's, at the start.
      layers: torch's names of the layers whose outputs are wanted.

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
    ) -> None:
        if not isinstance(variables, Mapping) or "params" not in variables:
            raise TypeError('port must have variables {"params": ..., ...}, as Flax has them')
        self.params = variables["params"]
        self.model_state = {key: tree for key, tree in variables.items() if key != "params"}
        self.optimizer, self.opt_state = optimizer, optimizer.init(self.params)
        self._apply, self._loss, self._layers = apply, loss, frozenset(layers)
        module = getattr(apply, "__self__", None)
        self._module = module if isinstance(module, flax.linen.Module) else None
        beside: dict[str, set[str]] = {}
        self._params = match_tensors(weights, self.params, beside)
        self._buffers = match_tensors(buffers, self.model_state, beside, skip=1)
        self.without = [name for name in weights if name not in self._params]
        """torch's parameters that no leaf holds."""

    @property
    def takes_masks(self) -> bool:
        """Whether masks can be handed to the port."""
        call = self._apply if self._module is None else type(self._module).__call__
        return "masks" in inspect.signature(call).parameters

    def place(self, weights: Named, buffers: Named) -> tuple[Any, Any]:
        """torch's tensors as the port's parameters and other collections."""
        held = {name: match for name, match in self._buffers.items() if name in buffers}
        return place(self.params, weights, self._params), place(self.model_state, buffers, held)

    def name_params(self, tree: Any) -> Named:
        """A tree like the parameters under torch's names, in torch's layout."""
        return name_leaves(tree, self._params)

    def name_buffers(self, tree: Any) -> Named:
        """The other collections under torch's names."""
        return name_leaves(tree, self._buffers)

    @cached_property
    def step(self) -> Callable[..., Seen]:
        """`step(params, model_state, x, y, masks)`, compiled."""

        def objective(params, model_state, x, y, masks):
            outputs: dict[str, Any] = {}
            noise: dict[str, Any] = {}
            with flax.linen.intercept_methods(partial(_note, self._layers, outputs, noise)):
                out, model_state = self._call(params, model_state, x, train=True, masks=masks)
            return self._loss(out, y), ({"": out, **outputs}, noise, model_state)

        @jax.jit
        def step(params, model_state, x, y, masks):
            differentiate = jax.value_and_grad(objective, has_aux=True)
            (loss, (outputs, noise, state)), grads = differentiate(params, model_state, x, y, masks)
            return Seen(outputs, noise, state, loss, grads)

        return step

    @cached_property
    def update(self) -> Callable[..., tuple[Any, Any, Any]]:
        """`update(grads, opt_state, params)` to updates, optimizer state and weights, compiled."""

        @jax.jit
        def update(grads, opt_state, params):
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            return updates, opt_state, optax.apply_updates(params, updates)

        return update

    @cached_property
    def predict(self) -> Callable[..., Any]:
        """`predict(params, model_state, x)` in evaluation mode, compiled."""

        @jax.jit
        def predict(params, model_state, x):
            return self._call(params, model_state, x, train=False, masks=None)[0]

        return predict

    def _call(self, params: Any, model_state: Any, x: Any, *, train: bool, masks: Any) -> Any:
        """Outputs, and the other collections afterwards."""
        variables = {"params": params, **model_state}
        masks = masks if masks and self.takes_masks else None
        if self._module is None:
            out = self._apply(variables, x, **call_keywords(self._apply, train, masks))
            return out if isinstance(out, tuple) else (out, model_state)
        keywords = call_keywords(self._module, train, masks)
        if not train:
            return self._apply(variables, x, **keywords), model_state
        return self._apply(variables, x, mutable=list(model_state), **keywords)


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
