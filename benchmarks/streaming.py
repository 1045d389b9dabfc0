"""What it costs to read rows as they are needed, beside the same run from memory."""

import tempfile
from pathlib import Path
from typing import Any

import grain
import numpy as np

import jaxnet
from benchmarks.timing import interleave, median_ratio
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import EXPERIMENTS

BATCHES = (16, 256)
EPOCHS = 4


class _Source:
    """Rows in memory, an element each: what is timed is the reading, not a disk."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._x[index], self._y[index]


def compare_streaming(
    train: Dataset, rounds: int, batches: tuple[int, ...] = BATCHES
) -> list[dict[str, Any]]:
    """Seconds of an epoch of `minibatch`'s net, shuffled: from memory, a memmap, a `MapDataset`.

    The file is in the system's cache after the first round.
    """
    x, y = train.images, EXPERIMENTS["minibatch"].targets(train)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        np.save(path, x)
        data = {
            "memory": (x, y),
            "memmap": (np.load(path, mmap_mode="r"), y),
            "MapDataset": grain.MapDataset.source(_Source(x, y)),  # type: ignore[arg-type]
        }
        return [row for size in batches for row in _compare(data, size, rounds)]


def _compare(data: dict[str, Any], batch_size: int, rounds: int) -> list[dict[str, Any]]:
    experiment, losses = EXPERIMENTS["minibatch"], dict[str, np.ndarray]()

    def train_once(side: str) -> float:
        _, history = jaxnet.fit(
            experiment.net,
            data[side],
            loss=experiment.loss,
            optimizer=experiment.optimizer,
            epochs=EPOCHS,
            batch_size=batch_size,
            shuffle=True,
            seed=experiment.seed,
        )
        losses[side] = history.losses
        return history.run_seconds / EPOCHS

    seconds = interleave({side: lambda side=side: train_once(side) for side in data}, rounds)
    return [
        {
            "rows": side,
            "batch_size": batch_size,
            "seconds": seconds[side],
            "ratio": median_ratio(seconds["memory"], seconds[side]),
            "agree": bool(np.allclose(losses[side], losses["memory"], rtol=1e-6, atol=0)),
        }
        for side in data
    ]
