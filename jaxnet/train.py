"""A training run as pure functions: one step, many steps as one compiled program, and reports."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import nn
from jaxnet.archive import digest_array, name_net
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
    check_source,
    check_stream,
    committed_arrays,
    split_run,
)
from jaxnet.evaluation import Metrics, evaluate
from jaxnet.hosts import check_same, is_shared
from jaxnet.pieces import train_on
from jaxnet.placement import Layout, as_mesh, on_host, place_state, put
from jaxnet.precision import (
    Precision,
    as_array,
    cast,
    cast_array,
    check_precision,
    check_state,
    use,
)
from jaxnet.random import Generator, manual_seed
from jaxnet.random.engine import check_generator
from jaxnet.rows import Rows, count_rows, is_streamed, list_blanks
from jaxnet.state import History, Hook, TrainState
from jaxnet.steps import draw_noise, find_capacity, make_run, make_train_step
from jaxnet.streaming import make_stream

__all__ = [
    "Ready",
    "draw_noise",
    "fit",
    "make_run",
    "make_runner",
    "make_train_step",
    "prepare",
    "start",
]


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
    generator = jax.tree.map(as_array, generator)  # as every step gives it: one program
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
    data: Any,
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
    mesh: jax.sharding.Mesh | None = None,
    specs: Any = None,
) -> tuple[TrainState, History]:
    """Train a net: every epoch between two reports is one compiled program.

    Args:
      net: any Flax module that is called with x; whether it trains is told through `train`,
        `training`, `deterministic` or `use_running_average`, where its call takes one of these.
        With an integer seed, a net of `jaxnet.nn`.
      data: `(x, y)`, arrays with the same number of rows, y already shaped for the loss; or a
        `jaxnet.batches.DataLoader` of them, which can also drop a short last batch and have a
        generator of its own. Where x or y is a `numpy.memmap`, or in place of the pair stands a
        Grain `MapDataset` of rows `(x, y)`, rows are read as batches need them, the next ones
        while the last ones are computed: memory holds two blocks of some 4 MiB (of one batch, where
        that is more) and a few bytes a row for their order, whatever there is on disk. Without a
        batch_size all rows are read at once.
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
        `jaxnet.progress.bar` is one that shows the run. Of many processes each calls its own: a
        hook that computes with the state (`Validation`, `Checkpoints`) must be in all of them.
      precision: "parity" multiplies float32 in full, as torch does; "fast" as the backend likes
        best, which on a CPU is the same; "float64" widens the initial weights, as `net.double()`
        does in torch, and the data. It decides, whatever is set for all of JAX. Random numbers
        of torch's stream do not depend on it; masks from a `jax.random.key` do, in float64.
      mesh: devices to compute on, `jax.make_mesh((8,), ("data",))` for example, of one process or
        of many (`jaxnet.hosts`). Each batch's rows are spread over the axis "data"; a batch that
        does not divide by its size is computed whole on every device. Weights are whole on each,
        unless `specs` spreads them. Masks and orders are drawn for the whole batch and then spread:
        they do not depend on the mesh. Losses do, within the rounding of sums.
      specs: for weights too large for one device, a `jax.sharding.PartitionSpec` for all of them,
        or a mapping, nested as the weights are, of specs for some: `{"0": PartitionSpec("data")}`
        spreads the outputs of the first layer. The optimizer's moments lie as their weights do.

    Returns:
      The state after the last step and the `History`. Where the run is cut into compiled pieces
      changes no bit of either.

    Raises:
      ValueError, TypeError: an argument is out of range, x holds nan or an infinity, both or
        neither of `seed` and `state` are given, `state` is another optimizer's or of another
        precision, its history is longer than `epochs` or of other batches, the arrays lie on
        different devices and no `mesh` is given, or `specs` does not fit the weights or the mesh.
        Of rows that are read as they are needed, nan or an infinity is found when it is read.

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
        mesh=mesh,
        specs=specs,
    )
    if report_loader and ready.batching.batch_size is None:
        raise ValueError("report_loader=True needs report_every and batch_size")
    run = make_runner(net, loss, optimizer, ready, precision)
    if is_shared(ready.state):
        names = sorted(metrics or ())
        check_same({"report_every": report_every, "report_loader": report_loader, "metrics": names})
    rest = ready.batching if report_loader else None
    look = use(precision)(partial(_report, net, metrics, rest))
    if report_every is not None:
        for blank in list_blanks(ready.data):
            look(blank, ready.state)
    past = ready.history
    seconds = past.compile_seconds + time.perf_counter() - begin
    history = past._replace(compile_seconds=seconds, precision=precision)
    look = partial(look, ready.data)
    return train_on(run, look, ready.state, ready.epochs, report_every, history, hooks)


class Ready(NamedTuple):
    """A run whose arguments fit each other, before its first step here."""

    state: TrainState
    history: History
    """What was trained before, empty where nothing was."""
    epochs: range
    """Those to train, counted from 0."""
    data: Any
    """`(x, y)`, in the run's precision and in one place with the state; or `Rows` to be read."""
    batching: Batching
    layout: Layout | None = None
    """How the state lies on a mesh, if it does."""


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
    mesh: Any = None,
    specs: Any = None,
) -> Ready:
    """Check what `fit` was given, draw the weights and put everything in one place."""
    loader = make_loader(data, batch_size, shuffle)
    check_precision(precision)
    data = _take_in(loader, precision)
    state, past = split_run(state)
    if mesh is not None:
        mesh = as_mesh(mesh, specs)
    elif specs is not None:
        raise ValueError("specs needs mesh: the devices that the weights are spread over")
    elif not isinstance(data, Rows):
        x, y = data
        check_devices(state=state, seed=seed, generator=loader.generator, x=x, y=y)
    check_source(optimizer, seed, state)
    check_state(state, precision)
    epochs = check_count("epochs", epochs)
    own, count = loader.generator is not None, count_rows(data)
    batching = make_batching(count, loader.batch_size, loader.shuffle, loader.drop_last, own)
    done = check_past(past, batching.steps, epochs)
    layout = None
    with use(precision), on_host() if mesh is not None else nullcontext():
        if not isinstance(data, Rows):
            data = tuple(cast_array(values, precision) for values in data)
        if state is None:
            x = data.like[0] if isinstance(data, Rows) else data[0]
            generator, variables = _draw_variables(net, seed, x)
            state = start(optimizer, cast(variables, precision), generator)
        state = _give_generator(state, loader)
        if mesh is not None:
            if jax.process_count() > 1:
                what = {"net": name_net(net), "epochs": epochs, "batches": str(batching)}
                what |= {"precision": precision, "mesh": str(mesh.shape), "specs": str(specs)}
                check_same(what | {"data": _digest(data), "the state, or seed,": _digest(state)})
            state, layout = place_state(state, optimizer, mesh, specs)
            data = _spread(data, batching, layout)
        else:
            state, data = _put_together(state, data)
    return Ready(state, past, range(done, epochs), data, batching, layout)


def _take_in(loader: DataLoader, precision: Precision) -> Any:
    """The loader's data, checked: a pair, or `Rows` where batches are to be read as they come."""
    if not is_streamed(loader.data):
        x, y = loader.data
        check_rows(x, y)
        check_finite(x)
        return x, y
    rows = Rows(loader.data, precision)
    return rows if loader.batch_size is not None else rows.take(np.arange(len(rows)))


def _digest(tree: Any) -> list[str]:
    """What tells arrays apart; of rows that are read some, of what lies with others nothing."""
    if isinstance(tree, Rows):
        return [*tree.describe(), *_digest(tree.sample())]
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not is_shared(leaf)]
    return [digest_array(leaf) for leaf in leaves]


def _spread(data: Any, batching: Batching, layout: Layout) -> Any:
    """Rows on a mesh: spread if every step takes all of them, else whole, as any may be next."""
    if isinstance(data, Rows):
        return data
    sharding = layout.rows(batching.rows) if batching.batch_size is None else layout.whole
    return tuple(put(values, sharding) for values in data)


def make_runner(
    net: Any, loss: Callable, optimizer: Any, ready: Ready, precision: Precision
) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
    """`run(state, epochs)`, compiled: the state after so many epochs, and every step's loss."""
    if isinstance(ready.data, Rows):
        with use(precision):
            parts = (ready.data, ready.batching, ready.layout, ready.state)
            return use(precision)(make_stream(net, loss, optimizer, *parts))
    capacity = find_capacity(ready.batching)
    run = make_run(net, loss, optimizer, ready.batching, capacity, ready.layout)

    @use(precision)
    def run_on(state: TrainState, epochs: int) -> tuple[TrainState, np.ndarray]:
        losses = []
        for begin in range(0, epochs, capacity):
            count = min(capacity, epochs - begin)
            state, part = run(state, *ready.data, count)
            losses.append(np.asarray(part)[:count].reshape(-1))
        return state, np.concatenate(losses)

    with use(precision):
        run.lower(ready.state, *ready.data, 1).compile()  # what the calls will find
    return run_on


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
    return state._replace(loader_generator=jax.tree.map(as_array, loader.generator))


def _report(
    net: Any, metrics: Metrics | None, batching: Batching | None, data: Any, state: TrainState
) -> tuple[dict[str, float], TrainState]:
    """A report's metrics, and the state after the draws of the loader that it iterates, if any."""
    values = evaluate(net, state, data, metrics=metrics) if metrics else {}
    if batching is not None:
        generator, _ = start_epoch(state.generator, batching._replace(shuffle=False, own=False))
        state = state._replace(generator=generator)
    return values, state


def _put_together(state: TrainState, data: Any) -> tuple[TrainState, Any]:
    """Everything onto the one device that some of it was put on, if that is how it lies.

    A program is compiled for where its arguments lie, and gives back arrays that were put there:
    without this the second chunk would compile again.
    """
    rows = () if isinstance(data, Rows) else data
    placed = committed_arrays((state, rows))
    if placed and isinstance(placed[0].sharding, jax.sharding.SingleDeviceSharding):
        state, rows = jax.device_put((state, rows), placed[0].sharding)
    return state, data if isinstance(data, Rows) else rows
