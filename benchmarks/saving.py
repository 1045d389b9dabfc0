"""What checkpoints cost: the same run with and without them, at the default rate."""

import tempfile
from typing import Any

import numpy as np

import jaxnet
from benchmarks.timing import interleave, median_ratio
from jaxnet import runs
from jaxnet.data import Dataset
from jaxnet.lecture import EXPERIMENTS


def compare_saving(train: Dataset, rounds: int, seconds: float = 20.0) -> list[dict[str, Any]]:
    """Training seconds of a run of about `seconds`, plain and saved: `full_batch`, `minibatch`."""
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
        with tempfile.TemporaryDirectory() as folder:
            place = folder if side == "saved" else None
            _, history = runs.fit(experiment.net, data, epochs=epochs, checkpoint=place, **options)
        losses[side] = history.losses
        return history.run_seconds

    calls = {side: lambda side=side: train_once(side) for side in ("plain", "saved")}
    taken = interleave(calls, rounds, warm=True)
    return {
        "name": name,
        "epochs": epochs,
        "plain": taken["plain"],
        "saved": taken["saved"],
        "ratio": median_ratio(taken["plain"], taken["saved"]),
        "agree": bool(np.array_equal(losses["plain"], losses["saved"])),
    }
