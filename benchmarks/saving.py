"""What a run's company costs: checkpoints at the default rate, and the bar on a terminal."""

import io
import tempfile
import time
from typing import Any

import numpy as np
from rich.console import Console

import jaxnet
from benchmarks.timing import interleave, median_ratio
from jaxnet.callbacks import Checkpoint
from jaxnet.callbacks.progress import count
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import EXPERIMENTS


def compare_saving(train: Dataset, rounds: int, seconds: float = 20.0) -> list[dict[str, Any]]:
    """Training seconds of a run of about `seconds`, plain and saved: `full_batch`, `minibatch`."""
    return [_compare(name, train, rounds, seconds) for name in ("full_batch", "minibatch")]


def measure_bar(rounds: int, seconds: float = 5.0) -> list[dict[str, Any]]:
    """Processor seconds that a bar takes while it is shown, for each second: its share of a core.

    Told ten times a second, as no run tells it; what the telling costs without a terminal is
    subtracted. A run beside it would add its own noise, which is larger.
    """
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)

    def show(quiet: bool) -> float:
        begin = time.process_time()
        with count("full_batch", 500, terminal, quiet=quiet) as tell:
            for done in range(int(10 * seconds)):
                tell(done, f"epoch {done}, loss 0.5550, accuracy 0.9936")
                time.sleep(0.1)
        return (time.process_time() - begin) / seconds

    shares = [show(quiet=False) - show(quiet=True) for _ in range(rounds)]
    return [{"name": "full_batch", "shares": shares, "agree": True}]


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
            callbacks = [Checkpoint(folder)] if side == "saved" else []
            _, history = jaxnet.fit(
                experiment.net, data, epochs=epochs, callbacks=callbacks, **options
            )
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
