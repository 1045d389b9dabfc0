"""Ctrl-C that waits for what is under way."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patient(note: str = "") -> Iterator[Callable[[], bool]]:
    """Ctrl-C in here is remembered by what this gives; a second one interrupts at once.

    Nothing changes outside the main thread, or where the program handles Ctrl-C in its own way.

    Args:
      note: what the first Ctrl-C says on standard error.

    >>> with patient() as was_pressed:
    ...     was_pressed()
    False
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
            print(note, file=sys.stderr)

    if ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
