"""A training run as pure functions: one step, many steps as one compiled program, and reports."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnet import nn
from jaxnet.batches import Batching, start_epoch
from jaxnet.checks import check_rows, find_placement
from jaxnet.evaluation import Metrics, evaluate, memoise
from jaxnet.random import Generator, manual_seed
from jaxnet.state import Chunk, History, Hook, Report, StepInfo, TrainState


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
    >>> state = start(net, optimizer, {"params": params}, jaxnet.random.manual_seed(0))
    >>> train_step = make_train_step(net, loss, optimizer)
    >>> state, info = train_step(state, (jnp.ones((1, 1)), jnp.zeros((1, 1))))
    >>> print(info.loss, state.params["0"]["weight"])
    1.0 [[0.]]
    """
    has_mode = "train" in inspect.signature(type(net).__call__).parameters
    mode = {"train": True} if has_mode else {}

    def train_step(state: TrainState, batch: tuple[Any, Any]) -> tuple[TrainState, StepInfo]:
        x, y = batch
        generator, noise = _draw_noise(net, state.generator, x)

        def objective(params):
            variables = {"params": params, **state.model_state}
            outputs, model_state = net.apply(
                variables, x, mutable=list(state.model_state), **mode, **noise
            )
            return loss(outputs, y), (outputs, model_state)

        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        outputs, model_state = aux
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        after = TrainState(params, model_state, opt_state, generator, state.step + 1)
        return after, StepInfo(value, outputs, grads, updates)

    return train_step


def _draw_noise(net: flax.linen.Module, generator: Any, x: Any) -> tuple[Any, dict[str, Any]]:
    """The generator after one forward, and the keywords that hand its randomness to the net."""
    if isinstance(generator, Generator):
        generator, masks = nn.draw_masks(net, generator, x)
        return generator, {"masks": masks} if masks else {}
    generator, key = jax.random.split(generator)
    return generator, {"rngs": {"dropout": key}}


def start(
    net: flax.linen.Module,
    optimizer: optax.GradientTransformation,
    variables: Mapping[str, Any],
    generator: Any,
) -> TrainState:
    """The state before the first step, from a net's variables and a generator."""
    params = variables["params"]
    model_state = {name: values for name, values in variables.items() if name != "params"}
    generator = jax.tree.map(jnp.asarray, generator)  # as every step gives it: one program
    return TrainState(
        params, model_state, optimizer.init(params), generator, jnp.zeros((), jnp.int32)
    )


def _start_from_seed(net: Any, optimizer: Any, seed: Any, x: Any) -> TrainState:
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        generator, key = jax.random.split(seed)
        return start(net, optimizer, net.init(key, x[:1]), generator)
    generator, variables = nn.init(net, manual_seed(seed))
    return start(net, optimizer, variables, generator)


def fit(
    net: flax.linen.Module,
    data: tuple[Any, Any],
    *,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: Any = None,
    state: TrainState | None = None,
    report_every: int | None = None,
    report_loader: bool = False,
    metrics: Metrics | None = None,
    hooks: Sequence[Hook] = (),
) -> tuple[TrainState, History]:
    """Train a net: every epoch between two reports is one compiled program.

    Args:
      net: any Flax module; with an integer seed, a `Sequential` of `jaxnet.nn`.
      data: `(x, y)`, arrays with the same number of rows, y already shaped for the loss.
      loss: `loss(outputs, y)`, a scalar: the mean over the batch, as in `jaxnet.losses`.
      optimizer: any optax optimizer, `jaxnet.optim`'s among them.
      epochs: passes over the rows.
      batch_size: rows of a step; the last step of an epoch takes what is left. None takes all
        rows at once, without a loader.
      shuffle: whether each epoch takes the rows in a new order.
      seed: an integer for torch's stream (weights, orders and masks as `torch.manual_seed(seed)`
        gives them), or a `jax.random.key` for JAX's own.
      state: continue from here instead: no weights are drawn.
      report_every: epochs between two reports; None reports nothing.
      report_loader: whether a report iterates a loader over the data, as the lecture's does, and
        so draws that iteration's words from torch's stream.
      metrics: `{name: metric}`, each `metric(outputs, y)` giving one value for each row.
      hooks: called in turn with a `Chunk` after each report (once at the end, if there are none);
        one that returns True ends the run there.

    Returns:
      The state after the last step and the `History`. Where the run is cut into compiled pieces
      changes no bit of either.

    Raises:
      ValueError, TypeError: an argument is out of range, both or neither of `seed` and `state` are
        given, or the arrays lie on different devices.

    torch has no such function; the loop that the lecture repeats is this one.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> x = jnp.array([[0.0], [1.0]])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> state, history = fit(net, (x, 2 * x), loss=loss, optimizer=jaxnet.optim.sgd(lr=0.5),
    ...                      epochs=200, seed=1)
    >>> print(jaxnet.predict(net, state, x).round(3))
    [[0.]
     [2.]]
    """
    batching = _check_arguments(data, epochs, batch_size, shuffle, report_every, seed, state)
    x, y = data
    placement = find_placement(state=state, x=x, y=y)
    begin = time.perf_counter()
    x, y = jnp.asarray(x), jnp.asarray(y)
    now = _start_from_seed(net, optimizer, seed, x) if state is None else state
    if placement is not None:  # all of it: a program is compiled for where its arguments lie
        now, x, y = jax.device_put((now, x, y), placement)
    every = epochs if report_every is None else min(report_every, epochs)
    run = _make_run(net, loss, optimizer, batching, every)
    jax.block_until_ready(run(now, x, y, 0))  # no epochs: compiles, computes nothing
    if report_every is not None:
        _report(net, now, (x, y), metrics, batching if report_loader else None)
    compiled = time.perf_counter()

    losses, reports = [], []
    for done, count in _cut(epochs, every):
        now, rows = run(now, x, y, count)
        losses.append(np.asarray(rows)[:count].reshape(-1))
        report = None
        if report_every is not None and done % report_every == 0:
            values, now = _report(net, now, (x, y), metrics, batching if report_loader else None)
            report = Report(done, float(losses[-1][-1]), values)
            reports.append(report)
        chunk = Chunk(done, epochs, now, losses[-1], report)
        if any([hook(chunk) for hook in hooks]):  # a list: every hook sees every chunk
            break
    seconds = time.perf_counter() - compiled
    return now, History(np.concatenate(losses), tuple(reports), compiled - begin, seconds)


def _report(
    net: Any, state: TrainState, data: Any, metrics: Metrics | None, loader: Batching | None
) -> tuple[dict[str, float], TrainState]:
    """A report's metrics, and the state after the draws of the loader that it iterates, if any."""
    values = evaluate(net, state, data, metrics=metrics)
    if loader is not None:
        generator, _ = start_epoch(state.generator, loader._replace(shuffle=False))
        state = state._replace(generator=generator)
    return values, state


def _cut(epochs: int, every: int) -> Iterator[tuple[int, int]]:
    """Epochs done after each chunk, and epochs in it."""
    for begin in range(0, epochs, every):
        end = min(begin + every, epochs)
        yield end, end - begin


@memoise
def _make_run(net: Any, loss: Callable, optimizer: Any, batching: Batching, capacity: int):
    """`run(state, x, y, epochs)`, compiled once for every number of epochs up to `capacity`.

    The number of epochs is an argument, not a constant: the loop's body is the same machine code
    however the run is cut, and so are its results, bit for bit.
    """
    train_step = make_train_step(net, loss, optimizer)

    def run_epoch(state, x, y):
        generator, order = start_epoch(state.generator, batching)
        state = state._replace(generator=generator)
        size, full = batching.size, batching.rows // batching.size

        def take(rows, begin, count):
            if order is None:
                return lax.dynamic_slice_in_dim(rows, begin, count)
            picked = lax.dynamic_slice_in_dim(order, begin, count)
            return rows.at[picked].get(mode="promise_in_bounds")

        def step(state, begin, count=size):
            batch = (take(x, begin, count), take(y, begin, count))
            state, info = train_step(state, batch)
            return state, info.loss

        state, losses = lax.scan(step, state, jnp.arange(full, dtype=jnp.int32) * size)
        if left := batching.rows - full * size:
            state, last = step(state, full * size, left)
            losses = jnp.append(losses, last)
        return state, losses

    @jax.jit
    def run(state, x, y, epochs):
        shape = jax.eval_shape(run_epoch, state, x, y)[1]

        def epoch(index, carry):
            state, losses = carry
            state, row = run_epoch(state, x, y)
            return state, lax.dynamic_update_index_in_dim(losses, row, index, 0)

        losses = jnp.zeros((capacity, *shape.shape), shape.dtype)
        return lax.fori_loop(0, epochs, epoch, (state, losses))

    return run


def _check_arguments(data, epochs, batch_size, shuffle, report_every, seed, state) -> Batching:
    x, y = data
    check_rows(x, y)
    counts = {"epochs": epochs, "batch_size": batch_size, "report_every": report_every}
    for name, value in counts.items():
        optional = value is None and name != "epochs"
        if not optional and (not isinstance(value, int | np.integer) or value < 1):
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    if batch_size is not None and batch_size > len(x):
        raise ValueError(
            f"batch_size must be at most the number of rows, {len(x)}, not {batch_size}"
        )
    if shuffle and batch_size is None:
        raise ValueError("shuffle=True needs a batch_size: a full batch has no order")
    if (seed is None) == (state is None):
        raise ValueError("fit needs either seed (a new run) or state (one that goes on), not both")
    return Batching(len(x), batch_size, shuffle)
