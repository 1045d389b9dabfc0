"""What a person sees while a run works."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jaxnet.state import Chunk, Hook


@contextmanager
def bar(name: str, epochs: int, console: Console | None = None) -> Iterator[Hook]:
    """A hook for `jaxnet.fit` that shows the run on standard error.

    On a terminal, a bar with epoch, loss, metrics and the time left, "compiling" until the first
    chunk is done. Elsewhere, a line when the run has ended.

    >>> from jaxnet.state import Chunk
    >>> with bar("logits", 10, Console()) as hook:
    ...     hook(Chunk(10, 10, None, [0.4014], None, None))
    logits: epoch 10, loss 0.4014
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=epochs, status="compiling")
        status = "stopped before its first epoch"

        def hook(chunk: Chunk) -> None:
            nonlocal status
            status = describe(chunk)
            progress.update(task, completed=chunk.epoch, status=status)

        yield hook
    if not console.is_terminal:
        console.print(f"{name}: {status}", highlight=False, soft_wrap=True)


def describe(chunk: Chunk) -> str:
    """A chunk in a few words: epoch, loss, metrics."""
    values = {"loss": float(chunk.losses[-1])} | (chunk.report.metrics if chunk.report else {})
    shown = [f"{name} {value:.4f}" for name, value in values.items()]
    return ", ".join([f"epoch {chunk.epoch}", *shown])
