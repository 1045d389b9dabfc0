"""A log of reports as lines of JSON."""

import io
import json
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxnet.train.loop import Callback, Chunk, Run
from jaxnet.train.state import Report


@runtime_checkable
class _Text(Protocol):
    """A text stream, or whatever else is written to like one."""

    def write(self, text: str, /) -> Any: ...

    def flush(self) -> Any: ...


class JsonLines(Callback):
    """Writes each report as a line of JSON, at once: `tail -f` shows it, and programs read it.

    A line is one object: the fields, "epoch", "loss", then the report's metrics. It is all there
    or not yet; nothing is held back.
    Numbers are written so that reading them gives the same floats; NaN and the infinities, which
    JSON lacks, are null.

    A file that is there is appended to, never emptied: another run's lines come after those of
    the first, and fields tell them apart. With `resume=True` no line is written that the file has,
    and reports of a resumed run's earlier part that it lacks are, so that the whole run is there
    once, whatever processes it took. A line that cannot be written (a full disk) is a warning and
    stays in `unwritten`: the run continues.

    Args:
      target: a path, or a text stream that is open, such as `sys.stdout`. A file is made at the
        first report; a stream is flushed after each line and left open.
      resume: read the file's lines before writing.
      fields: what every line begins with, `experiment="logits"`.

    Raises:
      TypeError: `target` is neither, a stream is of bytes, or a field is nothing that JSON has.
      ValueError: a stream is closed or cannot be written, a field has a name of the line's own,
        or `resume` is asked of a stream; at the first report, a metric has such a name.
      OSError: `target` is a folder, or its folder does not exist.

    torch has none; Lightning's `CSVLogger` and Keras's write CSV.

    >>> import sys
    >>> import jax.numpy as jnp, jaxnet
    >>> net, x = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)]), jnp.zeros((2, 1))
    >>> callbacks = [jaxnet.callbacks.Report(), JsonLines(sys.stdout, experiment="mine")]
    >>> _ = jaxnet.fit(net, (x, x), loss=lambda outputs, y: 0 * outputs.sum() + 1, seed=0,
    ...                optimizer=jaxnet.optim.sgd(), epochs=1, callbacks=callbacks)
    {"experiment": "mine", "epoch": 1, "loss": 1.0}
    """

    order = 60

    def __init__(
        self, target: str | os.PathLike | _Text, /, *, resume: bool = False, **fields: Any
    ):
        self._fields = {name: _as_json(name, value) for name, value in fields.items()}
        if taken := [name for name in ("epoch", "loss") if name in fields]:
            raise ValueError(f"fields must not be named {taken[0]!r}: each report has its own")
        self._stream = target if isinstance(target, _Text) else None
        self._resume = resume
        self._written = set[str]()
        self.unwritten: list[str] = []
        """Lines that could not be written."""
        if self._stream is None:
            self._path = _as_file(target)
        else:
            _check_stream(self._stream)
            if resume:
                raise ValueError("resume=True needs a path: a stream is not read")

    def on_start(self, run: Run) -> None:
        """With `resume`, write the reports of the run's earlier part that the file lacks."""
        if self._resume:
            there = self._path.read_bytes() if self._path.is_file() else b""
            self._written = set(there.decode(errors="replace").splitlines())
            self._write_reports(run.history.reports)

    def on_chunk(self, chunk: Chunk) -> None:
        """Write the chunk's report, if it has one."""
        if chunk.report is not None:
            self._write_reports((chunk.report,))

    def _write_reports(self, reports: Iterable[Report]) -> None:
        for report in reports:
            line = self._make_line(report)
            if line in self._written:
                continue
            try:
                self._write(line + "\n")
            except OSError as error:
                self.unwritten.append(line)
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
    """A path; reject one that no lines can be appended to."""
    if not isinstance(target, str | os.PathLike):
        raise TypeError(f"target must be a path or a text stream, not {target!r:.60}")
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(f"target must be a file, not the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"target must be in a folder that exists, not in {path.parent}")
    return path


def _check_stream(stream: Any) -> None:
    """Reject a stream that no text can be written to."""
    if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
        raise TypeError(f"target must be a stream of text, not {type(stream).__name__}")
    if getattr(stream, "closed", False):
        raise ValueError("target must be an open stream; it is closed")
    if hasattr(stream, "writable") and not stream.writable():
        raise ValueError("target must be a stream that can be written; it can only be read")


def _ends_whole(path: Path) -> bool:
    """Whether a file's last line is ended, so that another may begin."""
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
