"""The command line: `python -m torchref certify my_net.py:build`."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import jaxnet
from torchref.certificate import certify_script


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jaxnet.__version__, prog_name="torchref")
def main() -> None:
    """A torch run and a jaxnet run side by side."""


@main.command()
@click.argument("target", metavar="FILE:FUNCTION")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Rows of a step.  [default: all]")
@click.option("--shuffle/--no-shuffle", default=False, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="For torch.manual_seed.")
@click.option(
    "--save",
    "paths",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="Write the certificate, as .html, .json or .txt; repeatable.",
)
@click.pass_context
def certify(
    context: click.Context,
    target: str,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    seed: int,
    paths: tuple[Path, ...],
) -> None:
    """Port what FUNCTION in FILE builds, train both, and say whether they agree.

    FUNCTION returns (net, loss, optimizer, (X, y)), and a scheduler as a fifth if there is one; it
    is called after torch.manual_seed(seed), so that the initial weights are checked too.

    Exit status 0 says that the runs agree, 1 that they part, 2 that the net cannot be ported or
    that the input was wrong.

    \b
    Example:
      python -m torchref certify my_net.py:build --epochs 2 --batch-size 16 --seed 1
    """
    if strange := [path for path in paths if path.suffix not in (".html", ".json", ".txt")]:
        raise click.UsageError(f"--save must end in .html, .json or .txt, not {strange[0]}")
    if missing := [path for path in paths if not path.parent.is_dir()]:
        raise click.UsageError(f"--save names a folder that is not there: {missing[0].parent}")
    with _scripts_folder(target):
        try:
            build = _load(target)
            certificate = certify_script(
                build, epochs=epochs, batch_size=batch_size, shuffle=shuffle, seed=seed
            )
        except click.UsageError:
            raise
        except (Exception, SystemExit) as error:  # status 1 is for runs that part
            raise click.UsageError(_explain(error, target)) from error
    click.echo(str(certificate))
    for path in paths:
        certificate.save(path)
        click.echo(f"wrote {path}")
    context.exit(0 if certificate.agrees else 1)


def _explain(error: BaseException, target: str) -> str:
    """The error, and the line of the script that it came from, if it did."""
    if isinstance(error, ValueError | TypeError):
        return str(error)
    file = str(Path(target.rpartition(":")[0]).resolve())
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    where = f" (line {lines[-1]} of {Path(file).name})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


@contextmanager
def _scripts_folder(target: str) -> Iterator[None]:
    """As for a script: its neighbours are found, also by what it imports later."""
    folder = str(Path(target.rpartition(":")[0]).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _load(target: str) -> Callable[[], Any]:
    """The function that `my_net.py:build` names."""
    name, _, function = target.rpartition(":")
    path = Path(name)
    if not name or not function or not path.is_file():
        raise click.UsageError(f"FILE:FUNCTION must name a file that is there, not {target!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses, among others, look for it
    spec.loader.exec_module(module)
    build = getattr(module, function, None)
    if not callable(build):
        raise click.UsageError(f"{path} has no function {function!r}")
    return build
