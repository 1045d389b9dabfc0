"""What the commands share: options, checks of folders before the work, how a run is resumed."""

import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import jax

from jaxnet._utils.files import write_whole
from jaxnet._utils.processes import is_primary
from jaxnet._utils.validation import nearest
from jaxnet.callbacks import Interrupted, NotFinite
from jaxnet.checkpoint import CheckpointMismatchError, CorruptCheckpointError
from jaxnet.lecture.experiments import BEYOND, EXPERIMENTS, Experiment, Split
from jaxnet.lecture.torch_results import TorchRun, check_same, load_torch


class Named(click.Choice):
    """A choice whose error names the nearest."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The choice, or an error that says which may have been meant."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(error.message.rstrip(".") + nearest(value, self.choices), param, ctx)


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
    type=FILE,
    help="Show torch's runs beside these: the file of python -m torchref lecture.",
)
NO_CACHE = click.option("--no-cache", is_flag=True, help="Compile anew and keep nothing on disk.")
QUIET = click.option("--quiet", "-q", is_flag=True, help="No progress, the results alone.")


@contextmanager
def input_errors() -> Iterator[None]:
    """What goes wrong with the user's input in here is one sentence and exit status 2."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        raise _say_once(error) from error


def _say_once(error: Exception) -> Exception:
    """A usage error, which of many processes the first one says; status 2 in all of them."""
    return click.UsageError(str(error)) if is_primary() else click.exceptions.Exit(2)


def find_device(name: str | None) -> Any:
    """The first device of that kind, None for JAX's own choice."""
    return None if name is None else find_devices(name)[0]


def find_devices(name: str | None) -> list[Any]:
    """The devices of that kind, or of JAX's own choice."""
    try:
        return jax.devices(name)
    except RuntimeError as error:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        message = f"--device must be one that JAX finds here ({found}), not {name}"
        raise ValueError(message) from error


def load_beside(
    path: Path | None, chosen: Sequence[Experiment], data: Mapping[tuple[int, ...], Split]
) -> Mapping[str, TorchRun]:
    """torch's runs from --torch, which must be the same as these; none where it is not given."""
    if path is None:
        return {}
    if not path.exists():
        raise click.BadParameter(f"File {str(path)!r} does not exist.", param_hint="'--torch'")
    try:
        torch = load_torch(path)
        check_same(torch, chosen, data)
    except ValueError as error:
        said = re.sub("^(path|torch) must", "--torch must", str(error))
        raise ValueError(said) from error
    return torch


def write_json(path: Path, listed: list[Any]) -> None:
    """Write a list as JSON; the file is written in full or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(listed, indent=2) + "\n")


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


def check_file(option: str, path: Path | None) -> None:
    """See that a file can be written, and its folder made; make nothing yet."""
    if path is None:
        return
    if not path.name:
        raise ValueError(f"{option}: the name of the file to write is empty")
    if path.exists():
        _check_writable(option, path)
    else:
        check_folder(option, path.parent)


def check_folder(option: str, path: Path | None) -> None:
    """See that a folder is there or can be made, and be written in."""
    if path is None:
        return
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise NotADirectoryError(f"{option} needs the folder {path}, but {there} is a file")
    _check_writable(option, there)


def _check_writable(option: str, path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{option} needs {path}, which cannot be written")


@contextmanager
def ends(context: click.Context, checkpoint: Path | None, *, quiet: bool = False) -> Iterator[None]:
    """A run that ends before its time says so in a sentence, and how to resume it.

    Quiet where another process says it.
    """
    try:
        yield
    except Interrupted as error:
        said = "nothing was saved; --checkpoint DIR saves a run as it goes"
        if not quiet:
            said = said if checkpoint is None else say_how_to_resume()
            click.echo(f"{error}\n{said}", err=True)
        context.exit(130)
    except NotFinite as error:
        if not quiet:
            click.echo("\n".join([f"Error: {error}", *getattr(error, "__notes__", ())]), err=True)
        context.exit(1)
    except (CheckpointMismatchError, CorruptCheckpointError, OSError) as error:
        raise _say_once(error) from error
