"""What the commands share: folders seen to before the work, and how a run is gone on with."""

import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


def go_on() -> str:
    """How this command is gone on with."""
    arguments = [part for part in sys.argv[1:] if part != "--resume"]
    return f"to go on: {shlex.join(['jaxnet', *arguments, '--resume'])}"


@contextmanager
def plain_warnings() -> Iterator[None]:
    """A warning is a line that begins so, without the place in the program that gave it."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
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
