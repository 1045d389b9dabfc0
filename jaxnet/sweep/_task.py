"""What all lanes of a sweep compute, checked, and what it is in words."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet._utils.descriptions import describe
from jaxnet._utils.validation import (
    INT32,
    check_count,
    check_devices,
    check_finite,
    check_function,
)
from jaxnet.data.loader import Batching, batching_of
from jaxnet.data.sources import InMemory, as_source, read_all
from jaxnet.precision import Precision
from jaxnet.sweep.lanes import Lane, Program
from jaxnet.train._checks import check_metrics, check_steps


class Task(NamedTuple):
    """What all lanes of a sweep compute, by which programs are remembered."""

    loss: Callable
    batching: Batching
    epochs: int
    report_every: int | None
    report_loader: bool
    metrics: tuple[tuple[str, Callable], ...]
    generator: Any
    """The loader's own; with one, which holds arrays, nothing is remembered."""
    precision: Precision


def make_task(
    loader: Any, rows: tuple, mesh: Any, loss: Any, epochs: Any, reports: tuple, precision: Any
) -> Task:
    """What all lanes compute, checked."""
    report_every, report_loader, metrics = reports
    (x, y), test = rows
    if test is not None and _list_rows(test) != _list_rows((x, y)):
        shapes = [
            " and ".join(str(np.shape(a)) for a in jax.tree.leaves(p)) for p in (test, (x, y))
        ]
        raise ValueError(
            f"test must have rows like those of data: its shapes are {shapes[0]}, those of data "
            f"{shapes[1]}"
        )
    if mesh is None:
        check_devices(data=(x, y), test=test, generator=loader.generator)
    for name, values in zip(("x", "y", "test", "test"), (x, y, *(test or ())), strict=False):
        for leaf in jax.tree.leaves(values):
            check_finite(name, leaf)
    check_function("loss", loss, "a function loss(outputs, y)")
    check_metrics(metrics)
    if report_every is not None:
        check_count("report_every", report_every)
    if report_loader and (loader.batch_size is None or report_every is None):
        raise ValueError("report_loader=True needs report_every and batch_size")
    batching = batching_of(loader)
    epochs = check_count("epochs", epochs)
    check_steps(epochs, INT32 // batching.steps)
    every = None if report_every is None or report_every > epochs else int(report_every)
    draws = report_loader and every is not None
    named = tuple((metrics or {}).items())
    return Task(loss, batching, epochs, every, draws, named, loader.generator, precision)


def _list_rows(rows: tuple) -> tuple[Any, list[tuple[int, ...]]]:
    """How rows are nested, and the shape of one."""
    leaves, structure = jax.tree.flatten(tuple(rows))
    return structure, [np.shape(leaf)[1:] for leaf in leaves]


def read_test(test: Any) -> Any:
    """The test rows, in memory; errors name the argument."""
    try:
        return read_all(as_source(test)).arrays
    except (ValueError, TypeError) as error:
        said = str(error) if "data" in str(error) else f"data: {error}"
        raise type(error)(said.replace("data", "test", 1)) from error


def describe_sweep(
    task: Task, rows: tuple, optimizer: Any, lanes: list[Lane], programs: list[Program]
) -> dict[str, Any]:
    """What decides a sweep's numbers, for JSON."""
    seeds = list(dict.fromkeys(lane.seed for lane in lanes))
    return {
        "seeds": seeds,
        "grid": describe([lane.point for lane in lanes[:: len(seeds)]]),
        "net": describe([program.net for program in programs]),
        "optimizer": describe(optimizer),
        **describe(task._asdict()),
        "data": InMemory(rows[0]).digest(),
        "test": None if rows[1] is None else InMemory(rows[1]).digest(),
    }
