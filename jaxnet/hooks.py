"""Hooks for `jaxnet.fit`: validation, early stopping, the best state so far."""

import math
from typing import Any, Literal

import flax.linen

from jaxnet.checks import check_count, check_looks, check_net, check_number, check_pair, check_rows
from jaxnet.evaluation import Metrics, evaluate
from jaxnet.state import Chunk, Report, TrainState

Mode = Literal["min", "max"]


class Validation:
    """Adds metrics of other rows to each report: `"validation accuracy"` for `"accuracy"`.

    Stands before the hooks that read them. The rows are evaluated as `jaxnet.evaluate` does, in
    evaluation mode, and draw nothing from a random stream: the run is that without it. In torch
    this is the second loop, under `net.eval()` and `torch.no_grad()`.

    Args:
      net: the one that is trained.
      data: `(x, y)` of the rows held back.
      loss: `loss(outputs, y)`, reported as `"validation loss"`.
      metrics: `{name: metric}`, each giving one value for each row.

    Raises:
      ValueError: there is neither a loss nor a metric.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> x = jnp.array([[1.0], [2.0]])
    >>> _, history = jaxnet.fit(net, (x, x), loss=loss, optimizer=jaxnet.optim.sgd(0.1), epochs=2,
    ...                         seed=0, report_every=1, hooks=[Validation(net, (x, x), loss=loss)])
    >>> list(history.reports[0].metrics)
    ['validation loss']
    """

    def __init__(
        self,
        net: flax.linen.Module,
        data: tuple[Any, Any],
        *,
        loss: Any = None,
        metrics: Metrics | None = None,
    ):
        check_net(net)
        check_rows(*check_pair(data))
        check_looks(metrics)
        if loss is None and not metrics:
            raise ValueError("loss or metrics must be given: without them there is no validation")
        self._net, self._data, self._loss, self._metrics = net, data, loss, metrics

    def __call__(self, chunk: Chunk) -> None:
        if chunk.report is None:
            return
        values = evaluate(
            self._net, chunk.state, self._data, loss=self._loss, metrics=self._metrics
        )
        chunk.report.metrics.update({f"validation {name}": v for name, v in values.items()})


class EarlyStopping:
    """Ends the run when a metric has not improved for `patience` reports in a row.

    A report improves where its value is better than the best before it by more than `min_delta`;
    a NaN never does. It looks at the history alone, so a run that is resumed stops where the
    uninterrupted one does.

    Args:
      metric: its name in the reports, or "loss".
      patience: reports in a row without improvement, at least 1.
      mode: "min" or "max", which is better.
      min_delta: how much better is better, at least 0.

    Raises:
      ValueError: an argument is out of range; at the first report, `metric` is not in it.

    torch has none; PyTorch Lightning's and Keras's of this name stop after as many.

    >>> reports = [Report(i, loss, {}) for i, loss in enumerate([3.0, 2.0, 2.0, 2.1])]
    >>> EarlyStopping("loss", patience=2).is_over(reports)
    True
    """

    def __init__(
        self, metric: str, *, patience: int, mode: Mode = "min", min_delta: float | int = 0
    ):
        _check_mode(mode)
        if not check_number("min_delta", min_delta) >= 0:
            raise ValueError(f"min_delta must be a number of at least 0, not {min_delta!r}")
        self._metric, self._delta = metric, min_delta
        self._mode: Mode = mode
        self._patience = check_count("patience", patience)

    def __call__(self, chunk: Chunk) -> bool:
        return chunk.report is not None and self.is_over(chunk.history.reports)

    def is_over(self, reports: Any) -> bool:
        """Whether a run with these reports is to end."""
        best, since = math.inf, 0
        for report in reports:
            value = _rank(report, self._metric, self._mode)
            improved = value < best - self._delta if best < math.inf else value < math.inf
            best, since = (value, 0) if improved else (best, since + 1)
        return since >= self._patience


class KeepBest:
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
        _check_mode(mode)
        self.state: TrainState | None = None
        """The best state that this object has seen, None before the first report."""
        self.report: Report | None = None
        self._metric, self._checkpoints = metric, checkpoints
        self._mode: Mode = mode

    def __call__(self, chunk: Chunk) -> None:
        if chunk.report is None:
            return
        if self._checkpoints is not None and self._checkpoints.saved is None:
            self._go_on(chunk)
        values = [_rank(report, self._metric, self._mode) for report in chunk.history.reports]
        if values[-1] < min(values[:-1], default=math.inf):
            self.state, self.report = chunk.state, chunk.report
            if self._checkpoints is not None:
                self._checkpoints.save(chunk.epoch, chunk.state, chunk.history)

    def _go_on(self, chunk: Chunk) -> None:
        """Take the best of this run's earlier part from its folder, where there is one."""
        found = self._checkpoints.restore(like=chunk.state)
        if found is None:
            return
        state, (_, saved, *_) = found
        reports = chunk.history.reports
        both = min(len(saved), len(reports))
        if str(saved[:both]) != str(reports[:both]):  # as texts: a NaN is not itself
            raise ValueError(
                f"checkpoints must be this run's own: {self._checkpoints.directory} has reports "
                f"that begin {saved[0]}, not {reports[0]}"
            )
        if len(saved) < len(reports):
            self.state, self.report = state, saved[-1]


def _check_mode(mode: Any) -> None:
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")


def _rank(report: Report, metric: str, mode: Mode) -> float:
    """A report's value, the smaller the better; infinite for NaN."""
    values = {"loss": report.loss} | report.metrics
    if metric not in values:
        raise ValueError(
            f"metric must be one of the reports' ({', '.join(values)}), not {metric!r}"
        )
    value = values[metric] if mode == "min" else -values[metric]
    return math.inf if math.isnan(value) else value
