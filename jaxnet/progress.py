"""What a person sees while something works: nothing where standard error is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from jaxnet.checks import check_count
from jaxnet.state import Chunk, Hook

Tell = Callable[[int, str], None]
"""`tell(done, status)`: so much is done, and what to say of it."""


@contextmanager
def bar(
    name: str, epochs: int, console: Console | None = None, *, quiet: bool = False
) -> Iterator[Hook]:
    """A hook for `jaxnet.fit` that shows the run on standard error.

    A bar with epoch, loss, metrics and the time left, "compiling, first steps" until the first
    chunk is done;
    when the run has ended, the time that it took. Where standard error is no terminal, and with
    `quiet`, nothing. `NO_COLOR` in the environment takes the colours away.

    Args:
      name: of the run, at most 14 letters on a terminal of 80 columns.
      epochs: how many there will be.
      console: Rich's; standard error's if None.
      quiet: show nothing.

    >>> from jaxnet.state import Chunk
    >>> with bar("logits", 10) as hook:
    ...     hook(Chunk(10, 10, None, [0.4014], None, None))
    """
    check_count("epochs", epochs)
    with count(name, epochs, console, quiet=quiet, begin="compiling, first steps") as tell:

        def hook(chunk: Chunk) -> None:
            tell(chunk.epoch, describe(chunk))

        yield hook


@contextmanager
def count(
    name: str,
    total: int | None,
    console: Console | None = None,
    *,
    quiet: bool = False,
    begin: str = "",
) -> Iterator[Tell]:
    """A bar for anything that is counted, or a pulse where nobody knows how much there is.

    Args:
      name: of what works.
      total: what there is to do; None where that is not known.
      console, quiet: as for `bar`.
      begin: what is said until something is done.

    >>> with count("figures", 3) as tell:
    ...     tell(1, "digits")
    """
    if total is not None:
        check_count("total", total)
    hidden = quiet or (console is None and not _is_terminal())
    console = console or Console(stderr=True)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[status]}"),
        _Time(),
    )
    hidden = hidden or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, refresh_per_second=5) as progress:
        task = progress.add_task(name, total=total, status=begin)

        def tell(done: int, status: str) -> None:
            progress.update(task, completed=done, status=status)

        yield tell
        if total is None:
            progress.update(task, total=1, completed=1)


def _is_terminal() -> bool:
    """Whether standard error is one: Rich takes FORCE_COLOR, usual in CI, for a terminal too."""
    return sys.stderr.isatty()


class _Time(ProgressColumn):
    """The time left; until that is known, and at the end, the time that has passed."""

    def render(self, task: Task) -> Text:
        if task.finished or task.time_remaining is None:
            return Text(_minutes(task.finished_time or task.elapsed or 0.0), "progress.elapsed")
        return Text(f"{_minutes(task.time_remaining)} left", "progress.remaining")


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
