"""The command line: `jaxnet lecture` runs the experiments, `jaxnet show` draws digits."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click
import jax
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import jaxnet
from jaxnet.data import load_mnist
from jaxnet.lecture import EXPERIMENTS, Experiment, Result, missed, run
from jaxnet.state import Chunk

_FOLDER = click.Path(file_okay=False, path_type=Path)
_ROOT = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with MNIST's four IDX files, plain or gzipped.  [default: the bundled digits]",
)


class _Commands(click.Group):
    """Reports bad input as a usage error: one sentence, exit status 2, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            raise click.UsageError(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jaxnet.__version__, prog_name="jaxnet")
def main() -> None:
    """A PyTorch lecture on small networks as JAX: same seed, same numbers."""


@main.command()
@click.option(
    "--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Run this one; repeatable."
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write results."
)
@click.option("--figures", type=_FOLDER, help="Draw the runs as pictures in this folder.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="Where to run.")
@_ROOT
@click.pass_context
def lecture(
    context: click.Context,
    only: tuple[str, ...],
    json_path: Path | None,
    figures: Path | None,
    device: str | None,
    root: Path | None,
) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed, 2 that the input was wrong.

    \b
    Examples:
      jaxnet lecture
      jaxnet lecture --only minibatch --only logits --json results.json
    """
    place = _find_device(device)
    for path in (json_path, figures and figures / "digits.png"):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [EXPERIMENTS[name] for name in only or EXPERIMENTS]
    results = _run_all(list(dict.fromkeys(chosen)), root, place)
    records = [result.record for result in results]
    if json_path is not None:
        _write_whole(json_path, json.dumps(records, indent=2) + "\n")
    console = Console()
    console.print(_tabulate(records))
    if figures is not None:
        from jaxnet.figures import draw_lecture  # matplotlib takes a while to import

        train, _ = load_mnist(sorted({c for e in chosen for c in e.classes}), root)
        paths = draw_lecture(results, train, figures)
        console.print(f"{len(paths)} figures are in {figures}{os.sep}", soft_wrap=True)
    if any(missed(record) for record in records):
        console.print("A published figure, marked ✗, was not reproduced.")
        context.exit(1)


@main.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("digits.png"),
    show_default=True,
    help="The PNG to write.",
)
@click.option("--classes", default="012", show_default=True, help="Which digits, written together.")
@_ROOT
def show(out: Path, classes: str, root: Path | None) -> None:
    """Draw sample digits, as the lecture's imshow does."""
    from jaxnet.figures import draw_digits

    if not classes.isdecimal():
        raise ValueError(f"--classes must be digits written together, such as 01, not {classes!r}")
    train, _ = load_mnist([int(digit) for digit in classes], root)
    click.echo(f"drew {draw_digits(train, out)}")


def _find_device(name: str | None) -> Any:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ValueError(
            f"--device must be one that JAX finds here ({found}), not {name}"
        ) from error


def _run_all(chosen: list[Experiment], root: Path | None, device: Any) -> list[Result]:
    """Every experiment in turn, with a bar for each on a terminal's standard error."""
    results = []
    columns = (
        TextColumn("{task.fields[experiment]:<14}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for experiment in chosen:
            task = progress.add_task(
                "", experiment=experiment.id, status="compiling", total=experiment.epochs
            )

            def show(chunk: Chunk, task=task) -> None:
                status = f"epoch {chunk.epoch}, loss {chunk.losses[-1]:.4f}"
                if chunk.report is not None:
                    status += f", accuracy {chunk.report.metrics['accuracy']:.4f}"
                progress.update(task, completed=chunk.epoch, status=status)

            results.append(run(experiment, root=root, device=device, hooks=[show]))
    return results


def _tabulate(records: list[dict[str, Any]]) -> Table:
    """The lecture's figures beside ours, narrow enough for 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("experiment", "section", "published\ntrain/test", "ours\ntrain/test"):
        table.add_column(heading, no_wrap=True)
    for heading in ("epochs", "compile s", "run s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        published = record["published"]
        has_figures = any(published.values())
        mark = "" if not has_figures else " ✗" if missed(record) else " ✓"
        table.add_row(
            record["experiment"],
            record["section"],
            _pair(published["train"], published["test"]) if has_figures else "",
            _pair(record["train_accuracy"], record["test_accuracy"]) + mark,
            str(record["reports"][-1]["epoch"]),
            f"{record['compile_seconds']:.2f}",
            f"{record['run_seconds']:.2f}",
        )
    return table


def _pair(train: float, test: float | None) -> str:
    """Accuracies as the lecture prints them, ".9936/.9986"."""
    return "/".join(f"{value:.4f}".lstrip("0") for value in (train, test) if value is not None)


def _write_whole(path: Path, text: str) -> None:
    """Write a file under another name and move it into place, so that no half of it stays."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.close()
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
