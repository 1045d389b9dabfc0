"""One command on many devices, of one process or of many: the options, and where it runs."""

from types import SimpleNamespace
from typing import Any

import click
import jax

from jaxnet.lecture.cli.options import input_errors
from jaxnet.train import OnMesh
from jaxnet.train.sharding import AXIS

DEVICES = click.option(
    "--devices", type=click.IntRange(1), help="Run on so many devices together.  [default: one]"
)


def connect(options: SimpleNamespace) -> None:
    """Make this process one of many, with `jax.distributed.initialize`, where that is asked for."""
    place = (options.coordinator, options.num_processes, options.process_id)
    given = place != (None,) * 3
    if given and (None in place or not options.distributed):
        rule = "--coordinator, --num-processes and --process-id go together, with --distributed"
        raise click.UsageError(f"{rule}; none of them is needed where the cluster tells")
    if options.distributed:
        config: Any = jax.config
        # The service takes SIGTERM and nobody asks it: a process that is told to end is to end.
        config.update("jax_enable_preemption_service", False)
        with input_errors():
            jax.distributed.initialize(*place)


def find_place(kind: str | None, count: int | None = None, whole: bool = False) -> dict[str, Any]:
    """Where `jaxnet.lecture.run` is to run, as its arguments.

    One device of that kind, a mesh of `count` of them, or a `whole` one, of all processes.
    """
    try:
        found = jax.devices(kind)
    except RuntimeError as error:
        names = ", ".join(sorted({device.platform for device in jax.devices()}))
        message = f"--device must be one that JAX finds here ({names}), not {kind}"
        raise ValueError(message) from error
    if count is None and not whole:
        return {"device": found[0] if kind else None}
    if whole and count is not None:
        raise ValueError("--devices is of one process: --distributed runs on all devices")
    if count is not None and count > len(found):
        most = f"{len(found)}, as many as JAX finds here ({found[0].platform})"
        more = f"; JAX_NUM_CPU_DEVICES={count} in the environment makes so many"
        more *= found[0].platform == "cpu"
        raise ValueError(f"--devices must be at most {most}, not {count}{more}")
    mesh = jax.make_mesh((count or len(found),), (AXIS,), devices=found[:count])
    return {"placement": OnMesh(mesh)}
