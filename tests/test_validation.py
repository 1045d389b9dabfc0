"""Rows held back: validation, the end of a run that no longer improves, its best state."""

from typing import Any

import numpy as np
import pytest
import torch

import jaxnet
from jaxnet.callbacks import Checkpoint, EarlyStopping, KeepBest, Report, Validation
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.checkpoint import Checkpoints
from tests.helpers import assert_same_bits, each_row, to_numpy
from tests.test_callbacks import STEPS, fit
from tests.test_checkpoint import assert_same_run
from tests.test_train import build_torch
from tests.tiny import ACCURACY, LOSS, NET

HELD_X = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
HELD_Y = (HELD_X[:, :1] > 0).astype(np.float32)
FAST = jaxnet.optim.sgd(5.0)


def test_validation_is_torchs_second_loop():
    """Its metrics stand in the reports, and are those of torch's net in evaluation mode."""
    validation = Validation(NET, (HELD_X, HELD_Y), metrics=ACCURACY, loss=LOSS)
    state, history = fit(3, validation, Report(metrics=ACCURACY))
    names = ["accuracy", "validation loss", "validation accuracy"]
    assert all(sorted(report.metrics) == sorted(names) for report in history.reports)
    net = build_torch()
    weights = jaxnet.convert.to_state_dict({"params": state.params})
    net.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    with torch.no_grad():
        logits = net.eval()(torch.tensor(HELD_X))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(HELD_Y))
    found = history.reports[-1].metrics
    np.testing.assert_allclose(found["validation loss"], loss.item(), rtol=TRAJECTORY.rtol)
    right = ((to_numpy(logits) > 0) == (HELD_Y > 0.5)).mean()
    assert found["validation accuracy"] == pytest.approx(right)
    assert found["validation accuracy"] != found["accuracy"]


@each_row(
    "values, options, over",
    [
        ([3, 2, 1], dict(patience=1), False),
        ([3, 2, 2], dict(patience=1), True),
        ([3, 2, 2], dict(patience=2), False),
        ([3, 2, 2.5, 2.4], dict(patience=2), True),
        ([3, 2, 2.5, 1.9], dict(patience=2), False),
        ([3, 2.95, 2.9], dict(patience=2, min_delta=0.2), True),
        ([3, 2.9, 2.7], dict(patience=2, min_delta=0.2), False),
        ([1, 2, 2], dict(patience=1, mode="max"), True),
        ([1, 2, 3], dict(patience=1, mode="max"), False),
        ([float("nan")] * 2, dict(patience=2), True),
    ],
)
def test_early_stopping_counts_reports_without_improvement(values, options, over):
    reports = [jaxnet.train.Report(n, float(value), {}) for n, value in enumerate(values, 1)]
    assert EarlyStopping("loss", **options).is_over(reports) is over


def _stop_after_three_bad_ones():
    validation = Validation(NET, (HELD_X, HELD_Y), loss=LOSS)
    return Report(), validation, EarlyStopping("validation loss", patience=3)


def test_early_stopping_ends_a_run_and_a_resumed_run_where_it_ends(tmp_path):
    state, history = fit(60, *_stop_after_three_bad_ones(), optimizer=FAST)
    ended = len(history.reports)
    values = [report.metrics["validation loss"] for report in history.reports]
    assert 4 <= ended < 60 and min(values) == values[-4] and int(state.step) == STEPS * ended
    run: Any = None
    for epochs in (ended - 1, ended, 60):  # resumed before its end, at its end, after its end
        around = [*_stop_after_three_bad_ones(), Checkpoint(tmp_path, resume=True)]
        run = fit(epochs, *around, optimizer=FAST)
    assert_same_run(run, (state, history))


def test_the_best_state_is_kept_and_outlives_the_process(tmp_path, precision: Any = "float64"):
    def keep():
        folder = Checkpoints(tmp_path / "best", keep=1)
        return KeepBest("accuracy", mode="max", checkpoints=folder)

    def train(epochs, *around):
        around = (*around, Report(metrics=ACCURACY))
        return fit(epochs, *around, optimizer=FAST, precision=precision)

    best = keep()
    _, history = train(6, best, Checkpoint(tmp_path / "run"))
    values = [report.metrics["accuracy"] for report in history.reports]
    assert best.report == history.reports[int(np.argmax(values))] and values[-1] < max(values)
    assert best.state is not None and best.report is not None
    expected = train(best.report.epoch)[0]
    assert_same_bits(best.state.params["0"]["weight"], expected.params["0"]["weight"])
    with jaxnet.precision.use(precision):
        found = Checkpoints(tmp_path / "best").restore(like=best.state)
    assert found is not None
    assert_same_bits(found[0].params["0"]["weight"], expected.params["0"]["weight"])
    # Another process resumes the run, or begins it anew: it knows the best of before.
    for around in [Checkpoint(tmp_path / "run", resume=True)], []:
        other = keep()
        train(7, other, *around)
        assert other.report == best.report and other.state is not None
        assert_same_bits(other.state.params["0"]["weight"], expected.params["0"]["weight"])


def test_the_best_of_another_run_is_not_taken(tmp_path):
    def keep():
        return KeepBest("loss", checkpoints=Checkpoints(tmp_path, keep=1))

    fit(2, Report(), keep())
    with pytest.raises(ValueError, match="checkpoints must be this run's own"):
        fit(2, Report(), keep(), seed=5)


def test_a_metric_that_is_nan_is_never_the_best(tmp_path):
    """And it is still the same run when it is resumed."""

    def spoil(chunk):
        chunk.report.metrics["score"] = [float("nan"), 1.0, float("nan")][chunk.epoch - 1]

    for _ in range(2):
        folder = Checkpoints(tmp_path, keep=1)
        best = KeepBest("score", mode="max", checkpoints=folder)
        fit(3, Report(metrics=ACCURACY), spoil, best)
        assert best.report is not None and best.report.epoch == 2
        assert folder.list_epochs() == [2]
