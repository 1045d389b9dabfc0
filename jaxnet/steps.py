"""The programs that a run is made of: one step, steps in a row, epochs in a row."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnet import nn
from jaxnet.batches import Batching, start_epoch
from jaxnet.cache import memoise
from jaxnet.checks import check_parts, check_scalar
from jaxnet.masks import cut_masks, draw_ahead, draw_masks, list_drops
from jaxnet.placement import Layout
from jaxnet.random import Generator
from jaxnet.state import StepInfo, TrainState

LOSSES = 2**14
"""Losses that a call of a run's program has room for, 64 KiB of them: a longer run is several
calls."""

_AHEAD = 2**25  # elements of masks that are drawn before the first of many steps: 64 MiB meanwhile


def make_train_step(
    net: flax.linen.Module, loss: Callable, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, tuple[Any, Any]], tuple[TrainState, StepInfo]]:
    """The pure function `train_step(state, (x, y)) -> (state, info)`, ready for jit and scan.

    $g = \\nabla_\\theta\\, \\mathrm{loss}(\\mathrm{net}_\\theta(x), y)$ in training mode, then
    the optimizer's update is added to $\\theta$. Dropout masks come from the state's generator:
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
    step = make_noiseless_step(net, loss, optimizer)

    def train_step(state: TrainState, batch: tuple[Any, Any]) -> tuple[TrainState, StepInfo]:
        generator, noise = draw_noise(net, state.generator, batch[0])
        return step(state._replace(generator=generator), batch, noise)

    return train_step


def make_noiseless_step(net: Any, loss: Callable, optimizer: Any) -> Callable:
    """`step(state, batch, noise)`, which draws nothing: `noise` holds the masks, or Flax's keys."""
    mode = nn.call_keywords(net, train=True)
    update = optax.with_extra_args_support(optimizer).update

    def step(state, batch, noise):
        x, y = batch

        def objective(params):
            variables = {"params": params, **state.model_state}
            outputs, model_state = net.apply(
                variables, x, mutable=list(state.model_state), **mode, **noise
            )
            return check_scalar(loss(outputs, y)), (outputs, model_state)

        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        outputs, model_state = aux
        updates, opt_state = update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda params: objective(params)[0],
        )
        params: Any = optax.apply_updates(state.params, updates)
        after = state._replace(
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            step=state.step + 1,
        )
        return after, StepInfo(value, outputs, grads, updates)

    return step


def draw_noise(net: flax.linen.Module, generator: Any, x: Any) -> tuple[Any, dict[str, Any]]:
    """The generator after one forward, and the keywords that hand its randomness to the net."""
    if isinstance(generator, Generator):
        generator, masks = draw_masks(net, generator, x)
        has_masks = not isinstance(masks, dict) or masks
        return generator, {"masks": masks} if has_masks else {}
    generator, key = jax.random.split(generator)
    return generator, {"rngs": {"dropout": key}}


Forwards = list[tuple[int, Any]]


class Stretch:
    """Steps in a row as they are traced: their masks are drawn ahead where that is faster.

    On a mesh, masks are drawn whole, as one device draws them, and then spread with their rows.
    """

    def __init__(self, net: Any, loss: Callable, optimizer: Any, layout: Layout | None):
        self._net, self._layout = net, layout
        self._step = make_noiseless_step(net, loss, optimizer)

    def start(self, state: TrainState, parts: list[tuple[int, int]], x: Any):
        """The state after the draws that are made ahead, and the ranks and forwards for `step`.

        Args:
          state: before the first step.
          parts: how many steps there are of so many rows.
          x: rows like those of the steps.
        """
        forwards = _list_forwards(self._net, state.generator, parts, x)
        if not forwards:
            return state, [None] * len(parts), forwards
        generator, ranks = draw_ahead(state.generator, forwards)
        if self._layout is not None:
            ranks = self._layout.keep_whole(ranks)
        return state._replace(generator=generator), ranks, forwards

    def step(self, state: TrainState, batch: Any, ranks: Any, forwards: Forwards, kind: int):
        """One step: the state after it, and its loss."""
        rows = len(batch[0])
        if ranks is None:
            generator, noise = draw_noise(self._net, state.generator, batch[0])
            state = state._replace(generator=generator)
        else:
            noise = {"masks": cut_masks(forwards, kind, ranks)}
        if self._layout is not None:
            if "masks" in noise:
                whole = self._layout.keep_whole(noise["masks"])
                noise = {"masks": self._layout.shard_rows(whole, rows)}
            batch = self._layout.shard_rows(batch, rows)
        state, info = self._step(state, batch, noise)
        if self._layout is not None:
            state = self._layout.keep_state(state)
        return state, info.loss


def find_capacity(batching: Batching) -> int:
    """Epochs whose losses a call has room for: no number of epochs compiles anything anew.

    >>> find_capacity(Batching(12665, None)), find_capacity(Batching(12665, 16))
    (16384, 20)
    """
    return max(1, LOSSES // batching.steps)


@memoise
def make_run(
    net: Any,
    loss: Callable,
    optimizer: Any,
    batching: Batching,
    capacity: int,
    layout: Layout | None = None,
):
    """`run(state, x, y, epochs)`, compiled once for every number of epochs up to `capacity`.

    The number of epochs is an argument, not a constant: the loop's body is the same machine code
    however the run is cut, and so are its results, bit for bit.
    """
    stretch = Stretch(net, loss, optimizer, layout)

    @partial(jax.jit, inline=True)  # traced once, though it is called twice
    def run_epoch(state, x, y):
        source = "loader_generator" if batching.own else "generator"
        generator, order = start_epoch(getattr(state, source), batching)
        state = state._replace(**{source: generator})
        size = batching.size
        parts = [(batching.full, size), (1, batching.left)]
        state, ranks, forwards = stretch.start(state, parts, x)

        def take(rows, begin, count):
            if order is None:
                return lax.dynamic_slice_in_dim(rows, begin, count)
            picked = lax.dynamic_slice_in_dim(order, begin, count)
            return rows.at[picked].get(mode="promise_in_bounds")

        def step(state, turn, count=size, kind=0):
            begin, drawn = turn
            batch = (take(x, begin, count), take(y, begin, count))
            return stretch.step(state, batch, drawn, forwards, kind)

        begins = jnp.arange(batching.full, dtype=jnp.int32) * size
        state, losses = lax.scan(step, state, (begins, ranks[0]))
        if batching.left:
            rest = jax.tree.map(lambda rows: rows[0], ranks[1])
            state, last = step(state, (batching.full * size, rest), batching.left, 1)
            losses = jnp.append(losses, last)
        return state, losses

    def run(state, x, y, epochs):
        shape = jax.eval_shape(run_epoch, state, x, y)[1]

        def epoch(index, carry):
            state, losses = carry
            state, row = run_epoch(state, x, y)
            return state, lax.dynamic_update_index_in_dim(losses, row, index, 0)

        losses = jnp.zeros((capacity, *shape.shape), shape.dtype)
        if layout is not None:
            losses = layout.keep_whole(losses)
        state, losses = lax.fori_loop(0, epochs, epoch, (state, losses))
        return state, losses if layout is None else layout.keep_whole(losses)

    return jax.jit(run)


@memoise
def make_block(net: Any, loss: Callable, optimizer: Any, layout: Layout | None = None):
    """`block(state, x, y)`: a step for each batch of x and y, which are stacked; compiled.

    The losses are (steps,). What an epoch draws before its steps, its order among it, is drawn.
    """
    stretch = Stretch(net, loss, optimizer, layout)

    def block(state, x, y):
        state, ranks, forwards = stretch.start(state, [x.shape[:2]], x[0])

        def step(state, turn):
            x, y, drawn = turn
            return stretch.step(state, (x, y), drawn, forwards, 0)

        state, losses = lax.scan(step, state, (x, y, ranks[0]))
        return state, losses if layout is None else layout.keep_whole(losses)

    return jax.jit(block)


def _list_forwards(
    net: Any, generator: Any, parts: list[tuple[int, int]], x: Any
) -> list[tuple[int, Any]]:
    """The forwards that drop alike, if their masks are drawn before the first: times, drops.

    One draw is faster than hundreds and compiles sooner; the bits are the same. Not for one step,
    not for more masks than `_AHEAD`, and not where a stream other than the CPU's gives them.
    """
    parts = [(times, rows) for times, rows in parts if rows]
    steps = sum(times for times, _ in parts)
    if not isinstance(generator, Generator) or generator.cuda is not None or steps == 1:
        return []
    forwards = [
        (times, list_drops(net, jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)))
        for times, rows in parts
    ]
    elements = sum(times * drop.size for times, drops in forwards for drop in drops)
    return forwards if 0 < elements <= _AHEAD else []
