"""Hooks for `jaxnet.fit`: validation, early stopping, the best state so far, a log of reports."""

import io
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import flax.linen

from jaxnet.checks import (
    check_count,
    check_looks,
    check_net,
    check_number,
    nearest,
)
from jaxnet.evaluation import Metrics, evaluate
from jaxnet.rows import check_data, check_readable
from jaxnet.state import Chunk, Report, TrainState

Mode = Literal["min", "max"]


@runtime_checkable
class _Text(Protocol):
    """A text stream, or whatever else is written to like one."""

    def write(self, text: str, /) -> Any: ...

    def flush(self) -> Any: ...


class Validation:
    """Adds metrics of other rows to each report: `"validation accuracy"` for `"accuracy"`.

    Stands before the hooks that read them. The rows are evaluated as `jaxnet.evaluate` does, in
    evaluation mode, and draw nothing from a random stream: the run is that without it. In torch
    this is the second loop, under `net.eval()` and `torch.no_grad()`.

    Args:
      net: the one that is trained.
      data: `(x, y)` of the rows held back, or a Grain `MapDataset` of them, as `evaluate` takes
        them.
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
        data: Any,
        *,
        loss: Any = None,
        metrics: Metrics | None = None,
    ):
        check_net(net)
        check_readable(data := check_data(data))
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


class JsonLines:
    """Writes each report as a line of JSON, at once: `tail -f` shows it, and programs read it.

    A line is one object: the fields, "epoch", "loss", then the report's metrics. It is all there
    or not yet; nothing is held back. Stands after the hooks that add metrics, such as `Validation`.
    Numbers are written so that reading them gives the same floats; NaN and the infinities, which
    JSON has not, are null.

    A file that is there is gone on with, never emptied: another run's lines come after those of
    the first, and fields tell them apart. A run that `jaxnet.runs.fit` resumes shows the report
    that was saved last once more; with `resume=True` no line is written that the file has, and
    reports of the run's earlier part that it lacks are, so that the whole run is there once,
    whatever processes it took. A line that cannot be written (a full disk) is a warning: the run
    goes on.

    Args:
      target: a path, or a text stream that is open, such as `sys.stdout`. A file is made at the
        first report; a stream is flushed after each line and left open.
      resume: look at what the file has before writing.
      fields: what every line begins with, `experiment="logits"`.

    Raises:
      TypeError: `target` is neither, a stream is of bytes, or a field is nothing that JSON has.
      ValueError: a stream is closed or cannot be written, a field has a name of the line's own,
        or `resume` is asked of a stream; at the first report, a metric has such a name.
      OSError: `target` is a folder, or lies in none.

    torch has none; Lightning's `CSVLogger` and Keras's write CSV.

    >>> import sys
    >>> hook = JsonLines(sys.stdout, experiment="logits")
    >>> report = Report(1, 0.25, {"accuracy": math.nan})
    >>> hook(Chunk(1, 9, None, None, report, None))
    {"experiment": "logits", "epoch": 1, "loss": 0.25, "accuracy": null}
    """

    def __init__(
        self, target: str | os.PathLike | _Text, /, *, resume: bool = False, **fields: Any
    ):
        self._fields = {name: _as_json(name, value) for name, value in fields.items()}
        if taken := [name for name in ("epoch", "loss") if name in fields]:
            raise ValueError(f"fields must not be named {taken[0]!r}: each report has its own")
        self._stream = target if isinstance(target, _Text) else None
        self._resume = resume
        self._written: set[str] | None = None
        if self._stream is None:
            self._path = _as_file(target)
        else:
            _check_stream(self._stream)
            if resume:
                raise ValueError("resume=True needs a path: a stream is not read")

    def __call__(self, chunk: Chunk) -> None:
        reports = () if chunk.report is None else (chunk.report,)
        if self._resume and self._written is None:
            self._written = _read_lines(self._path)
            reports = chunk.history.reports
        for report in reports:
            line = self._make_line(report)
            if self._written is not None and line in self._written:
                continue
            try:
                self._write(line + "\n")
            except OSError as error:
                where = self._path if self._stream is None else "the stream"
                warnings.warn(f"epoch {report.epoch} is not in {where}: {error}", stacklevel=2)

    def _make_line(self, report: Report) -> str:
        own = self._fields | {"epoch": report.epoch, "loss": _as_json("loss", report.loss)}
        if taken := [name for name in report.metrics if name in own]:
            raise ValueError(f"metrics must not be named {taken[0]!r}: each line has its own")
        values = {name: _as_json(name, value) for name, value in report.metrics.items()}
        return json.dumps(own | values)

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
            return
        begin = "" if _ends_whole(self._path) else "\n"
        with self._path.open("ab", buffering=0) as file:  # one write: nothing comes in between
            file.write((begin + text).encode())


def _as_json(name: str, value: Any) -> Any:
    """A value as JSON has it: what holds one number is that number, and no number is null."""
    try:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and not math.isfinite(value):
            return None
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be something that JSON has, not {value!r:.60}") from error
    return value


def _as_file(target: Any) -> Path:
    """A path; refuse what no lines can be appended to."""
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target must be a path or a text stream, not {target!r:.60}")
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(f"target must be a file, not the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"target must lie in a folder that is there, not in {path.parent}")
    return path


def _check_stream(stream: Any) -> None:
    """Refuse what no text can be written to."""
    if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
        raise TypeError(f"target must be a stream of text, not {type(stream).__name__}")
    if getattr(stream, "closed", False):
        raise ValueError("target must be an open stream; it is closed")
    if hasattr(stream, "writable") and not stream.writable():
        raise ValueError("target must be a stream that can be written; it can only be read")


def _read_lines(path: Path) -> set[str]:
    """The lines of a file that has some, but for any that was cut off."""
    if not path.is_file():
        return set()
    return set(path.read_text(encoding="utf-8", errors="replace").splitlines())


def _ends_whole(path: Path) -> bool:
    """Whether a file's last line is ended, so that another may begin."""
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _check_mode(mode: Any) -> None:
    if mode not in (known := get_args(Mode)):
        raise ValueError(f"mode must be 'min' or 'max', not {mode!r}{nearest(mode, known)}")


def _rank(report: Report, metric: str, mode: Mode) -> float:
    """A report's value, the smaller the better; infinite for NaN."""
    values = {"loss": report.loss} | report.metrics
    if metric not in values:
        raise ValueError(
            f"metric must be one of the reports' ({', '.join(values)}), not {metric!r}"
            f"{nearest(metric, values)}"
        )
    value = values[metric] if mode == "min" else -values[metric]
    return math.inf if math.isnan(value) else value
