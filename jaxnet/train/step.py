"""One training step as a pure function, and what a net draws for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnet import nn
from jaxnet._utils.validation import check_mapping, check_optimizer, check_stream
from jaxnet.precision import as_array
from jaxnet.random import Generator
from jaxnet.train._checks import check_parts, check_scalar
from jaxnet.train.state import StepInfo, TrainState

Batch = Any
"""Some examples, `(x, y)` for a net and its loss."""


def start(optimizer: optax.GradientTransformation, variables: Any, generator: Any) -> TrainState:
    """The state before the first step.

    Args:
      optimizer: any optax optimizer.
      variables: a net's, from `jaxnet.init` or Flax's own `init`.
      generator: a `jaxnet.random.Generator`, or a `jax.random.key`.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> generator, variables = jaxnet.init(net, jaxnet.random.manual_seed(0))
    >>> int(start(jaxnet.optim.adam(), variables, generator).step)
    0
    """
    check_optimizer(optimizer)
    check_mapping("variables", variables, "collections")
    check_stream(generator)
    params = variables.get("params", {})
    model_state = {name: values for name, values in variables.items() if name != "params"}
    generator = jax.tree.map(as_array, generator)  # as every step gives it: one program
    return TrainState(
        params, model_state, optimizer.init(params), generator, jnp.zeros((), jnp.int32)
    )


def make_train_step(
    net: flax.linen.Module, loss: Callable, optimizer: optax.GradientTransformation
) -> "TrainStep":
    """The pure function `train_step(state, (x, y), draws=None) -> (state, info)`, for jit and scan.

    $g = \\nabla_\\theta\\, \\mathrm{loss}(\\mathrm{net}_\\theta(x), y)$ in training mode, then
    the optimizer's update is added to $\\theta$. `draws` are the forward's dropout masks, as
    `jaxnet.nn.draw` gives them, or the key of Flax's; None draws them from the state's generator:
    torch's stream from a `Generator`, Flax's from a JAX key. In torch this is `zero_grad`,
    forward, `backward`, `optimizer.step`; gradients do not accumulate here.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> optimizer = jaxnet.optim.sgd(lr=0.5)
    >>> params = {"0": {"weight": jnp.array([[1.0]]), "bias": jnp.array([0.0])}}
    >>> state = jaxnet.train.start(optimizer, {"params": params}, jaxnet.random.manual_seed(0))
    >>> train_step = make_train_step(net, loss, optimizer)
    >>> state, info = train_step(state, (jnp.ones((1, 1)), jnp.zeros((1, 1))))
    >>> print(info.loss, state.params["0"]["weight"])
    1.0 [[0.]]
    """
    check_parts(net, loss, optimizer)
    return TrainStep(net, loss, optimizer)


@dataclass(frozen=True)
class TrainStep:
    """A training step of a net, equal by value; `make_train_step` says what it computes."""

    net: flax.linen.Module
    loss: Callable
    optimizer: optax.GradientTransformation

    def __call__(
        self, state: TrainState, batch: Batch, draws: Any = None
    ) -> tuple[TrainState, StepInfo]:
        """The state after the step, and what was computed on the way."""
        x, y = batch
        if draws is None:
            draws, generator = NetDraws(self.net, *_describe(x))(state.generator, 1, None)
            draws = jax.tree.map(lambda values: values[0], draws)
            state = state._replace(generator=generator)

        # The outputs and the statistics come along as `aux`: one forward gives loss, gradients,
        # BatchNorm's buffers and what a report may show.
        def objective(params):
            outputs, model_state = self.forward(state._replace(params=params), x, draws)
            return check_scalar(self.loss(outputs, y)), (outputs, model_state)

        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        outputs, model_state = aux
        # Optimizers that look at the loss (lbfgs, polyak_sgd) are given it; all others ignore it.
        extra: dict[str, Any] = {"value": value, "grad": grads}
        extra["value_fn"] = lambda params: objective(params)[0]
        update = optax.with_extra_args_support(self.optimizer).update
        updates, opt_state = update(grads, state.opt_state, state.params, **extra)
        params: Any = optax.apply_updates(state.params, updates)
        after = state._replace(
            params=params, model_state=model_state, opt_state=opt_state, step=state.step + 1
        )
        return after, StepInfo(value, outputs, grads, updates)

    def forward(self, state: TrainState, x: Any, draws: Any, **options: Any) -> Any:
        """The net's outputs in training mode, and its other collections afterwards."""
        options.setdefault("mutable", list(state.model_state))
        variables = {"params": state.params, **state.model_state}
        mode = nn.call_keywords(self.net, train=True)
        return self.net.apply(variables, x, **mode, **self._hand_over(draws, state), **options)

    def _hand_over(self, draws: Any, state: TrainState) -> dict[str, Any]:
        """The keyword under which the net takes what was drawn."""
        if not isinstance(state.generator, Generator):
            return {"rngs": {"dropout": draws}}
        # A module of the user's own that draws nothing need not take the keyword.
        nothing = isinstance(draws, dict) and not draws
        return {} if nothing else {nn.name_draws(self.net) or "draws": draws}


@dataclass(frozen=True)
class NetDraws:
    """`draw(generator, steps, batch_size) -> (draws, generator)`: what a net draws in some steps.

    From a `Generator`, the masks of `jaxnet.nn.draw_steps`; from a JAX key, a key for each step.
    """

    net: flax.linen.Module
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    """Of x, batches of any length."""
    tree: Any

    def __call__(self, generator: Any, steps: int, batch_size: int | None) -> tuple[Any, Any]:
        """The draws, each with a leading axis of steps, and the generator afterwards."""
        if not isinstance(generator, Generator):
            split = lambda key, _: tuple(jax.random.split(key))  # noqa: E731
            generator, keys = lax.scan(split, generator, length=steps)
            return keys, generator
        leaves = [
            a if batch_size is None else jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), a.dtype)
            for a in self.leaves
        ]
        x = jax.tree.unflatten(self.tree, leaves)
        generator, draws = nn.draw_steps(self.net, generator, x, steps)
        return draws, generator


def make_draws(net: flax.linen.Module, x: Any) -> NetDraws:
    """What a net draws in the training forwards of batches like x.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5)])
    >>> draws, _ = make_draws(net, jnp.ones((1, 3)))(jaxnet.random.manual_seed(0), 4, 2)
    >>> draws["0"].shape
    (4, 2, 3)
    """
    return NetDraws(net, *_describe(x))


def _describe(x: Any) -> tuple[tuple[jax.ShapeDtypeStruct, ...], Any]:
    leaves, tree = jax.tree.flatten(x)
    return tuple(jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)) for a in leaves), tree
