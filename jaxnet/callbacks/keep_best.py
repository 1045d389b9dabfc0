"""The best state of a run so far."""

import math
from collections.abc import Sequence
from typing import Any

from jaxnet.callbacks._ranking import Mode, check_mode, rank
from jaxnet.train.loop import Callback, Chunk, Run
from jaxnet.train.state import Report, TrainState


class KeepBest(Callback):
    """Keeps the state of the report with the best value of a metric; of equals, the first.

    Args:
      metric: its name in the reports, or "loss".
      mode: "min" or "max", which is better.
      checkpoints: a `jaxnet.checkpoint.Checkpoints` of its own, where each new best is saved too,
        at once, so that it outlives the process.

    Raises:
      ValueError: `mode` is another; at the first report, `metric` is not in it.

    >>> best = KeepBest("accuracy", mode="max")
    >>> best.state is None
    True
    """

    def __init__(self, metric: str, *, mode: Mode = "min", checkpoints: Any = None):
        check_mode(mode)
        self.state: TrainState | None = None
        """The best state that this object has seen, None before the first report."""
        self.report: Report | None = None
        self._metric, self._checkpoints = metric, checkpoints
        self._mode: Mode = mode
        self._least, self._seen = math.inf, 0

    def on_start(self, run: Run) -> None:
        """Take the best of a resumed run's earlier part from its folder, where there is one."""
        self._least, self._seen = math.inf, 0
        if run.history.reports:
            self._restore(run.state, run.history.reports)

    def on_chunk(self, chunk: Chunk) -> None:
        """Keep the chunk's state where its report is the best so far."""
        if chunk.report is None:
            return
        if self._checkpoints is not None and self._checkpoints.saved is None:
            # The run began anew, but its folder may have the best of an earlier attempt.
            self._restore(chunk.state, chunk.history.reports)
        new = chunk.history.reports[self._seen :]  # one, but after a resumed run's earlier part
        *earlier, value = (rank(report, self._metric, self._mode) for report in new)
        self._seen, least = len(chunk.history.reports), min([self._least, *earlier])
        self._least = min(least, value)
        if value < least:
            self.state, self.report = chunk.state, chunk.report
            if self._checkpoints is not None:
                self._checkpoints.save(chunk.epoch, chunk.state, chunk.history)

    def on_end(self, run: Run) -> None:
        """Let others write in the folder."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def _restore(self, like: TrainState, reports: Sequence[Report]) -> None:
        """Take the best of the reports so far from the folder, where it has one of theirs."""
        if self._checkpoints is None:
            return
        found = self._checkpoints.restore(like=like)
        if found is None:
            return
        state, (_, saved, *_) = found
        both = min(len(saved), len(reports))
        if str(tuple(saved[:both])) != str(tuple(reports[:both])):  # as texts: a NaN is not itself
            raise ValueError(
                f"checkpoints must be this run's own: {self._checkpoints.directory} has reports "
                f"that begin {saved[0]}, not {reports[0]}"
            )
        if len(saved) <= len(reports):
            self.state, self.report = state, saved[-1]
