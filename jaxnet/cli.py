"""The command line: `jaxnet lecture` runs experiments, `show` draws, `doctor` examines."""

import atexit
import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import jax
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxnet
from jaxnet.cache import kept_programs
from jaxnet.cli_sweep import sweep
from jaxnet.data import load_mnist
from jaxnet.doctor import Finding, examine
from jaxnet.files import write_whole
from jaxnet.lecture import EXPERIMENTS, Experiment, Result, missed, run
from jaxnet.precision import MEANINGS, Precision
from jaxnet.progress import bar

_ROOT = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with MNIST's four IDX files, plain or gzipped.  [default: the bundled digits]",
)
_FILE = click.Path(dir_okay=False, path_type=Path)


@contextmanager
def _input() -> Iterator[None]:
    """What goes wrong with the user's input in here is one sentence and exit status 2."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        raise click.UsageError(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jaxnet.__version__, prog_name="jaxnet")
def main() -> None:
    """A PyTorch lecture on small networks as JAX: same seed, same numbers."""
    # Python's last collection walks over all that JAX imported, a third of a second for nothing.
    atexit.register(gc.freeze)


main.add_command(sweep)


@main.command()
@click.option(
    "--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Run this one; repeatable."
)
@click.option("--json", "json_path", type=_FILE, help="Write results.")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw the runs as pictures in this folder.",
)
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="Where to run.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="parity",
    show_default=True,
    help="How exactly to compute.",
)
@click.option("--no-cache", is_flag=True, help="Compile anew and keep nothing on disk.")
@_ROOT
@click.pass_context
def lecture(
    context: click.Context,
    only: tuple[str, ...],
    json_path: Path | None,
    figures: Path | None,
    device: str | None,
    precision: Precision,
    no_cache: bool,
    root: Path | None,
) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed or that a row does not use torch's random
    numbers, 2 that the input was wrong.

    Compiled programs are kept in the user's cache, at most 256 MiB, and used again by the next run.

    \b
    Examples:
      jaxnet lecture
      jaxnet lecture --only minibatch --only logits --json results.json
    """
    chosen = [EXPERIMENTS[name] for name in dict.fromkeys(only or EXPERIMENTS)]
    with _input():  # all of it before the first run: nothing is lost to a wrong path
        place = _find_device(device)
        _prepare_file(json_path)
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
        data = {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}

    results = []
    with kept_programs(not no_cache) as programs:
        for experiment in chosen:
            with bar(experiment.id, experiment.epochs) as hook:
                rows = data[experiment.classes]
                result = run(experiment, rows, device=place, hooks=[hook], precision=precision)
                results.append(result)
    records = [result.record for result in results]
    console = Console()
    console.print(_tabulate(chosen, results))
    console.print(f"precision: {precision} ({MEANINGS[precision]})", highlight=False)
    if programs is not None:
        console.print(f"compiled programs are kept in {programs}", highlight=False, soft_wrap=True)
    if json_path is not None:
        write_whole(json_path, json.dumps(records, indent=2) + "\n")
    if figures is not None:
        from jaxnet.figures import draw_lecture  # matplotlib takes a while to import

        paths = draw_lecture(results, data[max(data, key=len)][0], figures)
        console.print(f"{len(paths)} figures are in {figures}{os.sep}", soft_wrap=True)
    if any(missed(record) for record in records):
        console.print("✗: a published figure was not reproduced, or not on torch's random numbers.")
        context.exit(1)


@main.command()
@click.option(
    "--out", type=_FILE, default=Path("digits.png"), show_default=True, help="The PNG to write."
)
@click.option("--classes", default="012", show_default=True, help="Which digits, written together.")
@_ROOT
def show(out: Path, classes: str, root: Path | None) -> None:
    """Draw sample digits, as the lecture's imshow does."""
    from jaxnet.figures import draw_digits

    with _input():
        if not (classes.isascii() and classes.isdecimal()):
            raise ValueError(f"--classes must be digits together, such as 01, not {classes!r}")
        _prepare_file(out)
        train, _ = load_mnist([int(digit) for digit in classes], root)
    click.echo(f"drew {draw_digits(train, out)}")


@main.command()
@click.option("--json", "json_path", type=_FILE, help="Write the findings.")
@click.pass_context
def doctor(context: click.Context, json_path: Path | None) -> None:
    """Examine what on this machine decides whether numbers match torch's.

    Exit status 1 says that something differs, 2 that the input was wrong or JAX does not start.
    """
    with _input():
        _prepare_file(json_path)
        _start_jax()
    findings = examine()
    console = Console()
    console.print(_list_findings(findings))
    for finding in findings:
        if finding.advice:
            console.print(Text(f"{finding.name}: {finding.advice}"))
    differing = sum(finding.verdict == "differs" for finding in findings)
    if not differing:
        console.print("Nothing here is known to make numbers differ from torch's.")
    if json_path is not None:
        listed = [finding._asdict() for finding in findings]
        write_whole(json_path, json.dumps(listed, indent=2) + "\n")
    if differing:
        context.exit(1)


def _find_device(name: str | None) -> Any:
    if name is None:
        return None
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ValueError(
            f"--device must be one that JAX finds here ({found}), not {name}"
        ) from error


def _start_jax() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that "cuda" has its plug-in
        why = str(error) or f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
        raise RuntimeError(f"JAX does not start here: {why}") from error


def _prepare_file(path: Path | None) -> None:
    """Make a file's folder, and see that it can be written there."""
    if path is None:
        return
    if not path.name:
        raise ValueError("the name of the file to write is empty")
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise PermissionError(f"{target} cannot be written")


def _tabulate(chosen: list[Experiment], results: list[Result]) -> Table:
    """The lecture's figures beside ours, narrow enough for 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("experiment", "section", "published\ntrain/test", "ours\ntrain/test"):
        table.add_column(heading, no_wrap=True)
    table.add_column("random", no_wrap=True)
    for heading in ("epochs", "compile\ns", "run\ns"):
        table.add_column(heading, justify="right", no_wrap=True)
    for experiment, (record, *_) in zip(chosen, results, strict=True):
        wrong = missed(record)
        mark = " ✗" if {"train", "test"} & set(wrong) else " ✓" if any(experiment.published) else ""
        table.add_row(
            experiment.id,
            experiment.section,
            _pair(*experiment.published),
            _pair(record["train_accuracy"], record["test_accuracy"]) + mark,
            record["random"] + " ✗" * ("random" in wrong),
            str(experiment.epochs),
            f"{record['compile_seconds']:.2f}",
            f"{record['run_seconds']:.2f}",
        )
    return table


def _list_findings(findings: Sequence[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("what", no_wrap=True)
    table.add_column("found here", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for finding in findings:
        table.add_row(finding.name, Text(finding.value), finding.verdict)
    return table


def _pair(train: float | None, test: float | None) -> str:
    """Accuracies as the lecture prints them, ".9936/.9986"."""
    return "/".join(f"{value:.4f}".removeprefix("0") for value in (train, test) if value)
