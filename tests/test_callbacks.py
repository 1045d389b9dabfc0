"""Callbacks around a run: Ctrl-C, validation, early stopping, the best state, the clock."""

import io
import os
import re
import signal
import threading
from typing import Any

import jax
import numpy as np
import pytest

import jaxnet
import jaxnet.checkpoint.folder
import jaxnet.lecture.cli
import jaxnet.train.loop
from jaxnet import callbacks
from jaxnet.callbacks import (
    Callback,
    Checkpoint,
    Chunk,
    DeferredSigint,
    EarlyStopping,
    Interrupted,
    KeepBest,
    NanGuard,
    Report,
    Validation,
)
from tests.helpers import assert_same_bits
from tests.test_checkpoint import assert_same_run
from tests.tiny import ACCURACY, ADAM, LINEAR, LOSS, NET, X, Y

RUN: dict[str, Any] = dict(loss=LOSS, optimizer=ADAM, batch_size=8, shuffle=True, seed=1)
STEPS = 6
WIDE: dict[str, Any] = {"precision": "float64", "batch_size": None, "shuffle": False}


def fit(epochs: int, *around: Any, **options: Any):
    net = options.pop("net", NET)
    return jaxnet.fit(net, (X, Y), epochs=epochs, callbacks=around, **RUN | options)


def test_a_run_with_everything_around_it_is_the_plain_run(tmp_path):
    def report():
        return Report(2, ACCURACY, loader=True)

    plain = fit(5, report())
    shown: list[Chunk] = []
    state, history = fit(
        5,
        shown.append,
        DeferredSigint(),
        Checkpoint(tmp_path),
        EarlyStopping("loss", patience=99),
        KeepBest("loss"),
        Validation(NET, (X[:9], Y[:9]), metrics=ACCURACY, loss=LOSS),
        report(),
        NanGuard(),
    )
    for made in history.reports:
        assert made.metrics.pop("validation loss") and made.metrics.pop("validation accuracy")
    assert_same_run((state, history), plain)
    assert [chunk.epoch for chunk in shown if chunk.report] == [2, 4]


def test_ctrl_c_finishes_the_chunk_saves_and_resumes(tmp_path):
    whole = fit(6, Report())

    def press(chunk):
        if chunk.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    message = f"stopped after epoch 3 of 6, which is saved in {tmp_path}"
    with pytest.raises(Interrupted, match=re.escape(message)) as caught:
        fit(6, DeferredSigint(), Checkpoint(tmp_path), press, Report())
    assert signal.getsignal(signal.SIGINT) is before
    assert len(caught.value.history.losses) == 3 * STEPS
    assert_same_run(fit(6, Checkpoint(tmp_path, resume=True), Report()), whole)


def test_ctrl_c_while_programs_compile_is_remembered(tmp_path):
    class Press(callbacks.Callback):
        def on_start(self, run):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped after epoch 1 of 6$"):
        fit(6, DeferredSigint(), Press(), Report())


def test_a_second_ctrl_c_interrupts_at_once():
    def press(chunk):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(6, DeferredSigint(), press)
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is before


def test_elsewhere_than_in_the_main_thread_ctrl_c_is_left_alone():
    done = []
    thread = threading.Thread(target=lambda: done.append(fit(1, DeferredSigint())))
    thread.start()
    thread.join()
    assert_same_run(done[0], fit(1))


def test_a_callback_sees_each_report():
    seen: list[Chunk] = []
    _, history = fit(7, seen.append, Report(3))
    assert [chunk.report for chunk in seen if chunk.report] == list(history.reports)
    assert [chunk.epoch for chunk in seen] == [3, 6, 7]
    np.testing.assert_array_equal(np.concatenate([c.losses for c in seen]), history.losses)
    for chunk in seen:  # what was shown stays as it was
        np.testing.assert_array_equal(chunk.history.losses, history.losses[: STEPS * chunk.epoch])


def test_without_reports_callbacks_are_called_about_once_a_second(monkeypatch):
    monkeypatch.setattr(jaxnet.train.loop, "_PAUSE", 0.005)
    seen: list[Chunk] = []
    run = fit(3000, seen.append)
    assert len(seen) >= 3 and seen[-1].epoch == 3000
    assert_same_run(run, fit(3000))


def test_a_callback_names_the_epochs_at_which_it_is_called():
    """Of several callbacks each epoch that one of them has named."""

    class Named(callbacks.Callback):
        def __init__(self, *epochs):
            self.epochs, self.seen = epochs, []

        def next_epoch(self, epoch):
            return next((named for named in self.epochs if named > epoch), None)

        def on_chunk(self, chunk):
            self.seen.append(chunk.epoch)

    odd, even = Named(1, 5), Named(2, 6)
    assert_same_run(fit(9, odd, even), fit(9))
    assert odd.seen == even.seen == [1, 2, 5, 6, 9]


class Noting(callbacks.Callback):
    """Notes what is called, and when; may raise."""

    def __init__(self, order: int, notes: list[Any], stop: str = ""):
        self.order, self.notes, self.stop = order, notes, stop

    def note(self, name: str) -> None:
        self.notes.append((name, self.order))
        if name == self.stop:
            raise callbacks.Stop

    def on_start(self, run):
        self.note("start")

    def on_chunk(self, chunk):
        self.note("chunk")

    def on_end(self, run):
        self.notes.append(("end", self.order, run.epoch, type(run.error).__name__))


@pytest.mark.parametrize("stop, epoch", [("", 2), ("chunk", 1), ("start", 0)])
def test_callbacks_are_called_in_their_order_and_all_of_them_where_one_ends_the_run(stop, epoch):
    notes: list[Any] = []
    _, history = fit(2, Noting(99, notes), Report(), Noting(1, notes, stop))
    assert len(history.losses) == epoch * STEPS
    chunks = [("chunk", 1), ("chunk", 99)] * epoch
    ends = [("end", order, epoch, "NoneType") for order in (1, 99)]
    assert notes == [("start", 99), ("start", 1), *chunks, *ends]


def test_an_error_of_a_callback_ends_the_run_and_all_are_told():
    notes: list[Any] = []

    def fail(chunk):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(2, Noting(1, notes), Report(), fail, Noting(99, notes))
    ends = [("end", order, 1, "ZeroDivisionError") for order in (1, 99)]
    assert notes == [("start", 99), ("start", 1), ("chunk", 1), *ends]


def test_a_run_goes_on_from_the_state_that_a_callback_gives():
    """Half the weights after the third epoch: the run from there is that of this state."""

    def halve(state):
        return state._replace(params=jax.tree.map(lambda weight: weight / 2, state.params))

    def change(chunk):
        return halve(chunk.state) if chunk.epoch == 3 else None

    seen: list[Chunk] = []
    state, history = fit(5, Report(), change, seen.append, net=LINEAR, **WIDE)
    begin, past = fit(3, net=LINEAR, **WIDE)
    with jaxnet.precision.use("float64"):
        begin = halve(begin)
    expected = fit(5, Report(), seed=None, state=(begin, past), net=LINEAR, **WIDE)
    np.testing.assert_array_equal(history.losses, expected[1].losses)
    for one, other in [(state, expected[0]), (seen[2].state, begin)]:  # the next one sees it too
        assert_same_bits(one.params["0"]["weight"], other.params["0"]["weight"])


class Begin(Callback):
    """Starts a run from what it is given, and names an epoch."""

    def __init__(self, given=None, epoch=None):
        self.given, self.epoch = given, epoch

    def on_start(self, run):
        return self.given

    def next_epoch(self, epoch):
        return self.epoch


def test_what_a_callback_gives_is_checked():
    with pytest.raises(TypeError, match="what a callback gives, if not None, must be a TrainState"):
        fit(2, Begin(5))
    state, _ = fit(1)
    with pytest.raises(ValueError, match="must have the structure of the state before it"):
        fit(2, lambda chunk: state._replace(params={}))
    with pytest.raises(ValueError, match="must give a later epoch than 0, or None, not 0"):
        fit(2, Begin(epoch=0))
    with pytest.raises(ValueError, match="must be float64, as the state before it, not float32"):
        fit(2, lambda chunk: jaxnet.precision.cast(chunk.state, "parity"), net=LINEAR, **WIDE)


def test_two_reports_of_one_epoch_are_one():
    metrics = {"first": ACCURACY["accuracy"]}, {"second": ACCURACY["accuracy"]}
    _, history = fit(2, Report(metrics=metrics[0]), Report(every=2, metrics=metrics[1]))
    assert [list(report.metrics) for report in history.reports] == [["first"], ["first", "second"]]


class Looked(jaxnet.train.Report):
    """A report that counts how often its metrics are looked at."""

    counts: list[int] = []

    @property
    def metrics(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        self.counts.append(self.epoch)
        return {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping("loss", patience=999),
        lambda: KeepBest("loss"),
        lambda: KeepBest("loss", mode="max"),
        lambda: callbacks.JsonLines(io.StringIO()),
    ],
)
def test_the_last_report_costs_no_more_than_the_first(make):
    callback, losses = make(), np.zeros(1, np.float32)
    state = jaxnet.train.TrainState({}, {}, (), None, 0)
    history, looked = jaxnet.train.History(losses, (), 0.0, 0.0, ""), []
    for epoch in range(1, 501):
        chunk = Chunk(epoch, 500, state, losses, history)
        chunk.add_report(Looked(epoch, 1 / epoch, {}))
        Looked.counts.clear()
        callback.on_chunk(chunk)
        looked.append(len(Looked.counts))
        history = chunk.history
    assert looked[0] == looked[-1] == max(looked)
