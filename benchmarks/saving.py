"""What a run's company costs: the same run with checkpoints, with its bar, and without either."""

import io
import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np
from rich.console import Console

import jaxnet
from benchmarks.timing import interleave, median_ratio
from jaxnet import runs
from jaxnet.data import Dataset
from jaxnet.lecture import EXPERIMENTS
from jaxnet.progress import bar

SIDES = ("plain", "saved", "shown")


def compare_saving(train: Dataset, rounds: int, seconds: float = 20.0) -> list[dict[str, Any]]:
    """Training seconds of a run of about `seconds`, plain, saved and shown on a terminal."""
    return [_compare(name, train, rounds, seconds) for name in ("full_batch", "minibatch")]


def _compare(name: str, train: Dataset, rounds: int, seconds: float) -> dict[str, Any]:
    experiment = EXPERIMENTS[name]
    data = train.images, experiment.targets(train)
    options: dict[str, Any] = {
        "loss": experiment.loss,
        "optimizer": experiment.optimizer,
        "batch_size": experiment.batch_size,
        "seed": experiment.seed,
    }
    probe = 20
    _, history = jaxnet.fit(experiment.net, data, epochs=probe, **options)
    epochs = max(2, int(probe * seconds / history.run_seconds))
    losses: dict[str, np.ndarray] = {}

    def train_once(side: str) -> float:
        with ExitStack() as stack:
            place = hooks = None
            if side == "saved":
                place = stack.enter_context(tempfile.TemporaryDirectory())
            if side == "shown":
                terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
                hooks = [stack.enter_context(bar(name, epochs, terminal))]
            _, history = runs.fit(
                experiment.net,
                data,
                epochs=epochs,
                checkpoint=place,
                hooks=hooks or (),
                **options,
            )
        losses[side] = history.losses
        return history.run_seconds

    calls = {side: lambda side=side: train_once(side) for side in SIDES}
    taken = interleave(calls, rounds, warm=True)
    return {
        "name": name,
        "epochs": epochs,
        **taken,
        "ratio": median_ratio(taken["plain"], taken["saved"]),
        "ratio_shown": median_ratio(taken["plain"], taken["shown"]),
        "agree": all(np.array_equal(losses["plain"], losses[side]) for side in SIDES),
    }
