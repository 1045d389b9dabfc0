"""Reports as lines of JSON: whole lines at once, appended to a file, or in a stream."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxnet
from jaxnet import callbacks
from jaxnet.callbacks import Checkpoint, Chunk, JsonLines, Validation
from jaxnet.train import History, Report, TrainState
from tests.helpers import each_row
from tests.tiny import ACCURACY, ADAM, HELD, LOSS, NET, X, Y


def fit(epochs: int, *around: Any, every: int = 1) -> History:
    around = (callbacks.Report(every, ACCURACY), *around)
    run: dict[str, Any] = dict(loss=LOSS, optimizer=ADAM, epochs=epochs, seed=1)
    return jaxnet.fit(NET, (X, Y), callbacks=around, **run)[1]


def _make_validation() -> Validation:
    return Validation(NET, HELD, loss=LOSS, metrics=ACCURACY)


def _chunk(*reports: Report) -> Chunk:
    """What is shown after the last of these reports, and without one where there is none."""
    history = History(np.zeros(len(reports), np.float32), reports, 0.0, 0.0, "parity")
    report = reports[-1] if reports else None
    state = TrainState({}, {}, (), None, 0)
    return Chunk(len(reports), 9, state, history.losses, history, report)


def _write(log: JsonLines, *reports: Report) -> None:
    log.on_chunk(_chunk(*reports))


def _read(path: Path) -> list[dict[str, Any]]:
    """Every line, by a reader that rejects the NaN that Python's own writer would give."""

    def reject(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=reject) for line in text.splitlines()]


def _as_lines(history: History, **fields: Any) -> list[dict[str, Any]]:
    return [{**fields, "epoch": r.epoch, "loss": r.loss, **r.metrics} for r in history.reports]


def test_a_run_writes_each_report_with_its_metrics(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLines(path, experiment="logits", lr=np.float32(0.25))
    _write(log)
    assert not path.exists()
    history = fit(4, log, _make_validation())
    lines = _read(path)
    assert lines == _as_lines(history, experiment="logits", lr=0.25)
    names = ["experiment", "lr", "epoch", "loss", "accuracy"]
    names += ["validation accuracy", "validation loss"]
    assert [list(line) for line in lines] == [names] * 4


def test_each_line_can_be_read_before_the_next(tmp_path):
    """From outside, while the run is under way: that is what `tail -f` does."""
    seen, path, stream = [], tmp_path / "log", (tmp_path / "stream").open("w")

    class Look(callbacks.Callback):
        order = JsonLines.order + 1

        def on_chunk(self, chunk: Chunk) -> None:
            seen.append((len(_read(path)), len(_read(tmp_path / "stream"))))

    with stream:
        fit(3, Look(), JsonLines(path), JsonLines(stream))
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_numbers_are_read_back_as_they_were_and_what_is_none_is_null(tmp_path):
    metrics: dict[str, Any] = {
        "third": 1 / 3, "single": np.float32(0.1), "count": np.int64(3), "array": np.ones(1),
        "nan": math.nan, "up": math.inf, "down": np.float32(-np.inf),
    }  # fmt: skip
    path = tmp_path / "log"
    _write(JsonLines(path, rate=math.inf), Report(1, math.nan, metrics))
    (line,) = _read(path)
    assert line == {
        "rate": None, "epoch": 1, "loss": None, "third": 1 / 3, "single": float(np.float32(0.1)),
        "count": 3, "array": 1.0, "nan": None, "up": None, "down": None,
    }  # fmt: skip


def test_a_line_that_was_cut_off_harms_no_other(tmp_path):
    path, cut = tmp_path / "log", '{"epoch": 1, "lo'
    path.write_text(cut)
    for resume in (False, True):
        history = fit(1, JsonLines(path, resume=resume))
        first, *rest = path.read_text().splitlines()
        assert first == cut and [json.loads(line) for line in rest] == _as_lines(history)


def _fit_and_log(folder: Path, epochs: int, log: JsonLines) -> History:
    return fit(epochs, _make_validation(), log, Checkpoint(folder / "run", resume=True))


def test_a_resumed_run_is_in_its_file_once(tmp_path):
    """What was written after the last checkpoint is reported again, and not written again; a file
    that lacks the beginning is given it."""
    path = tmp_path / "log"
    _fit_and_log(tmp_path, 2, JsonLines(path, resume=True, name="it"))
    lost = fit(4, _make_validation()).reports[2:]
    for report in lost:  # reported, and not saved before the process was killed
        _write(JsonLines(path, name="it"), report)
    history = _fit_and_log(tmp_path, 6, JsonLines(path, resume=True, name="it"))
    assert [report.epoch for report in history.reports] == [1, 2, 3, 4, 5, 6]
    assert _read(path) == _as_lines(history, name="it")
    other = tmp_path / "other"
    _write(JsonLines(other, name="other"), Report(1, 0.5, {}))
    _fit_and_log(tmp_path, 6, JsonLines(other, resume=True, name="it"))
    assert _read(path) == _read(other)[1:] == _as_lines(history, name="it")


def test_a_line_that_cannot_be_written_is_a_warning(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    log = JsonLines(folder / "log")
    folder.rmdir()
    with pytest.warns(UserWarning, match=r"epoch 1 is not in .*folder/log: .*No such file"):
        _write(log, Report(1, 0.5, {}))
    folder.mkdir()
    _write(log, Report(2, 0.5, {}))
    assert log.unwritten == ['{"epoch": 1, "loss": 0.5}']
    assert [line["epoch"] for line in _read(folder / "log")] == [2]


@each_row(
    "metrics, fields, kind, says",
    [
        ({"epoch": 1.0}, {}, ValueError, "metrics must not be named 'epoch'"),
        ({"lr": 1.0}, {"lr": 2.0}, ValueError, "metrics must not be named 'lr'"),
        ({"rows": np.ones(2)}, {}, TypeError, "rows must be something that JSON"),
    ],
)
def test_a_report_that_no_line_can_hold_is_rejected(metrics, fields, kind, says, tmp_path):
    with pytest.raises(kind, match=says):
        _write(JsonLines(tmp_path / "log", **fields), Report(1, 0.5, metrics))
    assert not (tmp_path / "log").exists()


class Sink:
    """Neither a file nor a stream of Python's, as progress bars and captures have them."""

    text = flushed = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        self.flushed = self.text


def test_whatever_is_written_to_like_a_stream_is_a_target_for_several_runs():
    sink = Sink()
    for name in ("one", "two"):
        _write(JsonLines(sink, run=name), Report(1, 0.5, {}))
    lines = [json.loads(line) for line in sink.flushed.splitlines()]
    assert lines == [{"run": name, "epoch": 1, "loss": 0.5} for name in ("one", "two")]


@pytest.mark.skipif(os.name != "posix", reason="this system has no pipes by name")
def test_a_pipe_is_a_target(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    code = "import sys; print(open(sys.argv[1]).read(), end='')"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as reader:
        _write(JsonLines(path), Report(1, 0.5, {}))
        assert reader.communicate()[0] == b'{"epoch": 1, "loss": 0.5}\n'
