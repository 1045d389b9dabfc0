"""A run of the lecture's beside the same run in another way: as a sweep's lane, saved, read."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import jaxnet
from benchmarks.timing import interleave
from jaxnet.callbacks import Checkpoint
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.data import Dataset
from jaxnet.lecture.cli.sweep import run_experiment
from jaxnet.lecture.experiments import EXPERIMENTS, Split, run

Row = dict[str, Any]
Side = Callable[[], tuple[np.ndarray, float]]
"""Runs, and gives the losses and the seconds."""
MINIBATCH = EXPERIMENTS["minibatch"]


def compare_runs(data: Split, rounds: int) -> list[Row]:
    """A row for each way: seconds of both in turn, and how far apart their losses are."""
    train, _ = data
    saved = [compare_saving(name, train, rounds) for name in ("full_batch", "minibatch")]
    return [compare_lanes(data, rounds), *saved, *compare_streaming(train, rounds + 2)]


def compare(what: str, beside: str, ours: Side, other: Side, rounds: int, bound: float) -> Row:
    """Both in turn; they agree where no step's losses are further apart, relative, than `bound`.

    A first run of each compiles, and is compared.
    """
    gap = float(np.abs(ours()[0] / other()[0] - 1).max())
    calls = {"ours": lambda: ours()[1], "other": lambda: other()[1]}
    seconds = interleave(calls, rounds, warm=True)
    row = {"run": what, "beside": beside, "agree": gap <= bound, "loss_gap": gap}
    return row | {"seconds": seconds["ours"], "seconds_other": seconds["other"]}


def fit(data: Any, name: str = "minibatch", **changes: Any) -> tuple[np.ndarray, float]:
    """An experiment's training without its reports, but for what is changed."""
    experiment = EXPERIMENTS[name]
    options: Row = {
        "loss": experiment.loss,
        "optimizer": experiment.optimizer,
        "batch_size": experiment.batch_size,
        "seed": experiment.seed,
    } | changes
    _, history = jaxnet.fit(experiment.net, data, **options)
    return history.losses, history.run_seconds


def compare_lanes(data: Split, rounds: int, lanes: int = 64) -> Row:
    """A lane of a sweep, which draws its weights and measures the test rows too, and one run."""
    seed = MINIBATCH.seed

    def sweep() -> tuple[np.ndarray, float]:
        swept = run_experiment(MINIBATCH, data, range(lanes))
        return swept.losses[seed], swept.run_seconds / lanes

    def solo() -> tuple[np.ndarray, float]:
        history = run(MINIBATCH, data).history
        return history.losses, history.run_seconds

    return compare(f"minibatch, a lane of {lanes}", "alone", sweep, solo, rounds, TRAJECTORY.rtol)


def compare_saving(name: str, train: Dataset, rounds: int, seconds: float = 20.0) -> Row:
    """A run of about `seconds` with checkpoints at the default rate, and without."""
    data = train.images, EXPERIMENTS[name].targets(train)
    epochs = max(2, int(20 * seconds / fit(data, name, epochs=20)[1]))

    def save() -> tuple[np.ndarray, float]:
        with tempfile.TemporaryDirectory() as folder:
            return fit(data, name, epochs=epochs, callbacks=[Checkpoint(folder)])

    plain = partial(fit, data, name, epochs=epochs)
    return compare(f"{name}, {epochs} epochs, saved", "not saved", save, plain, rounds, 0.0)


class _Source:
    """Rows in memory, an element each: what is timed is the reading, not a disk."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._x[index], self._y[index]


def compare_streaming(train: Dataset, rounds: int, batches: Any = (16, 256)) -> list[Row]:
    """A shuffled epoch, as one of four, of a memmap and of a `MapDataset`, and from memory.

    The file is in the system's cache after the first round.
    """
    import grain  # nothing else needs it

    x, y = train.images, MINIBATCH.targets(train)

    def read(data: Any, size: int) -> Side:
        def side() -> tuple[np.ndarray, float]:
            losses, seconds = fit(data, epochs=4, batch_size=size, shuffle=True)
            return losses, seconds / 4

        return side

    with tempfile.TemporaryDirectory() as folder:
        np.save(path := Path(folder, "x.npy"), x)
        kinds: Row = {
            "memmap": (np.load(path, mmap_mode="r"), y),
            "MapDataset": grain.MapDataset.source(_Source(x, y)),  # type: ignore[arg-type]
        }
        pairs = [(size, kind) for size in batches for kind in kinds]
        return [
            compare(
                f"{kind}, {size} rows a batch",
                "memory",
                read(kinds[kind], size),
                read((x, y), size),
                rounds,
                TRAJECTORY.rtol,
            )
            for size, kind in pairs
        ]
