"""What callbacks are: called before, between and after the chunks of a run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.train.plan import Run
from jaxnet.train.state import History, Report, TrainState


class Stop(Exception):
    """Raised by a callback's `on_start` or `on_chunk`: the run ends where it is."""


class Callback:
    """What a run calls before, between and after its chunks; every method is optional.

    Callbacks are called in the order of their `order`, those of one order in that of the list:
    guards see a state first, reports are made before they are read, and checkpoints hold what all
    the others have left. `on_start` is called in the reverse order, so that a resumed state is
    there for all.

    torch has none; PyTorch Lightning's and Keras's are objects of this kind.
    """

    order = 50

    def next_epoch(self, epoch: int) -> int | None:
        """After how many epochs the run, which has done `epoch`, is to be cut for this callback.

        None leaves it to the clock: about once a second.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """Its settings that decide a run's numbers or history; a checkpoint compares them."""
        return {}

    def on_start(self, run: Run) -> Any:
        """Before the first step. May return a state, or `(state, history)`, to start from."""

    def on_chunk(self, chunk: "Chunk") -> TrainState | None:
        """After each chunk. May return another state to continue from, or raise `Stop`."""

    def on_end(self, run: Run) -> None:
        """After the last step; `run.error` is the exception that ended the run, if one did."""


@dataclass
class Chunk:
    """What a callback is shown after a chunk of a run."""

    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs asked for."""
    state: TrainState
    losses: np.ndarray
    """Loss of every step since the callbacks were called last."""
    history: History
    """The whole run so far."""
    report: Report | None = None
    """The report of this epoch, once `callbacks.Report` has made one."""

    def add_report(self, report: Report) -> None:
        """Put a report into the chunk and into the history."""
        if self.report is not None:  # of another `Report`, whose metrics these join
            self.report.metrics.update(report.metrics)
            return
        self.report = report
        self.history = self.history._replace(reports=(*self.history.reports, report))
