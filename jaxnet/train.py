"""A training run as pure functions: one step, many steps as one compiled program, and reports."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnet import nn
from jaxnet.batches import Batching, DataLoader, make_batching, make_loader, start_epoch
from jaxnet.checks import (
    check_count,
    check_devices,
    check_finite,
    check_looks,
    check_mapping,
    check_optimizer,
    check_parts,
    check_past,
    check_reports,
    check_rows,
    check_scalar,
    check_source,
    check_stream,
    committed_arrays,
    split_run,
)
from jaxnet.evaluation import Metrics, evaluate, memoise
from jaxnet.masks import cut_masks, draw_ahead, draw_masks, list_drops
from jaxnet.pieces import train_on
from jaxnet.precision import Precision, cast, cast_array, check_precision, check_state, use
from jaxnet.random import Generator, manual_seed
from jaxnet.random.engine import check_generator
from jaxnet.state import History, Hook, StepInfo, TrainState

_AHEAD = 2**25  # elements of masks that an epoch draws before its first step: 64 MiB meanwhile


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
    >>> state = start(optimizer, {"params": params}, jaxnet.random.manual_seed(0))
    >>> train_step = make_train_step(net, loss, optimizer)
    >>> state, info = train_step(state, (jnp.ones((1, 1)), jnp.zeros((1, 1))))
    >>> print(info.loss, state.params["0"]["weight"])
    1.0 [[0.]]
    """
    check_parts(net, loss, optimizer)
    step = _make_noiseless_step(net, loss, optimizer)

    def train_step(state: TrainState, batch: tuple[Any, Any]) -> tuple[TrainState, StepInfo]:
        generator, noise = draw_noise(net, state.generator, batch[0])
        return step(state._replace(generator=generator), batch, noise)

    return train_step


def _make_noiseless_step(net: Any, loss: Callable, optimizer: Any) -> Callable:
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


def start(
    optimizer: optax.GradientTransformation, variables: Mapping[str, Any], generator: Any
) -> TrainState:
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
    generator = jax.tree.map(jnp.asarray, generator)  # as every step gives it: one program
    return TrainState(
        params, model_state, optimizer.init(params), generator, jnp.zeros((), jnp.int32)
    )


def _draw_variables(net: Any, seed: Any, x: Any) -> tuple[Any, Any]:
    """The generator after a net's initial variables, and these."""
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        generator, key = jax.random.split(seed)
        return generator, net.init(key, x[:1], **nn.call_keywords(net, train=False))
    if not isinstance(seed, Generator):
        if np.ndim(seed):
            raise TypeError(f"seed must be an integer or a jax.random.key, not {seed!r}")
        seed = manual_seed(seed)
    return nn.init(net, seed)


def fit(
    net: flax.linen.Module,
    data: tuple[Any, Any] | DataLoader,
    *,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: Any = None,
    state: TrainState | tuple[TrainState, History] | None = None,
    report_every: int | None = None,
    report_loader: bool = False,
    metrics: Metrics | None = None,
    hooks: Sequence[Hook] = (),
    precision: Precision = "parity",
) -> tuple[TrainState, History]:
    """Train a net: every epoch between two reports is one compiled program.

    Args:
      net: any Flax module that is called with x; whether it trains is told through `train`,
        `training`, `deterministic` or `use_running_average`, where its call takes one of these.
        With an integer seed, a net of `jaxnet.nn`.
      data: `(x, y)`, arrays with the same number of rows, y already shaped for the loss; or a
        `jaxnet.batches.DataLoader` of them, which can also drop a short last batch and have a
        generator of its own.
      loss: `loss(outputs, y)`, a scalar: the mean over the batch, as in `jaxnet.losses`.
      optimizer: any optax optimizer, `jaxnet.optim`'s among them; one that looks at the loss, such
        as `optax.lbfgs`, is given it.
      epochs: passes over the rows.
      batch_size: rows of a step; the last step of an epoch takes what is left. None takes all
        rows at once, without a loader. More than there are rows is refused; torch's DataLoader
        takes it.
      shuffle: whether each epoch takes the rows in a new order.
      seed: an integer for torch's stream (weights, orders and masks as `torch.manual_seed(seed)`
        gives them), a `jaxnet.random.Generator` to go on from where it is, or a `jax.random.key`
        for JAX's own.
      state: continue from here instead: no weights are drawn. The generator of a loader that has
        its own goes on where the state has it. A pair `(state, history)`, as `fit` returns it, goes
        on with that run: `epochs` are then the whole run's, reports fall where they would have
        fallen, and the history is the whole run's.
      report_every: epochs between two reports; None reports nothing.
      report_loader: whether a report iterates a loader over the data, as the lecture's does, and
        so draws that iteration's two words from torch's stream. It is another loader than the
        training's: unshuffled, without a generator of its own.
      metrics: `{name: metric}`, each `metric(outputs, y)` giving one value for each row.
      hooks: called in turn with a `Chunk` after each report, at the end, and between epochs when a
        second has gone by; one that returns True ends the run there. `jaxnet.hooks` has some;
        `jaxnet.progress.bar` is one that shows the run.
      precision: "parity" multiplies float32 in full, as torch does; "fast" as the backend likes
        best, which on a CPU is the same; "float64" widens the initial weights, as `net.double()`
        does in torch, and the data. It decides, whatever is set for all of JAX. Random numbers
        of torch's stream do not depend on it; masks from a `jax.random.key` do, in float64.

    Returns:
      The state after the last step and the `History`. Where the run is cut into compiled pieces
      changes no bit of either.

    Raises:
      ValueError, TypeError: an argument is out of range, x holds nan or an infinity, both or
        neither of `seed` and `state` are given, `state` is another optimizer's or of another
        precision, its history is longer than `epochs` or of other batches, or the arrays lie on
        different devices.

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
    check_parts(net, loss, optimizer)
    check_looks(metrics, hooks)
    check_reports(report_every, report_loader, metrics)
    begin = time.perf_counter()
    ready = prepare(
        net,
        data,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        state=state,
        precision=precision,
    )
    x, y = ready.data
    if report_loader and ready.batching.batch_size is None:
        raise ValueError("report_loader=True needs report_every and batch_size")
    capacity = epochs if report_every is None else min(report_every, epochs)
    run = use(precision)(make_run(net, loss, optimizer, ready.batching, capacity))
    jax.block_until_ready(run(ready.state, x, y, 0))  # no epochs: compiles, computes nothing
    rest = ready.batching if report_loader else None
    look = use(precision)(partial(_report, net, (x, y), metrics, rest))
    if report_every is not None:
        look(ready.state)
    past = ready.history
    seconds = past.compile_seconds + time.perf_counter() - begin
    history = past._replace(compile_seconds=seconds, precision=precision)

    def run_on(now: TrainState, count: int) -> tuple[TrainState, Any]:
        now, rows = run(now, x, y, count)
        return now, np.asarray(rows)[:count]

    return train_on(run_on, look, ready.state, ready.epochs, report_every, history, hooks)


class Ready(NamedTuple):
    """A run whose arguments fit each other, before its first step here."""

    state: TrainState
    history: History
    """What was trained before, empty where nothing was."""
    epochs: range
    """Those to train, counted from 0."""
    data: tuple[Any, Any]
    """`(x, y)`, in the run's precision and in one place with the state."""
    batching: Batching


def prepare(
    net: Any,
    data: Any,
    *,
    optimizer: Any,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: Any = None,
    state: Any = None,
    precision: Precision = "parity",
) -> Ready:
    """Check what `fit` was given, draw the weights and put everything in one place."""
    loader = make_loader(data, batch_size, shuffle)
    x, y = loader.data
    check_rows(x, y)
    state, past = split_run(state)
    check_devices(state=state, seed=seed, generator=loader.generator, x=x, y=y)
    check_finite(x)
    check_source(optimizer, seed, state)
    check_state(state, check_precision(precision))
    epochs = check_count("epochs", epochs)
    own = loader.generator is not None
    batching = make_batching(len(x), loader.batch_size, loader.shuffle, loader.drop_last, own)
    done = check_past(past, batching.steps, epochs)
    with use(precision):
        x, y = (cast_array(values, precision) for values in loader.data)
        if state is None:
            generator, variables = _draw_variables(net, seed, x)
            state = start(optimizer, cast(variables, precision), generator)
        state, x, y = _put_together(_give_generator(state, loader), x, y)
    return Ready(state, past, range(done, epochs), (x, y), batching)


def _give_generator(state: TrainState, loader: DataLoader) -> TrainState:
    """The state with the loader's own generator, where there is one and the state has none yet."""
    if loader.generator is None:
        return state
    check_generator(loader.generator)
    if state.loader_generator is not None:
        if not np.array_equal(state.loader_generator.seed, loader.generator.seed):
            raise ValueError(
                "state has the generator of a loader with another seed: with "
                "state._replace(loader_generator=None), this DataLoader's generator begins"
            )
        return state
    return state._replace(loader_generator=jax.tree.map(jnp.asarray, loader.generator))


def _report(
    net: Any, data: Any, metrics: Metrics | None, batching: Batching | None, state: TrainState
) -> tuple[dict[str, float], TrainState]:
    """A report's metrics, and the state after the draws of the loader that it iterates, if any."""
    values = evaluate(net, state, data, metrics=metrics)
    if batching is not None:
        generator, _ = start_epoch(state.generator, batching._replace(shuffle=False, own=False))
        state = state._replace(generator=generator)
    return values, state


@memoise
def make_run(net: Any, loss: Callable, optimizer: Any, batching: Batching, capacity: int):
    """`run(state, x, y, epochs)`, compiled once for every number of epochs up to `capacity`.

    The number of epochs is an argument, not a constant: the loop's body is the same machine code
    however the run is cut, and so are its results, bit for bit.
    """
    drawing_step = make_train_step(net, loss, optimizer)
    noiseless_step = _make_noiseless_step(net, loss, optimizer)

    @partial(jax.jit, inline=True)  # traced once, though it is called twice
    def run_epoch(state, x, y):
        source = "loader_generator" if batching.own else "generator"
        generator, order = start_epoch(getattr(state, source), batching)
        state = state._replace(**{source: generator})
        size = batching.size
        forwards = _list_forwards(net, state.generator, batching, x)
        ranks: list[Any] = [None, None]  # of full batches and of the rest; None: a step draws
        if forwards:
            generator, ranks = draw_ahead(state.generator, forwards)
            state = state._replace(generator=generator)

        def take(rows, begin, count):
            if order is None:
                return lax.dynamic_slice_in_dim(rows, begin, count)
            picked = lax.dynamic_slice_in_dim(order, begin, count)
            return rows.at[picked].get(mode="promise_in_bounds")

        def step(state, turn, count=size, kind=0):
            begin, drawn = turn
            batch = (take(x, begin, count), take(y, begin, count))
            if drawn is None:
                state, info = drawing_step(state, batch)
            else:
                masks = cut_masks(forwards, kind, drawn)
                state, info = noiseless_step(state, batch, {"masks": masks})
            return state, info.loss

        begins = jnp.arange(batching.full, dtype=jnp.int32) * size
        state, losses = lax.scan(step, state, (begins, ranks[0]))
        if batching.left:
            rest = jax.tree.map(lambda rows: rows[0], ranks[1])
            state, last = step(state, (batching.full * size, rest), batching.left, 1)
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


def _list_forwards(net: Any, generator: Any, batching: Batching, x: Any) -> list[tuple[int, Any]]:
    """An epoch's forwards that drop alike, if their masks are drawn before the first: times, drops.

    One draw is faster than hundreds and compiles sooner; the bits are the same. Not for one step,
    not for more masks than `_AHEAD`, and not where a stream other than the CPU's gives them.
    """
    if not isinstance(generator, Generator) or generator.cuda is not None or batching.steps == 1:
        return []
    parts = [(batching.full, batching.size), (1, batching.left)]
    forwards = [
        (times, list_drops(net, jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)))
        for times, rows in parts
        if rows
    ]
    elements = sum(times * drop.size for times, drops in forwards for drop in drops)
    return forwards if 0 < elements <= _AHEAD else []


def _put_together(state: TrainState, x: Any, y: Any) -> tuple[TrainState, Any, Any]:
    """Everything onto the one device that some of it was put on, if that is how it lies.

    A program is compiled for where its arguments lie, and gives back arrays that were put there:
    without this the second chunk would compile again.
    """
    placed = committed_arrays((state, x, y))
    if placed and isinstance(placed[0].sharding, jax.sharding.SingleDeviceSharding):
        return jax.device_put((state, x, y), placed[0].sharding)
    return state, x, y
