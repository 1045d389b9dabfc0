"""Standard output and standard error, also where they are closed, full or gone."""

import io
import os
import sys
from contextlib import suppress
from typing import Any


class BestEffort:
    """A text stream that drops what cannot be written: what it says must not end a run.

    Its device may be full, its terminal gone; it may be closed, or None, as `sys.stderr` is in a
    process that began without one.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written; the length of the text."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()


def prepare_streams() -> None:
    """Make both streams such that a command may write to them, whatever it was started with.

    A closed one leads nowhere, a letter that standard output does not have is a question mark
    there, and standard error drops what it cannot take.
    """
    # Opened, not replaced by an object alone: the next file would get the number 1 or 2, and with
    # it what libraries write there.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stderr = BestEffort(sys.stderr)


def write_out(text: str) -> OSError | None:
    """Write to standard output, at once; the error, where that fails."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is in the buffer would fail once more as Python ends, and make that the exit status.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return error
    return None
