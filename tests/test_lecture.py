"""Experiments at full size: certified step by step, then run as the lecture runs it, held against
torch at every report, and against float64. Of two, which take a minute each, the first epochs;
`tests/parity` runs them whole.
"""

import copy
import dataclasses
import json
import platform
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch

import jaxnet
import torchref.lecture
from jaxnet import TrainState, lecture, metrics
from jaxnet.certificate import bounds
from jaxnet.data import Batching
from tests.helpers import Enough, assert_same_bits, list_differing
from torchref.recorder import copy_array, copy_named
from torchref.results import certify_experiment

LONG = ("full_batch", "dropout")
NAMES = [name for name in lecture.EXPERIMENTS if name not in LONG]

# What torch 2.15 printed on a CPU, reports and test: a check of `torchref` itself.
MEASURED = {
    "full_batch": (".4488 .6626 .8467 .9404 .9733 .9848 .9894 .9919 .9927 .9936", "0.99858"),
    "dropout": (".4490 .6300 .8066 .9161 .9636 .9797 .9874 .9901 .9919 .9927", "0.99905"),
    "minibatch": (".97410 .98855", "0.99527"),
    "manual_sigmoid": (".4677 .4677 .4745 .5572 .6995 .8175 .8904 .9255 .9444 .9577", None),
    "logits": (".4677 .4677 .4745 .5572 .6995 .8175 .8904 .9255 .9444 .9577", None),
    "three_class": (".98266", "0.98602"),
}


each_experiment = pytest.mark.parametrize("name", NAMES)
"""Tests with one name run in one process, which makes that experiment's runs once."""


class Watcher:
    """A `watch` for the lecture's loops: every loss, and the weights before some of the steps.

    After `steps` of them, where so many are given, it ends the loop.
    """

    def __init__(self, keep: list[int], steps: int | None = None) -> None:
        self.keep, self.losses, self.weights = frozenset(keep), [], {}
        self.steps = steps

    def __call__(self, net, output, loss) -> None:
        if len(self.losses) in self.keep:
            self.weights[len(self.losses)] = copy_named(net.named_parameters())
        self.losses.append(loss.item())
        if len(self.losses) == self.steps:
            raise Enough


class Runs(NamedTuple):
    """One experiment on both sides, run once for all the tests."""

    watcher: Watcher
    torch: torchref.lecture.Result
    jax: lecture.Result
    stream: Any
    """torch's random state afterwards."""
    states: list[TrainState]
    """jaxnet's state at every report."""


def report_steps(name: str) -> list[int]:
    """Steps done at each report."""
    experiment = lecture.EXPERIMENTS[name]
    rows = len(jaxnet.data.load_mnist(experiment.classes)[0].labels)
    steps = Batching(rows, experiment.batch_size).steps
    every = range(experiment.report_every, experiment.epochs + 1, experiment.report_every)
    return [epoch * steps for epoch in every]


@lru_cache
def runs(name: str) -> Runs:
    """Both whole runs."""
    watcher = Watcher(report_steps(name))
    result_torch = torchref.lecture.run(name, watch=watcher)
    stream = torch.get_rng_state()
    states: list[TrainState] = []

    def keep(chunk) -> None:
        if chunk.report:
            states.append(chunk.state)

    result_jax = lecture.run(lecture.EXPERIMENTS[name], callbacks=[keep])
    return Runs(watcher, result_torch, result_jax, stream, states)


@lru_cache
def reference(name: str) -> tuple[Watcher, torch.nn.Module]:
    """The whole run in float64, on torch, from the same weights, masks and orders."""
    watcher = Watcher(report_steps(name))
    return watcher, torchref.lecture.run(name, watch=watcher, dtype=torch.float64).net


def list_exact_losses(name: str, steps: int | None) -> np.ndarray:
    """The losses in float64, of the first steps alone where so many are asked for."""
    if steps is None:
        return np.array(reference(name)[0].losses)
    watcher = Watcher([], steps)
    with pytest.raises(Enough):
        torchref.lecture.run(name, watch=watcher, dtype=torch.float64)
    return np.array(watcher.losses)


def outputs_at_reports(watcher: Watcher, net: torch.nn.Module, name: str, x) -> list[np.ndarray]:
    """What a recorded run's net gives for x in evaluation mode, at each report."""
    outputs = []
    for step in report_steps(name):
        then = copy.deepcopy(net).eval()
        if step in watcher.weights:  # the last report is after the last step: the net as it is
            weights = watcher.weights[step]
            then.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
        with torch.no_grad():
            outputs.append(copy_array(then(torch.tensor(x).to(next(then.parameters())))))
    return outputs


MARGINS = {
    metrics.probability_is_right: lambda outputs: np.abs(outputs[:, 0] - 0.5),
    metrics.logit_is_right: lambda outputs: np.abs(outputs[:, 0]),
    metrics.class_is_right: lambda outputs: np.diff(np.sort(outputs, axis=1)[:, -2:])[:, 0],
}


@each_experiment
def test_certified(name, record_property):
    """An epoch of every 24th row: `tests/slow` certifies all of them to the end."""
    certify(name, 1, record_property, every=24)


def certify(name, epochs, record_property, every=1):
    experiment, result = lecture.EXPERIMENTS[name], runs(name).torch
    train, _ = jaxnet.data.load_mnist(experiment.classes)
    rows = train._replace(images=train.images[::every], labels=train.labels[::every])
    found = certify_experiment(name, rows, epochs=epochs)
    assert found.agrees, str(found)
    assert found.steps == epochs * Batching(len(rows.labels), experiment.batch_size).steps
    drawn = sum(parameter.numel() for parameter in result.net.parameters())
    assert found.checked["initial weights"] == 2 * drawn  # as converted, and as jaxnet draws them
    worst = {stage: round(figures.share, 2) for stage, figures in found.stages.items()}
    record_property("largest error as a share of its bound", {k: v for k, v in worst.items() if v})
    assert found.run_gaps.max() <= bounds.TRAJECTORY.rtol


@each_experiment
def test_loss_of_every_step(name):
    """The whole run by itself, in one compiled program."""
    compare_losses(runs(name).jax.history.losses, runs(name).watcher.losses)


def compare_losses(losses_jax, losses_torch):
    assert losses_jax.shape == (len(losses_torch),)
    gaps = np.abs(losses_jax.astype(np.float64) / np.array(losses_torch) - 1)
    assert gaps.max() <= bounds.TRAJECTORY.rtol


@each_experiment
def test_records_are_torchs(name):
    """The same form, in JSON; as many rows right, and the losses, at every report."""
    record_torch, record_jax = runs(name).torch.record, runs(name).jax.record
    assert list(record_jax) == list(record_torch)
    assert json.loads(json.dumps(record_jax)) == record_jax
    seconds = {"compile_seconds", "run_seconds", "reports"}
    assert all(record_jax[key] == record_torch[key] for key in record_jax.keys() - seconds)
    for ours, theirs in zip(record_jax["reports"], record_torch["reports"], strict=True):
        assert ours == theirs | {"loss": ours["loss"]}
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=bounds.TRAJECTORY.rtol)


EXACT = {"full_batch": 40, "dropout": 40, "minibatch": 400, "three_class": 40}
"""Steps that are run in float64 too, all where none are said: whole, each takes a minute."""


@each_experiment
def test_error_of_every_loss_against_float64(name):
    """jaxnet strays from the run in float64 no more than torch in float32 does, times 1.5."""
    compare_errors(name, EXACT.get(name))


def compare_errors(name, steps):
    exact = list_exact_losses(name, steps)
    error_jax, error_torch = (
        np.abs(losses[: len(exact)] / exact - 1)
        for losses in (
            runs(name).jax.history.losses.astype(np.float64),
            np.array(runs(name).watcher.losses),
        )
    )
    for measure in (np.max, lambda error: np.sqrt(np.mean(error**2))):
        assert measure(error_jax) <= bounds.FLOAT64_RATIO * measure(error_torch)


@each_experiment
def test_rows_right_at_every_report(name, record_property):
    """The very rows, on an x86 CPU; elsewhere but for those that float64 puts on the edge."""
    experiment = lecture.EXPERIMENTS[name]
    watcher, result_torch, result_jax, _, states = runs(name)
    parts = jaxnet.data.load_mnist(experiment.classes)
    exact = platform.machine() in ("x86_64", "AMD64") and jax.default_backend() == "cpu"
    listed = {}
    for part, data in zip(("train", "test"), parts, strict=True):
        x, targets = data.images, experiment.targets(data)
        rounded_outputs = outputs_at_reports(watcher, result_torch.net, name, x)
        # Where the rows are to be the same, nobody asks which of them are on the edge.
        precise_outputs = (
            rounded_outputs if exact else outputs_at_reports(*reference(name), name, x)
        )
        for state, rounded, precise in zip(states, rounded_outputs, precise_outputs, strict=True):
            right_jax, right_torch = (
                np.asarray(experiment.metric(outputs, targets))
                for outputs in (jaxnet.predict(experiment.net, state, x), rounded)
            )
            margins = MARGINS[experiment.metric](precise)
            rows = list_differing(right_jax, right_torch, margins, exact=exact)
            listed[f"{part} at step {int(state.step)}"] = rows
            if part == "train":
                report = len(listed) - 1
                for right, record in (
                    (right_jax, result_jax.record),
                    (right_torch, result_torch.record),
                ):
                    assert right.sum() / len(right) == record["reports"][report]["accuracy"]
    record_property("rows that differ", {where: rows for where, rows in listed.items() if rows})


def test_rows_on_the_edge_may_differ_where_the_machine_is_another():
    right, margins = np.array([True, True, False]), np.array([0.3, 1e-8, 2e-8])
    bound = bounds.PREDICTION_MARGIN.atol
    assert list_differing(right, ~right, margins * [0, 1, 1], exact=False) == [0, 1, 2]
    assert list_differing(right, right, margins, exact=True) == []
    for other, exact in ((~right, False), (right ^ [False, True, False], True)):
        with pytest.raises(AssertionError, match="rows"):
            list_differing(right, other, margins, exact=exact)
    with pytest.raises(AssertionError, match="rows"):
        list_differing(right, right ^ [True, False, False], np.full(3, bound), exact=False)


@each_experiment
def test_the_stream_afterwards(name):
    """Everything that the run drew, and nothing else: torch's state, to the last byte."""
    generator = runs(name).jax.state.generator
    assert_same_bits(jaxnet.random.get_state(generator), runs(name).stream)


@each_experiment
def test_published_and_measured_figures(name):
    result_torch, result_jax = runs(name).torch, runs(name).jax
    assert lecture.missed(result_jax.record) == []
    assert lecture.missed(result_torch.record) == []
    printed, test = MEASURED[name]
    expected = printed.split()
    for record in (result_torch.record, result_jax.record):
        reports = record["reports"][-len(expected) :]
        for report, text in zip(reports, expected, strict=True):
            assert f"{report['accuracy']:.{len(text) - 1}f}" == f"0{text}"
        assert test is None or f"{record['test_accuracy']:.5f}" == test


@pytest.mark.parametrize("name", LONG)
def test_the_first_epochs_of_a_long_experiment(name):
    """Every loss, and torch's state after the masks so far, to the last byte."""
    watcher = Watcher([], steps=60)
    with pytest.raises(Enough):
        torchref.lecture.run(name, watch=watcher)
    stream = torch.get_rng_state()
    first = dataclasses.replace(lecture.EXPERIMENTS[name], epochs=60, report_every=60)
    result = lecture.run(first)
    compare_losses(result.history.losses, watcher.losses)
    assert_same_bits(jaxnet.random.get_state(result.state.generator), stream)


@pytest.mark.parametrize("name", ["three_class"])
def test_a_missed_figure_is_told(name):
    record = runs(name).jax.record
    test = {"published": {"train": None, "test": 0.9986}, "test_accuracy": 0.9985}
    assert lecture.missed(record | test) == ["test"]
    assert lecture.missed(record | {"train_accuracy": 0.98275}) == ["train"]
    for random in ("jax", "torch cuda"):
        assert lecture.missed(record | {"random": random}) == ["random"]


@pytest.mark.parametrize("name", ["logits"])
def test_a_jax_key_is_said_in_the_record(name):
    """`random` tells what the run used, not what it was meant to use."""
    key = jax.random.key(0)
    experiment = dataclasses.replace(lecture.EXPERIMENTS[name], epochs=1, seed=key)
    record = lecture.run(experiment).record
    assert record["random"] == "jax" and "key" in record["seed"].lower()
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("name", ["logits"])
def test_another_seed_gives_another_run(name):
    experiment = dataclasses.replace(lecture.EXPERIMENTS[name], epochs=1, seed=2)
    loss = lecture.run(experiment).history.losses[0]
    assert loss != runs(name).jax.history.losses[0]
