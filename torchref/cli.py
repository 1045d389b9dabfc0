"""The command line: `python -m torchref lecture`, `python -m torchref certify FILE:FUNCTION`."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import jaxnet
from jaxnet.callbacks.progress import count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli.options import FILE, ONLY, QUIET, ROOT, check_file, input_errors
from jaxnet.lecture.experiments import EXPERIMENTS, find
from torchref.certification import certify_script
from torchref.results import measure, save


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jaxnet.__version__, prog_name="torchref")
def main() -> None:
    """A torch run and a jaxnet run side by side.

    \b
    Examples:
      python -m torchref lecture --json torch.json
      python -m torchref certify my_net.py:build --epochs 2 --batch-size 16
    """


@main.command()
@ONLY
@click.option(
    "--json",
    "path",
    type=FILE,
    default=Path("torch.json"),
    show_default=True,
    help="The file to write, for jaxnet report --torch.",
)
@click.option(
    "--certify",
    "epochs",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Epochs of each that are certified, 0 for none.",
)
@ROOT
@QUIET
@click.pass_context
def lecture(
    context: click.Context,
    only: tuple[str, ...],
    path: Path,
    epochs: int,
    root: Path | None,
    quiet: bool,
) -> None:
    """Run the lecture's experiments in torch, and certify each one's first epochs.

    Takes about two minutes on two cores. Exit status 1 says that a certificate does not say AGREE,
    2 that the input was wrong.

    \b
    Examples:
      python -m torchref lecture
      python -m torchref lecture --only minibatch --certify 2 --json torch.json
    """
    names = list(dict.fromkeys(only or EXPERIMENTS))
    with input_errors():
        check_file("--json", path)
        data = {classes: load_mnist(classes, root) for classes in {find(n).classes for n in names}}
    found = []
    for name in names:
        with count(name, 1000, quiet=quiet, begin="torch") as tell:

            def show(done: int, total: int, what: str, tell: Any = tell) -> None:
                half = 500 if epochs else 1000  # the run is half of the work, or all of it
                begun = half if what == "certified" else 0
                tell(begun + done * half // total, f"step {done:,} of {total:,}, {what}")

            found.append(measure(name, data[find(name).classes], epochs=epochs, tell=show))
            save(found, path)  # after each: a later one that breaks loses none
            last = found[-1]["losses"][-1], found[-1]["train_accuracy"]
            tell(1000, "loss {:.4f}, accuracy {:.4f}".format(*last))
        certificate = found[-1]["certificate"]
        verdict = f"  {certificate['headline']}" if certificate else ""
        right = f"{found[-1]['train_accuracy']:.4f}/{found[-1]['test_accuracy']:.4f}"
        click.echo(f"{name:<15}{right}  {found[-1]['run_seconds']:6.2f} s{verdict}")
    click.echo(f"wrote {path}")
    others = [run for run in found if run["certificate"] and not run["certificate"]["agrees"]]
    context.exit(1 if others else 0)


@main.command()
@click.argument("target", metavar="FILE:FUNCTION")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Rows of a step.  [default: all]")
@click.option("--shuffle/--no-shuffle", default=False, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="For torch.manual_seed.")
@click.option(
    "--save",
    "paths",
    type=FILE,
    multiple=True,
    help="Write the certificate, as .html, .json or .txt; repeatable.",
)
@QUIET
@click.pass_context
def certify(
    context: click.Context,
    target: str,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    seed: int,
    paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Port what FUNCTION in FILE builds, train both, and say whether they agree.

    FUNCTION returns (net, loss, optimizer, (X, y)), and a scheduler as a fifth if there is one; it
    is called after torch.manual_seed(seed), so that the initial weights are checked too.

    Exit status 0 says that the runs agree, 1 that they diverge, 3 that something could not be
    compared, 2 that the net cannot be ported or that the input was wrong.

    \b
    Examples:
      python -m torchref certify my_net.py:build --epochs 2 --batch-size 16 --seed 1
      python -m torchref certify my_net.py:build --save certificate.html
    """
    if strange := [path for path in paths if path.suffix not in (".html", ".json", ".txt")]:
        raise click.UsageError(f"--save must end in .html, .json or .txt, not {strange[0]}")
    if missing := [path for path in paths if not path.parent.is_dir()]:
        raise click.UsageError(f"--save names a folder that is not there: {missing[0].parent}")
    with _scripts_folder(target):
        try:
            build = _load(target)
            with count("certify", 1000, quiet=quiet, begin="building, compiling") as tell:
                certificate = certify_script(
                    build,
                    epochs=epochs,
                    batch_size=batch_size,
                    shuffle=shuffle,
                    seed=seed,
                    progress=lambda step, of: tell(1000 * step // of, f"step {step:,} of {of:,}"),
                )
        except click.UsageError:
            raise
        except (Exception, SystemExit) as error:  # status 1 is for runs that diverge
            raise click.UsageError(_explain(error, target)) from error
    click.echo(str(certificate))
    for path in paths:
        certificate.save(path)
        click.echo(f"wrote {path}")
    context.exit({"AGREE": 0, "DIVERGE": 1, "UNDECIDED": 3}[certificate.verdict])


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
    """As for a script: its neighbors are found, also by what it imports later."""
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
