"""The lecture's experiments whole, on torch and on jaxnet: training with its reports."""

from typing import Any

import numpy as np
import torch

import torchref.lecture
from benchmarks.timing import interleave, median_ratio
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.data import load_mnist
from jaxnet.lecture.experiments import EXPERIMENTS, HIDDEN, PIXELS, Experiment, run


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Run one experiment on both sides: how far apart they are, and how fast.

    A first round, recorded and not timed, shows whether the two agree and warms both up. Seconds
    are training with its reports, without imports, data and compilation.
    """
    experiment = EXPERIMENTS[name]
    data = load_mnist(experiment.classes)
    losses: list[float] = []

    def watch(net: Any, output: Any, loss: torch.Tensor) -> None:
        losses.append(loss.item())

    first_torch = torchref.lecture.run(name, data, watch=watch).record
    first_jax = run(experiment, data)
    gap = np.abs(first_jax.history.losses / np.array(losses) - 1).max()
    accuracies = [_list_accuracies(record) for record in (first_torch, first_jax.record)]
    agree = bool(gap <= TRAJECTORY.rtol and accuracies[0] == accuracies[1])
    sides = {
        "torch": lambda: torchref.lecture.run(name, data).record["run_seconds"],
        "jaxnet": lambda: run(experiment, data).record["run_seconds"],
    }
    seconds = interleave(sides, rounds, warm=True)
    return {
        "experiment": name,
        "agree": agree,
        "loss_gap": float(gap),
        "accuracies_torch": accuracies[0],
        "accuracies_jaxnet": accuracies[1],
        "seconds_torch": seconds["torch"],
        "seconds_jaxnet": seconds["jaxnet"],
        "compile_seconds": first_jax.record["compile_seconds"],
        "ratio": median_ratio(seconds["jaxnet"], seconds["torch"]),
        "threads": torch.get_num_threads(),
        "flops": count_flops(experiment, len(data[0].images)),
    }


def count_flops(experiment: Experiment, rows: int) -> int:
    """Multiplications and additions in the matrix products of a run with its reports.

    A step has a product in each layer, one for each weight's gradient, and one for the hidden
    units'; a report has the first two alone.
    """
    outputs = 1 if len(experiment.classes) == 2 else len(experiment.classes)
    first, second = 2 * PIXELS * HIDDEN, 2 * HIDDEN * outputs
    reports = experiment.epochs // experiment.report_every
    return rows * (experiment.epochs * (2 * first + 3 * second) + reports * (first + second))


def _list_accuracies(record: dict[str, Any]) -> list[float]:
    """At every report, then on the training and the test rows at the end."""
    reports = [report["accuracy"] for report in record["reports"]]
    return [*reports, record["train_accuracy"], record["test_accuracy"]]
