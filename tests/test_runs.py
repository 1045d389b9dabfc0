"""What a run has around it: numbers that go wrong, Ctrl-C, validation, stopping, the best state."""

import os
import re
import signal
import threading
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from click.testing import CliRunner

import jaxnet
import jaxnet.checkpoint.folder
import jaxnet.lecture.cli
from jaxnet import hooks, nn, pieces, runs
from jaxnet.callbacks.nan_guard import NotFinite
from jaxnet.checkpoint.folder import Checkpoints
from jaxnet.lecture.experiments import manual_sigmoid_loss
from jaxnet.train.state import Chunk, Report
from tests.helpers import assert_same_bits, to_numpy
from tests.test_checkpoint import assert_same_run
from jaxnet.certificate.bounds import TRAJECTORY

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)
HELD_X = RNG.normal(size=(30, 6)).astype(np.float32)
HELD_Y = (HELD_X[:, :1] > 0).astype(np.float32)
NET = nn.Sequential([nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)])
LOSS = jaxnet.losses.binary_cross_entropy_with_logits
ADAM = jaxnet.optim.adam(1e-2)
ACCURACY = {"accuracy": jaxnet.metrics.logit_is_right}
RUN: dict[str, Any] = dict(loss=LOSS, optimizer=ADAM, batch_size=8, shuffle=True, seed=1)
STEPS = 5


def _overflow() -> tuple[np.ndarray, dict[str, Any]]:
    """The lecture's sigmoid by hand, on data whose row 13 is a thousand times too large."""
    x = X.copy()
    x[13] = 1000 * np.abs(x[13])
    options: dict[str, Any] = dict(
        loss=manual_sigmoid_loss, optimizer=jaxnet.optim.sgd(1.0), batch_size=8, seed=2
    )
    return x, options


def test_the_sigmoid_by_hand_is_named_with_its_step_tensor_and_rows():
    with pytest.raises(NotFinite, match="take a loss of logits") as caught:
        x, options = _overflow()
        runs.fit(NET, (x, Y), epochs=4, **options)
    error = caught.value
    assert (error.epoch, error.step, error.tensor) == (1, 2, "the loss")
    np.testing.assert_array_equal(error.rows, range(8, 16))
    assert int(error.state.step) == 0 and len(error.history.losses) == 0
    assert "epoch 1, step 2" in str(error) and "8, 9, 10, ..." in str(error)


def test_the_last_good_state_is_kept(tmp_path):
    """A shuffled run that goes wrong in its third epoch: two are saved, and can be gone on with."""
    sgd = jaxnet.optim.sgd(lambda step: jnp.where(jnp.less(step, 2 * STEPS + 3), 1e-2, 1e38))
    options: dict[str, Any] = RUN | dict(optimizer=sgd, report_every=1)
    sound = jaxnet.fit(NET, (X, Y), epochs=2, **options)
    with pytest.raises(NotFinite) as caught:
        runs.fit(NET, (X, Y), epochs=6, checkpoint=tmp_path, **options)
    error = caught.value
    assert_same_run((error.state, error.history), sound)
    assert Checkpoints(tmp_path).list_epochs()[-1] == 2
    assert error.epoch == 3 and error.step in (14, 15) and len(error.rows) == 8
    whole = jaxnet.fit(NET, (X, Y), epochs=3, **options)[1]
    bad = int(np.flatnonzero(~np.isfinite(whole.losses))[0]) + 1
    assert error.step in (bad, bad - 1)  # the weights are bad a step before the loss
    assert f"epoch 2, before that, is saved in {tmp_path}" in error.__notes__


def test_a_batch_with_a_bad_row_in_a_later_epoch_of_a_chunk_is_found():
    """Replayed epoch by epoch: the order and the masks are the run's own."""
    seen = []

    def loss(outputs, y):  # nan where a label of 2, which pulls the output up, has done so
        return LOSS(outputs, y) + jnp.where(jnp.any((y > 1) & (outputs > 1.6)), jnp.nan, 0.0)

    x, y = X.copy(), Y.copy()
    x[17], y[17] = 3 * x[17], 2
    run: dict[str, Any] = RUN | dict(loss=loss, seed=4)
    losses = jaxnet.fit(NET, (x, y), epochs=12, **run)[1].losses
    bad = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert bad >= STEPS  # else the data do not test what they should
    with pytest.raises(NotFinite) as caught:
        runs.fit(NET, (x, y), epochs=12, hooks=[seen.append], **run)
    error = caught.value
    assert error.step == bad + 1 and error.epoch == bad // STEPS + 1
    assert error.tensor == "the loss" and 17 in error.rows
    assert not any(not np.isfinite(chunk.losses).all() for chunk in seen)


def _with(place, value):
    def change(x, y):
        x = x.copy()
        x[place] = value
        return x, y

    return change


@pytest.mark.parametrize(
    "options, tensor, hint",
    [
        (dict(loss=lambda o, y: jnp.log(o * 0).sum()), "the loss", "look for a log"),
        (
            dict(loss=lambda o, y: jnp.sqrt(jnp.abs(o * 0.0)).sum()),
            "the gradient of 0.bias",
            "look for a log, a root",
        ),
        (
            dict(optimizer=optax.scale(-jnp.inf)),
            "the update of",
            "smaller lr, or clip the gradients",
        ),
        (dict(optimizer=jaxnet.optim.sgd(3e38)), "", "lr, or clip the gradients"),
    ],
)
def test_the_first_bad_tensor_is_named(options, tensor, hint):
    with pytest.raises(NotFinite, match=hint) as caught:
        runs.fit(NET, (X, Y), epochs=3, **RUN | options)
    assert caught.value.tensor.startswith(tensor)


def test_on_nan_ignore_trains_on_as_torch_does():
    x, options = _overflow()
    state, history = runs.fit(NET, (x, Y), epochs=4, on_nan="ignore", **options)
    assert not np.isfinite(history.losses[2:]).any() and len(history.losses) == 20
    assert_same_run((state, history), jaxnet.fit(NET, (x, Y), epochs=4, **options))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(resume=True), "resume=True needs checkpoint"),
        (dict(epochs=0), "epochs must be an integer of at least 1, not 0"),
        (dict(batch_size=99), "batch_size must be at most the number of rows, 40, not 99"),
    ],
)
def test_refusals(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        runs.fit(NET, (X, Y), **dict(epochs=1) | RUN | options)


def test_a_run_with_everything_around_it_is_the_plain_run(tmp_path):
    options: dict[str, Any] = RUN | dict(report_every=2, metrics=ACCURACY, report_loader=True)
    plain = jaxnet.fit(NET, (X, Y), epochs=5, **options)
    shown = []
    around = [
        hooks.Validation(NET, (HELD_X, HELD_Y), metrics=ACCURACY, loss=LOSS),
        hooks.KeepBest("loss"),
        hooks.EarlyStopping("loss", patience=99),
        shown.append,
    ]
    state, history = runs.fit(NET, (X, Y), epochs=5, checkpoint=tmp_path, hooks=around, **options)
    for report in history.reports:
        assert report.metrics.pop("validation loss") and report.metrics.pop("validation accuracy")
    assert_same_run((state, history), plain)
    assert [chunk.epoch for chunk in shown if chunk.report] == [2, 4]


def test_ctrl_c_finishes_the_chunk_saves_and_goes_on(tmp_path):
    options: dict[str, Any] = RUN | dict(report_every=1)
    whole = jaxnet.fit(NET, (X, Y), epochs=6, **options)

    def press(chunk):
        if chunk.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    message = f"stopped after epoch 3 of 6, which is saved in {tmp_path}"
    with pytest.raises(runs.Interrupted, match=re.escape(message)) as caught:
        runs.fit(NET, (X, Y), epochs=6, checkpoint=tmp_path, hooks=[press], **options)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(caught.value.history.losses) == 3 * STEPS
    again = runs.fit(NET, (X, Y), epochs=6, checkpoint=tmp_path, resume=True, **options)
    assert_same_run(again, whole)


def test_a_second_ctrl_c_interrupts_at_once(tmp_path):
    def press(chunk):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        runs.fit(NET, (X, Y), epochs=6, hooks=[press], **RUN)
    assert not isinstance(caught.value, runs.Interrupted)


def test_elsewhere_than_in_the_main_thread_ctrl_c_is_left_alone():
    done = []
    thread = threading.Thread(target=lambda: done.append(runs.fit(NET, (X, Y), epochs=1, **RUN)))
    thread.start()
    thread.join()
    assert_same_run(done[0], jaxnet.fit(NET, (X, Y), epochs=1, **RUN))


@pytest.mark.filterwarnings("default:epoch 10 could not be saved")
def test_the_command_line_says_that_the_end_is_not_saved(tmp_path, monkeypatch):
    """The run ends and prints its figures; what a disk did not take is an error all the same."""
    write = jaxnet.checkpoint.folder._write

    def fill(manager, epoch, *rest):
        if epoch > 2:
            raise OSError(28, "No space left on device")
        write(manager, epoch, *rest)

    monkeypatch.setattr(jaxnet.checkpoint.folder, "_write", fill)
    command = ["lecture", "--only", "logits", "--no-cache", "--checkpoint", str(tmp_path)]
    done = CliRunner().invoke(jaxnet.lecture.cli.main, command)
    assert done.exit_code == 1 and "logits" in done.stdout, done.output
    assert "Warning: epoch 10 could not be saved" in done.stderr
    assert "what was saved before stays" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: the end of logits could not be saved."


def test_validation_is_torchs_second_loop():
    """Its metrics stand in the reports, and are those of torch's net in evaluation mode."""
    validation = hooks.Validation(NET, (HELD_X, HELD_Y), metrics=ACCURACY, loss=LOSS)
    options: dict[str, Any] = RUN | dict(report_every=1, metrics=ACCURACY)
    state, history = jaxnet.fit(NET, (X, Y), epochs=3, hooks=[validation], **options)
    names = ["accuracy", "validation loss", "validation accuracy"]
    assert all(sorted(report.metrics) == sorted(names) for report in history.reports)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
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


def _reports(values):
    return [Report(epoch, value, {}) for epoch, value in enumerate(values, 1)]


@pytest.mark.parametrize(
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
    reports = _reports([float(value) for value in values])
    assert hooks.EarlyStopping("loss", **options).is_over(reports) is over


def _stop_after_three_bad_ones():
    return [
        hooks.Validation(NET, (HELD_X, HELD_Y), loss=LOSS),
        hooks.EarlyStopping("validation loss", patience=3),
    ]


def test_early_stopping_ends_a_run_and_a_resumed_run_where_it_ends(tmp_path):
    options: dict[str, Any] = RUN | dict(report_every=1, optimizer=jaxnet.optim.sgd(5.0))
    state, history = jaxnet.fit(
        NET, (X, Y), epochs=60, hooks=_stop_after_three_bad_ones(), **options
    )
    ended = len(history.reports)
    values = [report.metrics["validation loss"] for report in history.reports]
    assert 4 <= ended < 60 and min(values) == values[-4] and int(state.step) == STEPS * ended
    for epochs in (ended - 1, ended, 60):  # resumed before its end, at its end, after its end
        run = runs.fit(
            NET,
            (X, Y),
            epochs=epochs,
            checkpoint=tmp_path,
            resume=True,
            hooks=_stop_after_three_bad_ones(),
            **options,
        )
    assert_same_run(run, (state, history))


def test_the_best_state_is_kept_and_outlives_the_process(tmp_path):
    options: dict[str, Any] = RUN | dict(
        report_every=1, optimizer=jaxnet.optim.sgd(5.0), metrics=ACCURACY
    )

    def keep():
        folder = Checkpoints(tmp_path / "best", keep=1)
        return hooks.KeepBest("accuracy", mode="max", checkpoints=folder)

    best, rest = keep(), keep()
    _, history = runs.fit(NET, (X, Y), epochs=6, hooks=[best], **options)
    values = [report.metrics["accuracy"] for report in history.reports]
    assert best.report == history.reports[int(np.argmax(values))] and values[-1] < max(values)
    assert best.state is not None and best.report is not None
    expected = jaxnet.fit(NET, (X, Y), epochs=best.report.epoch, **options)[0]
    assert_same_bits(best.state.params["0"]["weight"], expected.params["0"]["weight"])
    found = Checkpoints(tmp_path / "best").restore(like=best.state)
    assert found is not None
    assert_same_bits(found[0].params["0"]["weight"], expected.params["0"]["weight"])
    # Another process goes on with the run: it knows the best of before.
    runs.fit(NET, (X, Y), epochs=6, hooks=[rest], **options)
    assert rest.report == best.report


def test_the_best_of_another_run_is_not_taken(tmp_path):
    def keep():
        return hooks.KeepBest("loss", checkpoints=Checkpoints(tmp_path, keep=1))

    options: dict[str, Any] = RUN | dict(report_every=1)
    jaxnet.fit(NET, (X, Y), epochs=2, hooks=[keep()], **options)
    with pytest.raises(ValueError, match="checkpoints must be this run's own"):
        jaxnet.fit(NET, (X, Y), epochs=2, hooks=[keep()], **{**options, "seed": 5})


def test_a_metric_that_is_nan_is_never_the_best(tmp_path):
    """And it is still the same run when it is gone on with."""
    options: dict[str, Any] = RUN | dict(report_every=1, metrics=ACCURACY)

    def spoil(chunk):
        chunk.report.metrics["score"] = [float("nan"), 1.0, float("nan")][chunk.epoch - 1]

    for _ in range(2):
        folder = Checkpoints(tmp_path, keep=1)
        best = hooks.KeepBest("score", mode="max", checkpoints=folder)
        jaxnet.fit(NET, (X, Y), epochs=3, hooks=[spoil, best], **options)
        assert best.report is not None and best.report.epoch == 2
        assert folder.list_epochs() == [2]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: hooks.Validation(NET, (X, Y)), "loss or metrics must be given"),
        (lambda: hooks.EarlyStopping("loss", patience=0), "patience must be an integer of at"),
        (lambda: hooks.EarlyStopping("loss", patience=1, min_delta=-1), "min_delta must be"),
        (
            lambda: hooks.EarlyStopping("acuracy", patience=1).is_over(_reports([1.0])),
            r"metric must be one of the reports' \(loss\), not 'acuracy'",
        ),
    ],
)
def test_hooks_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_callback_sees_each_report():
    seen: list[Chunk] = []
    _, history = jaxnet.fit(NET, (X, Y), epochs=7, hooks=[seen.append], **RUN, report_every=3)
    assert [chunk.report for chunk in seen if chunk.report] == list(history.reports)
    assert [chunk.epoch for chunk in seen] == [3, 6, 7]
    np.testing.assert_array_equal(np.concatenate([c.losses for c in seen]), history.losses)
    for chunk in seen:  # what was shown stays as it was
        np.testing.assert_array_equal(chunk.history.losses, history.losses[: STEPS * chunk.epoch])


def test_without_reports_hooks_are_called_about_once_a_second(monkeypatch):
    monkeypatch.setattr(pieces, "_PIECE", 0.005)
    seen: list[Chunk] = []
    state, history = jaxnet.fit(NET, (X, Y), epochs=3000, hooks=[seen.append], **RUN)
    assert len(seen) >= 3 and seen[-1].epoch == 3000
    assert_same_run((state, history), jaxnet.fit(NET, (X, Y), epochs=3000, **RUN))


def test_clipped_gradients_and_a_schedule_are_torchs():
    """optax's clip before jaxnet's optimizer; torch adds 1e-6 to the norm that it divides by."""
    lr = jaxnet.optim.step_lr(0.5, step_size=4, gamma=0.5)
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), jaxnet.optim.sgd(lr, momentum=0.9))
    net = nn.Sequential([nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)])
    state, history = jaxnet.fit(net, (X, Y), loss=LOSS, optimizer=optimizer, epochs=10, seed=3)
    torch.manual_seed(3)
    other = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    sgd = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(sgd, step_size=4, gamma=0.5)
    losses, norms = [], []
    for _ in range(10):
        sgd.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            other(torch.tensor(X)), torch.tensor(Y)
        )
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(other.parameters(), 0.05)))
        sgd.step()
        scheduler.step()
        losses.append(loss.item())
    assert min(norms) > 0.05  # every step was clipped
    np.testing.assert_allclose(history.losses, losses, rtol=2e-5)
    weights = jaxnet.convert.to_state_dict({"params": state.params})
    for name, value in other.state_dict().items():
        np.testing.assert_allclose(weights[name], value.numpy(), rtol=1e-4, atol=1e-6)


def test_a_schedule_goes_on_where_it_was(tmp_path):
    lr = jaxnet.optim.cosine_annealing_lr(0.5, T_max=30)
    options: dict[str, Any] = RUN | dict(optimizer=jaxnet.optim.sgd(lr), report_every=1)
    whole = jaxnet.fit(NET, (X, Y), epochs=6, **options)
    runs.fit(NET, (X, Y), epochs=2, checkpoint=tmp_path, **options)
    again = runs.fit(NET, (X, Y), epochs=6, checkpoint=tmp_path, resume=True, **options)
    assert_same_run(again, whole)
