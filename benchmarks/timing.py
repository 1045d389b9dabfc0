"""Rounds in which contestants take turns, and what is said of their seconds."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import jax
import torch

from jaxnet.lecture._machine import count_cores, name_processor


def clock(call: Callable[[], Any]) -> float:
    """Seconds that one call takes; it must not return before its work is done."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interleave(
    contestants: Mapping[str, Callable[[], float]], rounds: int, *, warm: bool = False
) -> dict[str, list[float]]:
    """The seconds that each contestant gives, `rounds` times, in turn.

    Each round begins with another contestant, so that none always follows the same one. `warm`
    says that all are warmed up; otherwise each runs once more, before the first round.

    >>> interleave({"one": lambda: 1.0, "two": lambda: 2.0}, rounds=2)
    {'one': [1.0, 1.0], 'two': [2.0, 2.0]}
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for name in [] if warm else names:
        contestants[name]()
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(contestants[name]())
    return seconds


def median_ratio(seconds: list[float], seconds_other: list[float]) -> float:
    """Of the others' seconds to ours: the median of the rounds' own ratios.

    >>> median_ratio([1.0, 2.0, 1.0], [3.0, 3.0, 3.0])
    3.0
    """
    pairs = zip(seconds, seconds_other, strict=True)
    return statistics.median(theirs / mine for mine, theirs in pairs)


def as_json(results: Any) -> str:
    """Results as the files of `benchmarks/results` have them."""
    return json.dumps(results, indent=1) + "\n"


def describe_machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, threads, versions."""
    names = ["jax", "jaxlib", "flax", "optax", "torch", "numpy", "equinox", "keras", "scikit-learn"]
    return {
        "processor": name_processor(),
        "cores": count_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "device": str(jax.devices()[0]),
        "torch threads": torch.get_num_threads(),
        "versions": {name: version for name in names if (version := _find_version(name))}
        | {"torch": torch.__version__},  # with the build: +cpu, +cu132
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
