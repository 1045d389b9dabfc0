"""The host training loop: runs compiled epochs in chunks and calls the callbacks between them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.digests import digest_array, digest_text, name_function, name_net, name_seed
from jaxnet._utils.processes import any_process, broadcast_from_primary, check_same
from jaxnet._utils.validation import check_count, check_function, check_stream
from jaxnet.data.loader import Batching, make_batching, make_loader
from jaxnet.precision import Precision, as_array, check_precision, use
from jaxnet.random import Generator, manual_seed
from jaxnet.random.mt19937 import check_generator
from jaxnet.train._checks import check_start, count_epochs, split_run
from jaxnet.train.epoch import Draw, Program, begin_epoch, make_runner
from jaxnet.train.sharding import Placement, check_placement
from jaxnet.train.state import History, Report, TrainState
from jaxnet.train.step import TrainStep

_PAUSE = 1.0
"""Seconds, about, between two calls of the callbacks where none has named an epoch."""


class Stop(Exception):
    """Raised by a callback's `on_start` or `on_chunk`: the run ends where it is."""


class Callback:
    """What a run calls before, between and after its chunks; every method may be left as it is.

    Callbacks are called in the order of their `order`, those of one order in that of the list:
    guards see a state first, reports are made before they are read, and checkpoints hold what all
    the others have left. `on_start` is called in the reverse order, so that a resumed state is
    there for all.

    torch has none; PyTorch Lightning's and Keras's are objects of this kind.
    """

    order = 50

    def next_epoch(self, epoch: int) -> int | None:
        """After how many epochs the run, which has done `epoch`, is to be cut for this callback.

        None leaves it to the clock: about once a second.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """What of it decides a run's numbers or its history, for a checkpoint to compare."""
        return {}

    def on_start(self, run: "Run") -> Any:
        """Before the first step. May give a state, or `(state, history)`, to start from."""

    def on_chunk(self, chunk: "Chunk") -> TrainState | None:
        """After each chunk. May give another state to go on from, or raise `Stop`."""

    def on_end(self, run: "Run") -> None:
        """After the last step; `run.error` is the exception that ended the run, if one did."""


@dataclass
class Chunk:
    """What a callback is shown between two parts of a run."""

    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs asked for."""
    state: TrainState
    losses: np.ndarray
    """Loss of every step since the callbacks were called last."""
    history: History
    """The whole run so far."""
    report: Report | None = None
    """The report of this epoch, once `callbacks.Report` has made one."""

    def add_report(self, report: Report) -> None:
        """Put a report into the chunk and into the history."""
        self.report = report
        self.history = self.history._replace(reports=(*self.history.reports, report))


@dataclass
class Run:
    """A run whose arguments fit each other: what callbacks are shown at its start and its end."""

    program: Program
    source: Any
    batching: Batching
    epochs: int
    """Epochs asked for, those of `history` among them."""
    state: TrainState
    history: History
    precision: Precision
    seed: Any
    error: BaseException | None = None
    saved_in: Any = None
    """The folder in which the end of the run is saved, if it is."""
    notes: tuple[dict[str, Any], ...] = ()
    """What the callbacks' `describe` gave."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history.losses) // self.batching.steps

    def make_runner(self) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
        """`train(state, epochs)`, compiled: the state after so many epochs, and every loss."""
        with use(self.precision):
            train = make_runner(self.program, self.source, self.batching, self.state)
        return use(self.precision)(train)

    def iterate(self, state: TrainState) -> Iterator[tuple[np.ndarray, Any, Any, Any]]:
        """One epoch step by step, to look into: rows, batch, draws and (before, after, info)."""
        program, batching = self.program, self.batching
        step, draw = jax.jit(program.step), program.draw
        with use(self.precision):
            state, order = begin_epoch(state, batching)
            order = np.arange(batching.num_examples) if order is None else np.asarray(order)
            for number in range(batching.steps):
                rows = order[number * batching.size :][: batching.size]
                batch, draws = program.layout.gather(self.source.take(rows)), None
                if draw is not None:
                    draws, generator = draw(state.generator, 1, len(rows))
                    draws = jax.tree.map(lambda values: values[0], draws)
                    state = state._replace(generator=generator)
                after, info = step(state, batch, draws)
                yield rows, batch, draws, (state, after, info)
                state = after

    def describe(self) -> dict[str, Any]:
        """What makes a run this one, beside its arrays' shapes: for JSON."""
        step = self.program.step
        named = isinstance(step, TrainStep)
        begin = f"a state at step {self.state.step}" if self.seed is None else name_seed(self.seed)
        about = {
            "net": name_net(step.net) if named else None,
            "loss": name_function(step.loss if named else step),
            "data": self.source.digest(),
            "batches": str(self.batching),
            "seed": begin,
            "precision": self.precision,
            "what a step computes, its loss and its optimizer": self._digest_step(),
        }
        for note in self.notes:
            about |= note
        return about

    def _digest_step(self) -> dict[str, str]:
        """What tells runs apart whose losses or optimizers bear one name: a rate, for one."""
        shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)  # noqa: E731
        rows = self.batching.size
        batch = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), self.source.example
        )

        def step(state, batch):
            draws = None
            if self.program.draw is not None:
                draws, _ = self.program.draw(state.generator, 1, rows)
                draws = jax.tree.map(lambda values: values[0], draws)
            return self.program.step(state, batch, draws)

        with use(self.precision):
            # Of shapes alone: where arrays are on a mesh, the same computation prints otherwise.
            traced = jax.make_jaxpr(step)(jax.tree.map(shape, self.state), batch)
        constants = [digest_array(value) for value in traced.consts]
        return {"sha256": digest_text(f"{traced} {constants}")[:16], "jax": jax.__version__}


def run(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    state: Any,
    source: Any,
    *,
    draw: Draw | None = None,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: Any = None,
    callbacks: Sequence[Any] = (),
    precision: Precision = "parity",
    placement: Placement | None = None,
) -> tuple[TrainState, History]:
    """Train by a step of your own, with everything that `fit` has.

    Two nets that take turns, a loss inside the net, several optimizers: whatever `step` computes,
    epochs are compiled programs, orders are torch's, and callbacks report, save, resume and guard.

    Args:
      step: `step(state, batch, draws) -> (state, info)`, pure; `info` is the loss or has it, as
        `info.loss` or `info["loss"]`.
      state: a `TrainState`, whose fields may hold whatever `step` keeps there; or any other pytree,
        which then is the `params` of one beside the generator, and `step` is given it alone. A pair
        `(state, history)` is resumed, as in `fit`.
      source: arrays `(x, y)`, pytrees of arrays each, a `DataLoader` or a `jaxnet.data` source. A
        batch has the structure of these.
      draw: `draw(generator, steps, batch_size) -> (draws, generator)`: what so many steps draw at
        random, each array with a leading axis of steps; called under jit. None draws nothing, and
        `step` is given None.
      epochs, batch_size, shuffle, callbacks, precision, placement: as in `fit`.
      seed: an integer for torch's stream, a `jaxnet.random.Generator` or a `jax.random.key`, which
        orders and draws come from; None takes the generator of `state`.

    Returns:
      The state after the last step, and the `History`.

    Raises:
      ValueError, TypeError: as `fit` does; `step` gives no loss.

    torch has no such function; there it is the loop itself.

    >>> def step(weight, batch, draws):
    ...     x, y = batch
    ...     loss, grad = jax.value_and_grad(lambda w: ((w * x - y) ** 2).mean())(weight)
    ...     return weight - 0.5 * grad, loss
    >>> x = jnp.array([0.0, 1.0])
    >>> state, history = run(step, jnp.zeros(()), (x, 2 * x), epochs=50, seed=0)
    >>> print(state.params.round(3), len(history.losses))
    2.0 50
    """
    check_function("step", step, "a function step(state, batch, draws)")
    if draw is not None:
        check_function("draw", draw, "a function draw(generator, steps, batch_size)")
    begin = time.perf_counter()
    state, past = split_run(state)
    if not isinstance(state, TrainState):
        check_start(seed, None)
        state = TrainState(state, {}, (), None, jnp.zeros((), jnp.int32))
        step = _OfParams(step)
    if seed is not None:
        state = state._replace(generator=as_generator(seed))
    loader = make_loader(source, batch_size, shuffle)
    where = check_placement(placement)
    with use(check_precision(precision)), where.host():
        loader = loader._replace(data=loader.data.convert(precision))
    parts = (step, draw), (state, past), loader, epochs, precision, where, seed
    return drive(prepare(*parts), callbacks, begin)


@dataclass(frozen=True)
class _OfParams:
    """A step of a state that is no `TrainState`."""

    step: Callable

    def __call__(self, state: TrainState, batch: Any, draws: Any) -> tuple[TrainState, Any]:
        params, info = self.step(state.params, batch, draws)
        return state._replace(params=params, step=state.step + 1), info


def as_generator(seed: Any) -> Any:
    """A generator of torch's or JAX's, from what `fit` takes as a seed."""
    if isinstance(seed, Generator):
        return jax.tree.map(as_array, seed)
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return seed
    if np.ndim(seed):
        raise TypeError(f"seed must be an integer or a jax.random.key, not {seed!r}")
    return jax.tree.map(as_array, manual_seed(seed))


def prepare(
    steps: tuple[Callable, Draw | None],
    started: tuple[TrainState, History],
    loader: Any,
    epochs: int,
    precision: Precision,
    placement: Placement,
    seed: Any,
) -> Run:
    """A run whose arguments fit each other, everything placed where it belongs."""
    state, past = started
    check_stream(state.generator)
    epochs = check_count("epochs", epochs)
    count, own = loader.data.num_examples, loader.generator is not None
    batching = make_batching(count, loader.batch_size, loader.shuffle, loader.drop_last, own)
    count_epochs(past, batching.steps, epochs)
    with use(precision), placement.host():
        state = _attach_generator(state, loader.generator)
        state, source, layout = placement.place(state, loader.data, batching)
    run = Run(Program(*steps, layout), source, batching, epochs, state, past, precision, seed)
    if layout.shared:
        # A digest of the data is a collective where they are sharded: every process takes part.
        whole = {name: str(value) for name, value in run.describe().items()}
        check_same({"epochs": str(epochs), "placement": str(layout.mesh.shape), **whole})
    return run


def _attach_generator(state: TrainState, generator: Any) -> TrainState:
    """The state with the loader's own generator, where there is one and the state has none yet."""
    if generator is None:
        return state
    check_generator(generator)
    if state.loader_generator is None:
        return state._replace(loader_generator=jax.tree.map(as_array, generator))
    if not np.array_equal(state.loader_generator.seed, generator.seed):
        raise ValueError(
            "state has the generator of a loader with another seed: with "
            "state._replace(loader_generator=None), this DataLoader's generator begins"
        )
    return state


def drive(run: Run, callbacks: Sequence[Any], begin: float) -> tuple[TrainState, History]:
    """Compile a run, train it chunk by chunk and call its callbacks; `begin` is when it began."""
    ordered = order_callbacks(callbacks)
    run.notes = tuple(callback.describe() for callback in ordered)
    started: list[Callback] = []
    try:
        over = False
        for callback in reversed(ordered):
            started.insert(0, callback)
            over |= _start(callback, run)
        if run.program.layout.shared:
            over = any_process(over)
        if not over and run.epoch < run.epochs:
            train = run.make_runner()
            seconds = run.history.compile_seconds + time.perf_counter() - begin
            run.history = run.history._replace(compile_seconds=seconds, precision=run.precision)
            _train(run, train, ordered)
    except BaseException as error:
        run.error = error
        raise
    finally:
        for callback in started:
            callback.on_end(run)
    return run.state, run.history


def order_callbacks(callbacks: Any) -> list[Callback]:
    """Callbacks as they are called; a function counts as the `on_chunk` of one."""
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"callbacks must be a list, not {type(callbacks).__name__}")
    for callback in callbacks:
        if not isinstance(callback, Callback) and (
            isinstance(callback, type) or not callable(callback)
        ):
            raise TypeError(
                f"callbacks must be jaxnet.callbacks, or functions of a Chunk, not {callback!r:.60}"
            )
    made = [c if isinstance(c, Callback) else _Function(c) for c in callbacks]
    return sorted(made, key=lambda callback: callback.order)


class _Function(Callback):
    """A function of a chunk as a callback."""

    def __init__(self, function: Callable):
        self.on_chunk = function


def _start(callback: Callback, run: Run) -> bool:
    """Let a callback see the run, and start it elsewhere; whether it ends the run there."""
    try:
        given = callback.on_start(run)
    except Stop:
        return True
    if given is not None:
        state, history = split_run(given)
        run.state = state
        if given is not state:
            run.history = history
    return False


def _train(run: Run, train: Callable, callbacks: Sequence[Callback]) -> None:
    """Train until the last epoch or a `Stop`, in chunks between which callbacks are called.

    A chunk ends where a callback has named an epoch and, where there are callbacks, after about a
    second: it is as long as the pace of the one before allows, the first one epoch. No number
    depends on where a chunk ends.
    """
    shared = run.program.layout.shared
    losses, begin = _Losses(run.history.losses), time.perf_counter()
    before, called = run.history.run_seconds, begin
    watched = bool(broadcast_from_primary(bool(callbacks)) if shared else callbacks)
    seen, allowed = len(run.history.losses), 1 if watched else run.epochs
    while run.epoch < run.epochs:
        done = run.epoch
        named = [callback.next_epoch(done) for callback in callbacks]
        due = min([epoch for epoch in named if epoch is not None], default=run.epochs)
        count = min(due, run.epochs, done + allowed) - done
        started = time.perf_counter()
        run.state, new = train(run.state, count)
        run.history = run.history._replace(losses=losses.append(new))
        now, done = time.perf_counter(), done + count
        allowed = max(1, min(int(count * _PAUSE / max(now - started, 1e-9)), run.epochs))
        early = now - called < _PAUSE
        if shared:  # the clock of process 0 decides for all
            allowed, early = broadcast_from_primary(allowed), bool(broadcast_from_primary(early))
        if done < min(due, run.epochs) and (early or not watched):
            continue
        run.history = run.history._replace(run_seconds=before + now - begin)
        stop = _call(run, callbacks, seen)
        called, seen = now, len(run.history.losses)
        if any_process(stop) if shared else stop:
            break
    seconds = before + time.perf_counter() - begin
    run.history = run.history._replace(losses=run.history.losses.copy(), run_seconds=seconds)


def _call(run: Run, callbacks: Sequence[Callback], seen: int) -> bool:
    """Show the run's last chunk to each callback; whether one of them ends the run."""
    chunk = Chunk(run.epoch, run.epochs, run.state, run.history.losses[seen:], run.history)
    stop = False
    for callback in callbacks:
        try:
            given = callback.on_chunk(chunk)
        except Stop:
            stop = True
            continue
        if given is not None:
            chunk.state = given
    run.state, run.history = chunk.state, chunk.history
    return stop


class _Losses:
    """Losses that grow: adding some costs no copy of the others, which nobody may change."""

    def __init__(self, losses: np.ndarray):
        self._room, self._used = np.array(losses), len(losses)

    def append(self, losses: np.ndarray) -> np.ndarray:
        """All of them so far; what was given out before stays as it was."""
        end = self._used + len(losses)
        if end > len(self._room):
            self._room, old = np.empty(2 * end, losses.dtype), self._room
            self._room[: self._used] = old[: self._used]
        self._room[self._used : end] = losses
        self._used = end
        view = self._room[:end]
        view.flags.writeable = False
        return view
