"""One command on many devices, of one process or of many: the options, and who speaks."""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import jax

from jaxnet.cli.options import LAUNCHER, find_devices, go_on, input_errors
from jaxnet.hosts import LOST, PeerLost, check_place, connect, is_first, is_of_all
from jaxnet.placement import AXIS

_DEATHSIG = 1  # PR_SET_PDEATHSIG
_DEVICES = "Run on so many devices together.  [default: one{}]"
_OPTIONS = (
    click.option(
        "--devices", type=click.IntRange(1), help=_DEVICES.format("; all with --distributed")
    ),
    click.option("--distributed", is_flag=True, help="This is one of many processes of one run."),
    click.option("--coordinator", metavar="HOST:PORT", help="Where process 0 can be reached."),
    click.option("--num-processes", type=click.IntRange(1), help="How many there are."),
    click.option("--process-id", type=click.IntRange(0), help="Which this one is, from 0."),
)


DEVICES = click.option("--devices", type=click.IntRange(1), help=_DEVICES.format(""))
"""For a command that runs in one process."""


def processes(command: Callable) -> Callable:
    """The options of a command that runs on many devices, in many processes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@contextmanager
def joined(
    context: click.Context,
    distributed: bool,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    checkpoint: Path | None,
) -> Iterator[bool]:
    """What runs in here is one run of many processes, where that is asked for.

    Gives whether this process prints and writes. A process that is lost ends the others in a
    sentence, with the status `jaxnet.hosts.LOST`; an error that all have is said by the first.
    """
    place = coordinator, num_processes, process_id
    _check_options(distributed, *place)
    if not distributed:
        yield True
        return
    die_with_launcher()
    try:
        with _own_stdout(), ExitStack() as stack:
            with _option_errors():
                stack.enter_context(connect(*place, advice=_advise(checkpoint)))
            try:
                yield is_first()
            except Exception as error:
                if is_of_all(error):
                    context.exit(getattr(error, "exit_code", 1))
                raise
    except PeerLost as error:
        click.echo(f"Error: {error}", err=True)
        context.exit(LOST)


def die_with_launcher() -> None:
    """Be killed when the process of `jaxnet.launch` is, where that started this one on Linux."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_DEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it was killed before
        os._exit(LOST)


@contextmanager
def _own_stdout() -> Iterator[None]:
    """Standard output without what the runtime's C++ prints there of its connections."""
    try:
        ours = sys.stdout.fileno() == 1
    except (OSError, ValueError):
        ours = False
    if not ours:
        yield
        return
    sys.stdout.flush()
    before, kept = sys.stdout, os.dup(1)
    with (
        open(os.devnull, "w") as nowhere,
        open(kept, "w", buffering=1, encoding=before.encoding) as mine,
    ):
        os.dup2(nowhere.fileno(), 1)
        sys.stdout = mine
        try:
            yield
        finally:
            mine.flush()
            sys.stdout = before
            os.dup2(kept, 1)


def _check_options(distributed: bool, *place: Any) -> None:
    names = ("--coordinator", "--num-processes", "--process-id")
    given = [name for name, value in zip(names, place, strict=True) if value is not None]
    if given and not distributed:
        raise click.UsageError(f"{given[0]} is of one process of many: it needs --distributed")
    with _option_errors():
        check_place(*place)


@contextmanager
def _option_errors() -> Iterator[None]:
    """What is wrong with a place among processes, said with the options' names."""
    with input_errors():
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            names = r"\b(coordinator|num_processes|process_id)\b(?! \S+ cannot)"
            said = re.sub(names, lambda found: "--" + found[0].replace("_", "-"), str(error))
            raise ValueError(said) from error


def _advise(checkpoint: Path | None) -> str:
    """What to do once a process was lost."""
    if checkpoint is None:
        return "nothing was saved; --checkpoint DIR saves a run as it goes"
    return f"start all processes again, as many as you like; {go_on()}"


def _take_evenly(found: Sequence[Any], count: int) -> list[Any]:
    """So many devices, as many of each process."""
    share = count // jax.process_count()
    taken: dict[int, list[Any]] = {}
    for device in found:
        taken.setdefault(device.process_index, []).append(device)
    return [device for own in taken.values() for device in own[:share]]


def find_mesh(kind: str | None, count: int | None, distributed: bool) -> Any:
    """The mesh of so many devices, or of all that many processes have; None for one device."""
    if count is None and not distributed:
        return None
    found = find_devices(kind)
    devices = _take_evenly(found, len(found) if count is None else count)
    platform = found[0].platform
    if count is not None and len(found) < count:
        more = f"; JAX_NUM_CPU_DEVICES={count} in the environment makes so many"
        raise ValueError(
            f"--devices must be at most {len(found)}, as many as JAX finds here ({platform}), "
            f"not {count}{more if platform == 'cpu' and not distributed else ''}"
        )
    if len(devices) != (count or len(found)):
        raise ValueError(
            f"--devices must be as many of each of {jax.process_count()} processes, a multiple of "
            f"that, not {count}"
        )
    return jax.make_mesh((len(devices),), (AXIS,), devices=devices)
