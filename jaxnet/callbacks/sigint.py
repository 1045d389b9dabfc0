"""Deferred SIGINT: Ctrl-C that waits for what is under way."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxnet._utils.processes import any_process
from jaxnet._utils.streams import BestEffort
from jaxnet.train.loop import Callback, Chunk, Run, Stop
from jaxnet.train.state import History, TrainState


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the chunk that was under way; `state` and `history` are the run's so far."""

    def __init__(self, state: TrainState, history: History, message: str):
        super().__init__(message)
        self.state, self.history = state, history


class DeferredSigint(Callback):
    """Lets a chunk finish when Ctrl-C is pressed, and then ends the run with `Interrupted`.

    A second Ctrl-C interrupts at once. Nothing changes outside the main thread, or where the
    program handles Ctrl-C in its own way.

    Raises:
      Interrupted: from the run, once the chunk and all other callbacks are done.

    torch has none: there Ctrl-C ends a loop wherever it is.

    >>> DeferredSigint().order > Callback.order
    True
    """

    order = 100

    def on_start(self, run: Run) -> None:
        """Begin to wait for Ctrl-C."""
        self._stack = ExitStack()
        self._was_pressed = self._stack.enter_context(defer_sigint())
        self._shared = run.program.layout.shared

    def on_chunk(self, chunk: Chunk) -> None:
        """End the run where Ctrl-C was pressed."""
        if self._was_pressed():
            raise Stop

    def on_end(self, run: Run) -> None:
        """Give Ctrl-C back, and raise where it was pressed."""
        self._stack.close()
        if run.error is not None:
            return
        pressed = self._was_pressed()
        if any_process(pressed) if self._shared else pressed:
            text = f"stopped after epoch {run.epoch} of {run.epochs}"
            if run.saved_in is not None:
                text += f", which is saved in {run.saved_in}"
            raise Interrupted(run.state, run.history, text)


@contextmanager
def defer_sigint(note: str = "") -> Iterator[Callable[[], bool]]:
    """Ctrl-C in here is remembered by what this gives; a second one interrupts at once.

    Nothing changes outside the main thread, or where the program handles Ctrl-C in its own way. The
    first Ctrl-C says `note` on standard error.
    """
    pressed = False
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    ours = main and before is signal.default_int_handler

    def remember(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)
        if note:
            print(note, file=BestEffort(sys.stderr))

    if ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
