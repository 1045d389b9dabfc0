"""What the commands share: options, tables, what is said of errors, how a run is resumed."""

import importlib
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import jax
from rich import box
from rich.table import Table

from jaxnet import sweep
from jaxnet._utils.processes import is_primary
from jaxnet._utils.validation import INT32, nearest
from jaxnet.callbacks import Interrupted, NotFinite
from jaxnet.checkpoint import CheckpointMismatchError, CorruptCheckpointError
from jaxnet.data import load_mnist
from jaxnet.lecture.experiments import BEYOND, EXPERIMENTS, Experiment, Split, find
from jaxnet.lecture.torch_results import TorchRun, check_same, load_torch


class Named(click.Choice):
    """A choice whose error names the nearest."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The choice, or an error that says which may have been meant."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(error.message.rstrip(".") + nearest(value, self.choices), param, ctx)


COUNT = click.IntRange(1, INT32)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
EXPERIMENT = Named([*EXPERIMENTS, *BEYOND])
ONLY = click.option("--only", type=EXPERIMENT, multiple=True, help="Run this one; repeatable.")
ROOT = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with MNIST's four IDX files, plain or gzipped.  [default: the bundled digits]",
)
DEVICE = click.option("--device", type=Named(["cpu", "gpu"]), help="Where to run.")
TORCH = click.option(
    "--torch",
    "torch_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show torch's runs beside these: the file of python -m torchref lecture.",
)
NO_CACHE = click.option("--no-cache", is_flag=True, help="Compile anew and keep nothing on disk.")
QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress, the results alone.")


def start_jax() -> None:
    """Reject an environment in which JAX finds no device, before anything else asks it for one."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that "cuda" has its plug-in
        why = str(error) or f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
        raise click.UsageError(f"JAX does not start here: {why}") from error


@contextmanager
def input_errors() -> Iterator[None]:
    """What goes wrong with the user's input in here is one sentence and exit status 2."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        raise _say_once(error) from error


def _say_once(error: Exception) -> Exception:
    """A usage error, which of many processes the first one says; status 2 in all of them."""
    return click.UsageError(str(error)) if is_primary() else click.exceptions.Exit(2)


def load_chosen(
    names: Sequence[str], root: Path | None
) -> tuple[list[Experiment], dict[tuple[int, ...], Split]]:
    """The experiments of these names, all of the lecture's where there is none, and their rows."""
    chosen = [find(name) for name in dict.fromkeys(names or EXPERIMENTS)]
    return chosen, {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}


def load_beside(
    path: Path | None, chosen: Sequence[Experiment], data: Mapping[tuple[int, ...], Split]
) -> Mapping[str, TorchRun]:
    """torch's runs from --torch, which must be the same as these; none where it is not given."""
    if path is None:
        return {}
    try:
        torch = load_torch(path)
        check_same(torch, chosen, data)
    except ValueError as error:
        said = re.sub("^(path|torch) must", "--torch must", str(error))
        raise ValueError(said) from error
    return torch


def prepare_figures(folder: Path | None) -> None:
    """Import what draws: where matplotlib cannot be had, that is said before the first run."""
    if folder is not None:
        importlib.import_module("jaxnet.lecture.figures")


def make_table(words: Iterable[str], numbers: Iterable[str] = ()) -> Table:
    """An empty table: columns of words, then columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def say_how_to_resume() -> str:
    """How this command is resumed."""
    kept = [part for part in ["jaxnet", *sys.argv[1:]] if part != "--resume"]
    return f"to resume: {shlex.join([*kept, '--resume'])}"


@contextmanager
def plain_warnings(quiet: bool = False) -> Iterator[None]:
    """A warning is a line that begins so, without the place in the program that gave it."""

    def show(message: Any, *_: Any) -> None:
        if not quiet:
            click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def ends(
    context: click.Context, folder: Path | None, option: str = "--checkpoint", quiet: bool = False
) -> Iterator[None]:
    """A run that ends before its time says so in a sentence, and how to resume it.

    Quiet where another process says it.
    """
    try:
        yield
    except (Interrupted, sweep.Interrupted) as error:
        said = f"nothing was saved; {option} DIR saves what is done"
        if not quiet:
            click.echo(f"{error}\n{say_how_to_resume() if folder else said}", err=True)
        context.exit(130)
    except NotFinite as error:
        if not quiet:
            click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
        context.exit(1)
    except (CheckpointMismatchError, CorruptCheckpointError, OSError) as error:
        raise _say_once(error) from error
