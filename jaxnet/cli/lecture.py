"""The command line: `jaxnet lecture` runs experiments, `show` draws, `doctor` examines."""

import atexit
import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import jax
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxnet
from jaxnet import runs
from jaxnet.archive import Damaged
from jaxnet.cache import kept_programs
from jaxnet.checkpoint import Another, list_epochs
from jaxnet.cli_options import check_file, check_folder, go_on, plain_warnings
from jaxnet.cli_sweep import sweep
from jaxnet.data import load_mnist
from jaxnet.doctor import Finding, examine
from jaxnet.files import write_whole
from jaxnet.finite import NotFinite
from jaxnet.lecture import BEYOND, EXPERIMENTS, Experiment, Result, find, missed, run
from jaxnet.precision import MEANINGS, Precision
from jaxnet.progress import bar
from jaxnet.runs import Interrupted, OnNan

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
    # Not where a download brought torch along: some of its parts complain about what stays.
    atexit.register(lambda: "torch" in sys.modules or gc.freeze())


main.add_command(sweep)


@main.command()
@click.option(
    "--only",
    type=click.Choice([*EXPERIMENTS, *BEYOND]),
    multiple=True,
    help="Run this one; repeatable.",
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
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save the runs in this folder as they go.",
)
@click.option(
    "--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints that stay."
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoints.")
@click.option(
    "--on-nan",
    type=click.Choice(get_args(OnNan)),
    default="stop",
    show_default=True,
    help="What to do when a loss or a weight is no longer finite.",
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
    checkpoint: Path | None,
    keep: int,
    resume: bool,
    on_nan: OnNan,
    no_cache: bool,
    root: Path | None,
) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed, that a row does not use torch's random
    numbers, that a run went wrong or that its end could not be saved; 2 that the input was wrong.

    With --checkpoint, a run is saved at most once a second and at its end, and --resume goes on
    bit for bit. Ctrl-C finishes what is under way, saves, and says how to go on.

    ten_class is beyond the lecture: it runs only where --only names it, on the four files in --root
    or downloaded.

    Compiled programs are kept in the user's cache, at most 256 MiB, and used again by the next run.

    \b
    Examples:
      jaxnet lecture
      jaxnet lecture --only minibatch --only logits --json results.json
      jaxnet lecture --only ten_class --root FOLDER
      jaxnet lecture --checkpoint runs
      jaxnet lecture --checkpoint runs --resume
    """
    chosen = [find(name) for name in dict.fromkeys(only or EXPERIMENTS)]
    with _input():  # all of it before the first run: nothing is lost to a wrong path
        place = _find_device(device)
        check_file("--json", json_path)
        check_folder("--figures", figures)
        data = {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}
        folders = _prepare_checkpoints(chosen, checkpoint, resume)

    results = []
    with kept_programs(not no_cache) as programs, _ends(context, checkpoint), plain_warnings():
        for experiment in chosen:
            train = partial(
                runs.fit,
                checkpoint=folders[experiment.id],
                keep=keep,
                resume=resume,
                on_nan=on_nan,
            )
            with bar(experiment.id, experiment.epochs) as hook:
                rows = data[experiment.classes]
                result = run(
                    experiment,
                    rows,
                    device=place,
                    hooks=[hook],
                    precision=precision,
                    train=train,
                )
                results.append(result)
    records = [result.record for result in results]
    console = Console()
    console.print(_tabulate(chosen, results))
    console.print(f"precision: {precision} ({MEANINGS[precision]})", highlight=False)
    if programs is not None:
        console.print(f"compiled programs are kept in {programs}", highlight=False, soft_wrap=True)
    if json_path is not None:
        _write(json_path, records)
    if figures is not None:
        from jaxnet.figures import draw_lecture  # matplotlib takes a while to import

        paths = draw_lecture(results, data[max(data, key=len)][0], figures)
        console.print(f"{len(paths)} figures are in {figures}{os.sep}", soft_wrap=True)
    ends = {e.id: list_epochs(checkpoint / e.id)[-1:] for e in chosen} if checkpoint else {}
    lost = [e.id for e in chosen if ends.get(e.id, [e.epochs]) != [e.epochs]]
    if lost:
        click.echo(f"Error: the end of {', '.join(lost)} could not be saved.", err=True)
        context.exit(1)
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
    from jaxnet.figures import check_picture, draw_digits

    with _input():
        if not (classes.isascii() and classes.isdecimal()):
            raise ValueError(f"--classes must be digits together, such as 01, not {classes!r}")
        check_file("--out", out)
        check_picture(out)
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
        check_file("--json", json_path)
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
        _write(json_path, [finding._asdict() for finding in findings])
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


def _prepare_checkpoints(
    chosen: Sequence[Experiment], folder: Path | None, resume: bool
) -> Mapping[str, Path | None]:
    """Where each experiment is saved; refused where one has checkpoints and does not go on."""
    if folder is None:
        if resume:
            raise ValueError("--resume needs --checkpoint DIR, the folder to go on from")
        return dict.fromkeys(experiment.id for experiment in chosen)
    folders = {experiment.id: folder / experiment.id for experiment in chosen}
    check_folder("--checkpoint", folder)
    found = {path: list_epochs(path) for path in folders.values()}
    for path, epochs in found.items():
        check_folder("--checkpoint", path)
        if epochs and not resume:
            raise ValueError(
                f"--checkpoint {path} has checkpoints already, up to epoch {epochs[-1]}: --resume "
                "goes on from there, or choose another folder"
            )
    if resume and not any(found.values()):
        click.echo(f"Note: {folder} has nothing to go on from; the runs begin.", err=True)
    return folders


@contextmanager
def _ends(context: click.Context, checkpoint: Path | None) -> Iterator[None]:
    """A run that ends before its time says so in a sentence, and how to go on."""
    try:
        yield
    except Interrupted as error:
        said = "nothing was saved; --checkpoint DIR saves a run as it goes"
        if checkpoint is not None:
            said = go_on()
        click.echo(f"{error}\n{said}", err=True)
        context.exit(130)
    except NotFinite as error:
        click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
        context.exit(1)
    except (Another, Damaged, OSError) as error:
        raise click.UsageError(str(error)) from error


def _start_jax() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that "cuda" has its plug-in
        why = str(error) or f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
        raise RuntimeError(f"JAX does not start here: {why}") from error


def _write(path: Path, listed: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(listed, indent=2) + "\n")


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
