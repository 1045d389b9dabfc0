"""What a person sees while something works: nothing where standard error is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxnet._utils.streams import BestEffort
from jaxnet._utils.validation import check_count
from jaxnet.train.loop import Callback, Chunk, Run

Tell = Callable[[int, str], None]
"""`tell(done, status)`: so much is done, and what to say of it."""


class Progress(Callback):
    """Shows a run on standard error: epoch, loss, metrics and the time left.

    "compiling, first steps" until the first chunk is done; when the run has ended, the time that it
    took. Where standard error is no terminal, and with `quiet`, nothing. `NO_COLOR` in the
    environment turns the colors off. It needs Rich.

    Args:
      name: of the run, at most 14 letters on a terminal of 80 columns.
      console: Rich's; standard error's if None.
      quiet: show nothing.

    torch has none; tqdm is what is used there.

    >>> Progress("logits").next_epoch(3) is None
    True
    """

    order = 70

    def __init__(self, name: str, console: Any = None, *, quiet: bool = False):
        self._name, self._console, self._quiet = name, console, quiet

    def on_start(self, run: Run) -> None:
        """Show the bar."""
        self._stack = ExitStack()
        bar = count(self._name, run.epochs, self._console, quiet=self._quiet, begin=_BEGIN)
        self._tell = self._stack.enter_context(bar)

    def on_chunk(self, chunk: Chunk) -> None:
        """Say where the run is."""
        self._tell(chunk.epoch, describe(chunk))

    def on_end(self, run: Run) -> None:
        """Leave the bar as it is."""
        self._stack.close()


_BEGIN = "compiling, first steps"


@contextmanager
def count(
    name: str, total: int | None, console: Any = None, *, quiet: bool = False, begin: str = ""
) -> Iterator[Tell]:
    """A bar for what is counted, or a pulse where `total` is None; `begin` is said at first."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Time(ProgressColumn):
        """The time left; until that is known, and at the end, the time that has passed."""

        def render(self, task: Any) -> Text:
            if task.finished or task.time_remaining is None:
                passed = task.finished_time or task.elapsed or 0.0
                return Text(_minutes(passed), "progress.elapsed")
            return Text(f"{_minutes(task.time_remaining)} left", "progress.remaining")

    if total is not None:
        check_count("total", total)
    hidden = quiet or (console is None and not _is_terminal())
    stream: Any = BestEffort(sys.stderr)
    console = console or Console(file=stream)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}", markup=False),
        Time(),
    )
    hidden = hidden or not console.is_terminal
    with Bar(*columns, console=console, disable=hidden, refresh_per_second=5) as progress:
        task = progress.add_task(name, total=total, status=begin)

        def tell(done: int, status: str) -> None:
            progress.update(task, completed=done, status=status)

        yield tell
        if total is None:
            progress.update(task, total=1, completed=1)


def _is_terminal() -> bool:
    """Whether standard error is one: Rich takes FORCE_COLOR, usual in CI, for a terminal too."""
    return not getattr(sys.stderr, "closed", True) and sys.stderr.isatty()  # None has no `closed`


def _minutes(seconds: float | int) -> str:
    """Seconds as a clock shows them, 1:05; from an hour on 1:00:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(chunk: Chunk) -> str:
    """A chunk in a few words: epoch, loss, metrics."""
    if not isinstance(chunk, Chunk):
        raise TypeError(f"chunk must be a Chunk, not {type(chunk).__name__}")
    values = {"loss": float(chunk.losses[-1])} | (chunk.report.metrics if chunk.report else {})
    shown = [f"{name} {value:.4f}" for name, value in values.items()]
    return ", ".join([f"epoch {chunk.epoch}", *shown])
