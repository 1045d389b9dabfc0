"""A run cut into pieces, between which the host reports, shows, saves or stops."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxnet.hosts import agree, any_of, is_shared
from jaxnet.state import Chunk, History, Hook, Report, TrainState

_PIECE = 1.0  # seconds, about, between two calls of the hooks where no report is due

Run = Callable[[TrainState, int], tuple[TrainState, Any]]
"""`run(state, epochs)`: the state after so many epochs, and the loss of every step."""
Look = Callable[[TrainState], tuple[dict[str, float], TrainState]]
"""`look(state)`: a report's metrics, and the state after what the report draws."""


def train_on(
    run: Run,
    look: Look,
    state: TrainState,
    epochs: range,
    every: int | None,
    history: History,
    hooks: Sequence[Hook],
) -> tuple[TrainState, History]:
    """Train these epochs, counted from 0, piece by piece; the history goes on from `history`.

    A piece ends where a report is due, every `every` epochs, and, where there are hooks, after
    about a second: it is as long as the pace of the piece before allows, the first one epoch. A
    hook that returns True ends the run. No number depends on where a piece ends. Where the state
    is many processes' together, the first one's clock decides, and any one's hook ends the run.
    """
    together = is_shared(state)
    # Waits for all, too: one may have compiled for longer than the others.
    watched = any_of(bool(hooks)) if together else bool(hooks)
    done, tape = epochs.start, _Tape(history.losses)
    seen = len(history.losses)
    called = begin = time.perf_counter()
    allowed = 1 if watched else len(epochs)
    while done < epochs.stop:
        due = epochs.stop if every is None else done - done % every + every
        count = min(due, epochs.stop, done + allowed) - done
        started = time.perf_counter()
        state, rows = run(state, count)
        losses = tape.append(np.asarray(rows).reshape(-1))
        done += count
        report = None
        if every is not None and done == due:
            values, state = look(state)
            report = Report(done, float(losses[-1]), values)
            history = history._replace(reports=(*history.reports, report))
        now = time.perf_counter()
        if watched:
            fits = max(1, min(int(count * _PIECE / (now - started)), len(epochs)))
            allowed, early = fits, now - called < _PIECE
            if together:
                allowed, early = agree((allowed, early))
            if report is None and done < epochs.stop and early:
                continue
        elif report is None and done < epochs.stop:
            continue
        so_far = history._replace(losses=losses, run_seconds=history.run_seconds + now - begin)
        chunk = Chunk(done, epochs.stop, state, losses[seen:], report, so_far)
        called, seen = now, len(losses)
        over = any([hook(chunk) is True for hook in hooks])  # a list: every hook sees every chunk
        if any_of(over) if watched and together else over:
            break
    seconds = history.run_seconds + time.perf_counter() - begin
    return state, history._replace(losses=tape.append(()).copy(), run_seconds=seconds)


class _Tape:
    """Losses in a row: adding some costs no copy of the others, which nobody may change."""

    def __init__(self, losses: np.ndarray):
        self._room, self._used = np.array(losses), len(losses)

    def append(self, losses: Any) -> np.ndarray:
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
