"""The ladder, for every experiment at full size: weights, outputs, loss, gradients by name, one
update, every step's loss, the count of correct rows at every report, the last weights.
"""

import copy
import dataclasses
import json
import platform
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

import jaxnet
import torchref.lecture
from jaxnet import lecture, metrics
from jaxnet.batches import Batching, start_epoch
from jaxnet.state import TrainState
from tests.helpers import assert_close, assert_same_bits, list_differing
from torchref import tolerances
from torchref.recorder import Recorder, copy_array, record_first_step

NAMES = list(lecture.EXPERIMENTS)

# What torch 2.15 printed on a CPU, reports and test: a check of `torchref` itself.
MEASURED = {
    "full_batch": (".4488 .6626 .8467 .9404 .9733 .9848 .9894 .9919 .9927 .9936", "0.99858"),
    "dropout": (".4490 .6300 .8066 .9161 .9636 .9797 .9874 .9901 .9919 .9927", "0.99905"),
    "minibatch": (".97410 .98855", "0.99527"),
    "manual_sigmoid": (".4677 .4677 .4745 .5572 .6995 .8175 .8904 .9255 .9444 .9577", None),
    "logits": (".4677 .4677 .4745 .5572 .6995 .8175 .8904 .9255 .9444 .9577", None),
    "three_class": (".98266", "0.98602"),
}


def by_name(tree) -> dict[str, np.ndarray]:
    """A tree of arrays under torch's dotted names."""
    return {".".join(path): np.array(leaf) for path, leaf in flatten_dict(tree).items()}


def nested(named: dict[str, np.ndarray]):
    """Torch's dotted names as a tree."""
    return unflatten_dict({tuple(name.split(".")): value for name, value in named.items()})


class Runs(NamedTuple):
    """One experiment on both sides, run once for all the tests."""

    recorder: Recorder
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
    recorder = Recorder([0, 1, *report_steps(name)])
    result_torch = torchref.lecture.run(name, watch=recorder)
    stream = torch.get_rng_state()
    states: list[TrainState] = []
    result_jax = lecture.run(
        lecture.EXPERIMENTS[name], hooks=[lambda chunk: states.append(chunk.state)]
    )
    return Runs(recorder, result_torch, result_jax, stream, states)


@lru_cache
def referee(name: str) -> tuple[Recorder, torch.nn.Module]:
    """The whole run in float64, on torch, from the same weights, masks and orders."""
    recorder = Recorder(report_steps(name))
    return recorder, torchref.lecture.run(name, watch=recorder, dtype=torch.float64).net


def outputs_at_reports(recorder: Recorder, net: torch.nn.Module, name: str, x) -> list[np.ndarray]:
    """What a recorded run's net gives for x in evaluation mode, at each report."""
    outputs = []
    for step in report_steps(name):
        then = copy.deepcopy(net).eval()
        if step in recorder.steps:  # the last report is after the last step: the net as it is
            weights = recorder.steps[step].weights
            then.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
        with torch.no_grad():
            outputs.append(copy_array(then(torch.tensor(x).to(next(then.parameters())))))
    return outputs


MARGINS = {
    metrics.probability_is_right: lambda outputs: np.abs(outputs[:, 0] - 0.5),
    metrics.logit_is_right: lambda outputs: np.abs(outputs[:, 0]),
    metrics.class_is_right: lambda outputs: np.diff(np.sort(outputs, axis=1)[:, -2:])[:, 0],
}


@lru_cache
def first_step(name: str) -> tuple[Any, Any]:
    """jaxnet's first step as `fit` takes it: the state before, and the step's info."""
    experiment = lecture.EXPERIMENTS[name]
    train, _ = jaxnet.data.load_mnist(experiment.classes)
    generator, variables = jaxnet.init(experiment.net, jaxnet.random.manual_seed(experiment.seed))
    rows = Batching(len(train.images), experiment.batch_size, shuffle=False)
    generator, _ = start_epoch(generator, rows)
    state = jaxnet.train.start(experiment.optimizer, variables, generator)
    step = jaxnet.train.make_train_step(experiment.net, experiment.loss, experiment.optimizer)
    batch = (train.images[: rows.size], experiment.targets(train)[: rows.size])
    return state, jax.jit(step)(state, batch)[1]


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_torchs_bit_for_bit(name):
    state, _ = first_step(name)
    recorded = runs(name).recorder.steps[0].weights
    weights = by_name(state.params)
    assert weights.keys() == recorded.keys()
    for key in weights:
        assert_same_bits(weights[key], recorded[key], where=key)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_loss_of_the_first_step(name):
    recorder = runs(name).recorder
    _, info = first_step(name)
    assert_close(info.outputs, recorder.steps[0].output, tolerances.FIRST_STEP, where="outputs")
    loss = np.float32(recorder.losses[0])
    assert_close(info.loss, loss, tolerances.FIRST_STEP, where="loss")


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_of_the_first_step(name):
    """Against float64, where torch in float32 is the yardstick."""
    exact = record_first_step(name, torch.float64)[0].grads
    rounded = runs(name).recorder.steps[0].grads
    grads = by_name(first_step(name)[1].grads)
    assert grads.keys() == exact.keys()
    for key, grad in grads.items():
        assert grad.dtype == np.float32 and grad.shape == exact[key].shape
        largest = np.abs(exact[key]).max()
        error = np.abs(grad - exact[key]).max() / largest
        error_torch = np.abs(rounded[key] - exact[key]).max() / largest
        assert error <= tolerances.GRADIENT.rtol, f"{key}: {error}, torch {error_torch}"
        bound = max(tolerances.REFEREE_RATIO * error_torch, tolerances.REFEREE_FLOOR)
        assert error <= bound, f"{key}: {error}, torch {error_torch}"


@pytest.mark.parametrize("name", NAMES)
def test_one_update_from_torchs_gradient(name):
    """The optimizer alone: torch's first gradient gives torch's second weights."""
    optimizer = lecture.EXPERIMENTS[name].optimizer
    before, after = (runs(name).recorder.steps[i] for i in (0, 1))
    params = nested(before.weights)
    updates, _ = optimizer.update(nested(before.grads), optimizer.init(params), params)
    weights = by_name(optax.apply_updates(params, updates))
    for key, step in by_name(updates).items():
        ulp = np.spacing(np.maximum(np.abs(before.weights[key]), np.abs(after.weights[key])))
        bound = tolerances.UPDATE_ULPS * ulp + tolerances.UPDATE.rtol * np.abs(step)
        assert np.all(np.abs(weights[key] - after.weights[key]) <= bound), key
        assert np.abs(step).max() > 100 * ulp.max(), f"{key}: a step too small to tell"


@pytest.mark.parametrize("name", NAMES)
def test_loss_of_every_step(name):
    losses = runs(name).jax.history.losses.astype(np.float64)
    assert_close(losses, np.array(runs(name).recorder.losses), tolerances.TRAJECTORY, where=name)


@pytest.mark.parametrize("name", NAMES)
def test_count_of_correct_rows_at_every_report(name):
    record_torch, record_jax = runs(name).torch.record, runs(name).jax.record
    for part in ("train_accuracy", "test_accuracy"):
        assert record_jax[part] == record_torch[part]
    for report_jax, report_torch in zip(
        record_jax["reports"], record_torch["reports"], strict=True
    ):
        assert report_jax["epoch"] == report_torch["epoch"]
        assert report_jax["accuracy"] == report_torch["accuracy"]
        assert report_jax["loss"] == pytest.approx(
            report_torch["loss"], rel=tolerances.TRAJECTORY.rtol
        )


@pytest.mark.parametrize("name", NAMES)
def test_error_of_every_loss_against_float64(name):
    """jaxnet strays from the run in float64 no more than torch in float32 does, times 1.5."""
    exact = np.array(referee(name)[0].losses)
    error_jax, error_torch = (
        np.abs(losses / exact - 1)
        for losses in (
            runs(name).jax.history.losses.astype(np.float64),
            np.array(runs(name).recorder.losses),
        )
    )
    for measure in (np.max, lambda error: np.sqrt(np.mean(error**2))):
        assert measure(error_jax) <= tolerances.REFEREE_RATIO * measure(error_torch)


@pytest.mark.parametrize("name", NAMES)
def test_rows_right_at_every_report(name, record_property):
    """The very rows, on an x86 CPU; elsewhere but for those that float64 puts on the edge."""
    experiment = lecture.EXPERIMENTS[name]
    recorder, result_torch, result_jax, _, states = runs(name)
    parts = jaxnet.data.load_mnist(experiment.classes)
    exact = platform.machine() in ("x86_64", "AMD64") and jax.default_backend() == "cpu"
    listed = {}
    for part, data in zip(("train", "test"), parts, strict=True):
        x, targets = data.images, experiment.targets(data)
        both = [
            outputs_at_reports(*run, name, x)
            for run in ((recorder, result_torch.net), referee(name))
        ]
        for state, rounded, precise in zip(states, *both, strict=True):
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
    bound = tolerances.PREDICTION_MARGIN.atol
    assert list_differing(right, ~right, margins * [0, 1, 1], exact=False) == [0, 1, 2]
    assert list_differing(right, right, margins, exact=True) == []
    for other, exact in ((~right, False), (right ^ [False, True, False], True)):
        with pytest.raises(AssertionError, match="rows"):
            list_differing(right, other, margins, exact=exact)
    with pytest.raises(AssertionError, match="rows"):
        list_differing(right, right ^ [True, False, False], np.full(3, bound), exact=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_afterwards(name):
    """Everything that the run drew, and nothing else: torch's state, to the last byte."""
    generator = runs(name).jax.state.generator
    assert_same_bits(jaxnet.random.get_state(generator), runs(name).stream)


@pytest.mark.parametrize("name", NAMES)
def test_last_weights(name):
    first = runs(name).recorder.steps[0].weights
    weights = by_name(runs(name).jax.state.params)
    for key, weight in runs(name).torch.net.named_parameters():
        last = copy_array(weight)
        moved = np.abs(last - first[key]).max()
        gap = np.abs(weights[key] - last).max()
        assert gap <= tolerances.FINAL_WEIGHTS.rtol * moved, f"{key}: {gap / moved} of the way"


@pytest.mark.parametrize("name", NAMES)
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


def test_full_batch_loss_of_the_500th_step():
    for losses in (runs("full_batch").recorder.losses, runs("full_batch").jax.history.losses):
        assert losses[499] == pytest.approx(0.55478066, rel=tolerances.TRAJECTORY.rtol)


@pytest.mark.parametrize("name", NAMES)
def test_records_have_the_same_form_and_are_json(name):
    record_torch, record_jax = runs(name).torch.record, runs(name).jax.record
    assert list(record_jax) == list(record_torch)
    assert json.loads(json.dumps(record_jax)) == record_jax
    assert [list(report) for report in record_jax["reports"]] == [
        ["epoch", "loss", "accuracy"] for _ in record_torch["reports"]
    ]
    for key in ("experiment", "section", "seed", "published", "steps", "random"):
        assert record_jax[key] == record_torch[key]


def test_a_missed_figure_is_told():
    record = runs("full_batch").jax.record
    assert lecture.missed(record | {"test_accuracy": 0.9985}) == ["test"]
    assert lecture.missed(record | {"train_accuracy": 0.99365}) == ["train"]
    for random in ("jax", "torch cuda"):
        assert lecture.missed(record | {"random": random}) == ["random"]


def test_a_jax_key_is_said_in_the_record():
    """`random` tells what the run used, not what it was meant to use."""
    key = jax.random.key(0)
    experiment = dataclasses.replace(lecture.EXPERIMENTS["logits"], epochs=1, seed=key)
    record = lecture.run(experiment).record
    assert record["random"] == "jax" and "key" in record["seed"].lower()
    assert json.loads(json.dumps(record)) == record


def test_another_seed_gives_another_run():
    experiment = dataclasses.replace(lecture.EXPERIMENTS["logits"], epochs=1, seed=2)
    loss = lecture.run(experiment).history.losses[0]
    assert loss != runs("logits").jax.history.losses[0]
