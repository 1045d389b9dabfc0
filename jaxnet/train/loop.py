"""The host training loop: runs compiled epochs in chunks and calls the callbacks between them."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.differences import as_plain
from jaxnet._utils.processes import any_process, broadcast_from_primary
from jaxnet._utils.validation import check_function
from jaxnet.data.loader import open_loader
from jaxnet.precision import Precision, as_array, check_precision, use
from jaxnet.random import Generator, manual_seed
from jaxnet.train._checks import check_given, check_steps, is_pair, limit_epochs, split_run
from jaxnet.train.callback import Callback, Chunk, Stop
from jaxnet.train.epoch import Draw, split_step
from jaxnet.train.plan import Run, name_parts, prepare
from jaxnet.train.sharding import Placement, check_placement
from jaxnet.train.state import History, TrainState

_PAUSE = 1.0
"""Seconds, about, between two calls of the callbacks where none has named an epoch."""


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
    about: Mapping[str, Any] | None = None,
) -> tuple[TrainState, History]:
    """Train by a step of your own, with everything that `fit` has.

    Two nets that take turns, a loss inside the net, several optimizers: whatever `step` computes,
    epochs are compiled programs, orders are torch's, and callbacks report, save, resume and guard.

    Args:
      step: `step(state, batch, draws) -> (state, info)`, pure; `info` is the loss or has it, as
        `info.loss` or `info["loss"]`.
      state: a `TrainState`, whose fields may hold whatever `step` keeps there; or any other pytree,
        which then is the `params` of one beside the generator, and `step` is given it alone, also
        when the state that is returned goes on. A pair `(state, history)`, as it is returned, is
        resumed, as in `fit`.
      source: arrays `(x, y)`, pytrees of arrays each, a `DataLoader` or a `jaxnet.data` source. A
        batch has the structure of these.
      draw: `draw(generator, steps, batch_size) -> (draws, generator)`: what so many steps draw at
        random, each array with a leading axis of steps; called under jit. For n steps it must draw
        what n calls for one step draw in turn: how many are drawn at once is not its to know. None
        draws nothing, and `step` is given None.
      epochs, batch_size, shuffle, callbacks, precision, placement: as in `fit`.
      seed: an integer for torch's stream, a `jaxnet.random.Generator` or a `jax.random.key`, which
        orders and draws come from; None takes the generator of `state`.
      about: what identifies `step` and `draw` where a checkpoint is resumed, `{"lr": 0.1}`, a
        dictionary that JSON can hold. None reads their source and the values that they close over
        and take from globals.

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
    if not isinstance(state, TrainState) and not is_pair(state):
        if seed is None:
            raise ValueError("run needs a seed where state is no TrainState with a generator")
        state = OwnState(state, {}, (), None, jnp.zeros((), jnp.int32))
    state, past = split_run(state)
    if not isinstance(state, TrainState):
        raise TypeError(
            "state must be (state, history) as run returns it, whose state is a TrainState, not "
            f"({type(state).__name__}, History)"
        )
    parts = name_parts(step, draw) if about is None else {"step": as_plain("about", about)}
    if isinstance(state, OwnState):
        step = _OfParams(step)
    if seed is not None:
        state = state._replace(generator=as_generator(seed))
    where = check_placement(placement)
    with use(check_precision(precision)), where.host():
        state = jax.tree.map(_as_strong, state)
        loader = open_loader(source, batch_size, shuffle, precision, pairs=False)
    prepared = prepare((step, draw), (state, past), loader, epochs, precision, where, seed, parts)
    del loader  # the run has its data where it is placed: no second copy stays here
    return drive(prepared, callbacks, begin)


class OwnState(TrainState):
    """A state of the user's own kind, as the `params` of a `TrainState`."""

    __slots__ = ()


@dataclass(frozen=True)
class _OfParams:
    """A step whose state is not a `TrainState`, as a step of one."""

    step: Callable

    def __call__(self, state: TrainState, batch: Any, draws: Any) -> tuple[TrainState, Any]:
        params, info = split_step(self.step(state.params, batch, draws))
        return state._replace(params=params, step=state.step + 1), info


def _as_strong(leaf: Any) -> jax.Array:
    """A number or an array as a step gives it back: of a weak type a run would compile twice."""
    array = as_array(leaf if hasattr(leaf, "dtype") else np.asarray(leaf))
    return array.astype(array.dtype) if getattr(array, "weak_type", False) else array


def as_generator(seed: Any) -> Any:
    """A generator of torch's or JAX's, from what `fit` takes as a seed."""
    if isinstance(seed, Generator):
        return jax.tree.map(as_array, seed)
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return seed
    if np.ndim(seed):
        raise TypeError(f"seed must be an integer or a jax.random.key, not {seed!r}")
    return jax.tree.map(as_array, manual_seed(seed))


def drive(run: Run, callbacks: Sequence[Any], begin: float) -> tuple[TrainState, History]:
    """Compile a run, train it chunk by chunk and call its callbacks; `begin` is when it began."""
    ordered = order_callbacks(callbacks)
    run.notes = tuple(callback.describe() for callback in ordered)
    run.check_same()
    # Callbacks, too, may compute with a float64 state. Whatever one of them raises, `on_end` of the
    # others is called.
    config: Any = jax.config
    wide = run.precision == "float64" or config.jax_enable_x64
    with jax.enable_x64(wide), ExitStack() as ends:
        try:
            over = False
            for callback in reversed(ordered):
                ends.callback(callback.on_end, run)
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
        run.state = check_given(state, run.state)
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
    most = limit_epochs(run.epoch, run.batching.steps, run.state)
    while run.epoch < run.epochs:
        done = run.epoch
        if not watched or done == most:  # a callback may end the run before
            check_steps(run.epochs, most)
        due = min(_find_due(callbacks, run), most)
        count = min(due, done + allowed) - done
        started = time.perf_counter()
        run.state, new = train(run.state, count)
        run.history = run.history._replace(losses=losses.append(new))
        now, done = time.perf_counter(), done + count
        # The next chunk takes about a second at this one's pace, so that callbacks are called as
        # often whatever an epoch takes, and a fast run is not slowed down by them.
        allowed = max(1, min(int(count * _PAUSE / max(now - started, 1e-9)), run.epochs))
        early = now - called < _PAUSE
        if shared:  # the clock of process 0 decides for all
            allowed, early = broadcast_from_primary(allowed), bool(broadcast_from_primary(early))
        if done < due and (early or not watched):
            continue
        run.history = run.history._replace(run_seconds=before + now - begin)
        stop = _call(run, callbacks, seen)
        called, seen = now, len(run.history.losses)
        if any_process(stop) if shared else stop:
            break
    seconds = before + time.perf_counter() - begin
    run.history = run.history._replace(losses=run.history.losses.copy(), run_seconds=seconds)


def _find_due(callbacks: Sequence[Callback], run: Run) -> int:
    """The next epoch that a callback has named, the last one where none has."""
    due = run.epochs
    for callback in callbacks:
        named = callback.next_epoch(run.epoch)
        if named is not None and named <= run.epoch:
            raise ValueError(
                f"next_epoch of {callback!r:.60} must give a later epoch than {run.epoch}, or "
                f"None, not {named}"
            )
        due = due if named is None else min(due, named)
    return due


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
            chunk.state = check_given(given, chunk.state)
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
