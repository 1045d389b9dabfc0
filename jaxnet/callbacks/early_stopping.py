"""The end of a run that no longer improves."""

import math
from collections.abc import Sequence

from jaxnet._utils.validation import check_count, check_number
from jaxnet.callbacks._ranking import Mode, check_mode, rank
from jaxnet.train.loop import Callback, Chunk, Run, Stop
from jaxnet.train.state import Report

_BEGIN = math.inf, 0
"""The best value before the first report, and how many reports are no better."""


class EarlyStopping(Callback):
    """Ends the run when a metric has not improved for `patience` reports in a row.

    A report improves where its value is better than the best before it by more than `min_delta`;
    a NaN never does. It depends on the history alone, so a run that is resumed stops where the
    uninterrupted one does.

    Args:
      metric: its name in the reports, or "loss".
      patience: reports in a row without improvement, at least 1.
      mode: "min" or "max", which is better.
      min_delta: how much better is better, at least 0.

    Raises:
      ValueError: an argument is out of range; at the first report, `metric` is not in it.

    torch has none; PyTorch Lightning's and Keras's of this name stop after as many.

    >>> from jaxnet.train import Report
    >>> reports = [Report(i, loss, {}) for i, loss in enumerate([3.0, 2.0, 2.0, 2.1])]
    >>> EarlyStopping("loss", patience=2).is_over(reports)
    True
    """

    def __init__(
        self, metric: str, *, patience: int, mode: Mode = "min", min_delta: float | int = 0
    ):
        check_mode(mode)
        if not check_number("min_delta", min_delta) >= 0:
            raise ValueError(f"min_delta must be a number of at least 0, not {min_delta!r}")
        self._metric, self._delta = metric, min_delta
        self._mode: Mode = mode
        self._patience = check_count("patience", patience)
        self._seen, self._counted = 0, _BEGIN

    def on_start(self, run: Run) -> None:
        """End a resumed run that was over."""
        self._seen, self._counted = 0, _BEGIN
        self._stop_at(run.history.reports)

    def on_chunk(self, chunk: Chunk) -> None:
        """End the run where its last report says so."""
        if chunk.report is not None:
            self._stop_at(chunk.history.reports)

    def is_over(self, reports: Sequence[Report]) -> bool:
        """Whether a run with these reports is to end."""
        return self._count(reports, _BEGIN)[1] >= self._patience

    def _stop_at(self, reports: Sequence[Report]) -> None:
        """End a run with these reports, of which only those that came are looked at."""
        self._counted = self._count(reports[self._seen :], self._counted)
        self._seen = len(reports)
        if self._counted[1] >= self._patience:
            raise Stop

    def _count(self, reports: Sequence[Report], counted: tuple[float, int]) -> tuple[float, int]:
        """The best value so far, and how many reports in a row are no better."""
        best, since = counted
        for report in reports:
            value = rank(report, self._metric, self._mode)
            improved = value < best - self._delta if best < math.inf else value < math.inf
            best, since = (value, 0) if improved else (best, since + 1)
        return best, since
