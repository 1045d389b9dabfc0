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
from jaxnet._utils.files import check_file
from jaxnet.callbacks.progress import count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli.options import COUNT, FILE, ONLY, QUIET, ROOT, input_errors, start_jax
from jaxnet.lecture.cli.output import Commands, Output
from jaxnet.lecture.experiments import EXPERIMENTS, find
from torchref.certification import certify_script
from torchref.results import as_json, measure

_STATUS = {"AGREE": 0, "DIVERGE": 1, "UNDECIDED": 3}
"""The exit status of each verdict; whatever fails has another."""
_SCRIPT = "__torchref_script__"
_SEED = click.IntRange(-(2**63), 2**64 - 1)


class _Commands(Commands):
    """Commands that end with a verdict's status, or with 2 where they fail, 130 after Ctrl-C.

    Python ends with 1 where an exception is not caught, click where the pipe behind it was closed:
    that is a verdict here.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command and end the process."""
        status = 2
        try:
            status = super().main(*arguments, **options | {"standalone_mode": False})
        except click.ClickException as error:
            error.show()
        except (click.Abort, KeyboardInterrupt):
            status = 130
        except SystemExit:
            pass  # of a closed pipe, or of standard output that is full
        except BaseException:
            traceback.print_exc()
        finally:
            sys.exit(status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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

    Takes about two minutes on two cores. Exit status 0 says that all certificates say AGREE, 1 that
    one says DIVERGE, 3 that one says UNDECIDED and none DIVERGE, 2 that there are none: the input
    was wrong or something failed.

    \b
    Examples:
      python -m torchref lecture
      python -m torchref lecture --only minibatch --certify 2 --json torch.json
    """
    start_jax()
    names = list(dict.fromkeys(only or EXPERIMENTS))
    with input_errors():
        check_file("--json", path)
        data = {classes: load_mnist(classes, root) for classes in {find(n).classes for n in names}}
    output, found = Output(), []
    for name in names:
        with count(name, 1000, quiet=quiet, begin="torch") as tell:

            def show(done: int, total: int, what: str, tell: Any = tell) -> None:
                half = 500 if epochs else 1000  # the run is half of the work, or all of it
                begun = half if what == "certified" else 0
                tell(begun + done * half // total, f"step {done:,} of {total:,}, {what}")

            found.append(measure(name, data[find(name).classes], epochs=epochs, tell=show))
            output.save_so_far(path, as_json(found))
            last = found[-1]["losses"][-1], found[-1]["train_accuracy"]
            tell(1000, "loss {:.4f}, accuracy {:.4f}".format(*last))
        certificate = found[-1]["certificate"]
        verdict = f"  {certificate['headline']}" if certificate else ""
        right = f"{found[-1]['train_accuracy']:.4f}/{found[-1]['test_accuracy']:.4f}"
        output.say(f"{name:<15}{right}  {found[-1]['run_seconds']:6.2f} s{verdict}")
    if output.save(path, as_json(found)):
        output.say(f"wrote {path}")
    headlines = [run["certificate"]["headline"] for run in found if run["certificate"]]
    worst = [v for v in ("DIVERGE", "UNDECIDED") if any(h.startswith(v) for h in headlines)]
    context.exit(output.status(_STATUS[worst[0]] if worst else 0))


@main.command()
@click.argument("target", metavar="FILE:FUNCTION")
@click.option("--epochs", type=COUNT, help="Passes over the rows.  [default: 1]")
@click.option("--batch-size", type=COUNT, help="Rows of a step.  [default: all]")
@click.option("--shuffle/--no-shuffle", default=None, help="[default: no-shuffle]")
@click.option(
    "--scheduler-interval",
    "interval",
    type=click.Choice(["epoch", "step"]),
    help="When a scheduler is stepped.  [default: epoch]",
)
@click.option("--time", is_flag=True, default=None, help="Also time a training step of both.")
@click.option("--seed", type=_SEED, default=0, show_default=True, help="For torch.manual_seed.")
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
    epochs: int | None,
    batch_size: int | None,
    shuffle: bool | None,
    interval: str | None,
    time: bool | None,
    seed: int,
    paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Train what FUNCTION in FILE builds and its port, and say whether they agree.

    FUNCTION returns (net, loss, optimizer, (X, y)), and a scheduler as a fifth if there is one, or
    a dictionary of certify's arguments, with a port of your own or without. It is called after
    torch.manual_seed(seed): without a port the initial weights are checked too. Options of the
    command go before what FUNCTION says.

    Exit status 0 says that the runs agree, 1 that they diverge, 3 that something could not be
    compared, 2 that there is no verdict, or that it could not be saved: the net cannot be ported,
    the input was wrong, or something failed.

    \b
    Examples:
      python -m torchref certify my_net.py:build --epochs 2 --batch-size 16 --seed 1
      python -m torchref certify my_net.py:build --save certificate.html
    """
    if strange := [path for path in paths if path.suffix not in (".html", ".json", ".txt")]:
        raise click.UsageError(f"--save must end in .html, .json or .txt, not {strange[0]}")
    if missing := [path for path in paths if not path.parent.is_dir()]:
        raise click.UsageError(f"--save names a folder that is not there: {missing[0].parent}")
    start_jax()
    with input_errors():
        for path in paths:
            check_file("--save", path)
    context.with_resource(_scripts_folder(target))
    try:
        build = _load(target)
        with count("certify", 1000, quiet=quiet, begin="building, compiling") as tell:
            certificate = certify_script(
                build,
                epochs=epochs,
                batch_size=batch_size,
                shuffle=shuffle,
                scheduler_interval=interval,
                time=time,
                seed=seed,
                progress=lambda step, of: tell(1000 * step // of, f"step {step:,} of {of:,}"),
            )
    except click.UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise click.UsageError(_explain(error, target)) from error
    output = Output()
    saved = [path for path in paths if output.save(path, certificate.save)]
    output.say(str(certificate))
    for path in saved:
        output.say(f"wrote {path}")
    context.exit(output.status(_STATUS[certificate.verdict]))


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
    """As for a script: its neighbors are found, also by what it imports later.

    They are found after all else: none is taken for a module of Python's, or of a package that is
    imported later, such as matplotlib.
    """
    folder, before = Path(target.rpartition(":")[0]).resolve().parent, sys.path[:]
    sys.path[:] = [*(place for place in before if Path(place).resolve() != folder), str(folder)]
    try:
        yield
    finally:
        sys.path[:] = before


def _load(target: str) -> Callable[[], Any]:
    """The function that `my_net.py:build` names."""
    name, _, function = target.rpartition(":")
    path = Path(name)
    if not name or not function or not path.is_file():
        raise click.UsageError(f"FILE:FUNCTION must name a file that is there, not {target!r}")
    # Under a name of its own: a script called json.py is not what `import json` is to find.
    spec = importlib.util.spec_from_file_location(_SCRIPT, path.resolve())
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_SCRIPT] = module  # where dataclasses, among others, look for it
    spec.loader.exec_module(module)
    build = getattr(module, function, None)
    if not callable(build):
        raise click.UsageError(f"{path} has no function {function!r}")
    return build
