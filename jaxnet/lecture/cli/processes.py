"""One command on many devices, of one process or of many: the options, and who speaks."""

from collections.abc import Callable
from typing import Any

import click
import jax

from jaxnet.lecture.cli.options import find_devices, input_errors
from jaxnet.train import OnMesh
from jaxnet.train.sharding import AXIS

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


def connect(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Make this process one of many, with `jax.distributed.initialize`, where that is asked for."""
    place = {
        "--coordinator": coordinator,
        "--num-processes": num_processes,
        "--process-id": process_id,
    }
    given = [name for name, value in place.items() if value is not None]
    if not distributed:
        if given:
            raise click.UsageError(f"{given[0]} is of one process of many: it needs --distributed")
        return
    if given and len(given) < len(place):
        missing = ", ".join(name for name in place if name not in given)
        rule = f"{', '.join(place)} go together, or none of them where the cluster tells"
        raise click.UsageError(f"{rule}; {missing} is missing")
    config: Any = jax.config
    # The service takes SIGTERM and nobody asks it: a process that is told to end is to end.
    config.update("jax_enable_preemption_service", False)
    with input_errors():
        jax.distributed.initialize(coordinator, num_processes, process_id)


def find_placement(kind: str | None, count: int | None, distributed: bool) -> OnMesh | None:
    """A mesh of so many devices, or of all that many processes have; None for one device."""
    if count is None and not distributed:
        return None
    found = find_devices(kind)
    share = (len(found) if count is None else count) // jax.process_count()
    owned: dict[int, list[Any]] = {}
    for device in found:
        owned.setdefault(device.process_index, []).append(device)
    devices = [device for own in owned.values() for device in own[:share]]
    platform = found[0].platform
    if count is not None and len(found) < count:
        most = f"{len(found)}, as many as JAX finds here ({platform})"
        more = f"; JAX_NUM_CPU_DEVICES={count} in the environment makes so many"
        more *= platform == "cpu" and not distributed
        raise ValueError(f"--devices must be at most {most}, not {count}{more}")
    if len(devices) != (count or len(found)):
        each = f"as many of each of {jax.process_count()} processes, a multiple of that"
        raise ValueError(f"--devices must be {each}, not {count}")
    return OnMesh(jax.make_mesh((len(devices),), (AXIS,), devices=devices))
