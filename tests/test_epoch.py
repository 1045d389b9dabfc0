"""Epochs as compiled programs: compiled once, and the same bits however they are cut."""

from typing import Any

import jax
import pytest

import jaxnet
import jaxnet.train.epoch
from jaxnet import metrics
from jaxnet.callbacks import Report
from jaxnet.train import make_train_step, start
from tests.helpers import assert_same_bits, compilations
from tests.test_programs import fit
from tests.tiny import LINEAR, LOSS, SGD, X, Y

CHEAP: dict[str, Any] = {"net": LINEAR, "optimizer": SGD, "shuffle": False}
"""Nothing of what is asked here lies in what is drawn."""


@pytest.mark.parametrize("capacity", [1, 13])
def test_more_losses_than_a_call_has_room_for(capacity, monkeypatch):
    """Six losses an epoch: calls of one epoch and of two."""
    whole = fit(epochs=5, **CHEAP)
    monkeypatch.setattr(jaxnet.train.epoch, "LOSSES", capacity)
    cut = fit(epochs=5, **CHEAP)
    assert_same_bits(cut[1].losses, whole[1].losses)
    jax.tree.map(assert_same_bits, cut[0].params, whole[0].params)


@pytest.mark.parametrize("device", [None, jax.devices()[0]])
def test_xla_compiles_a_run_and_its_reports_once(device):
    """Wherever the arrays are: a second compilation would hide in `run_seconds`."""
    accuracy = {"accuracy": lambda outputs, y: metrics.logit_is_right(outputs, y)}
    fresh = lambda outputs, y: LOSS(outputs, y)  # noqa: E731, no program is remembered
    data = (X, Y) if device is None else jax.device_put((X, Y), device)
    with compilations() as compiled:
        seen: list[int] = []
        around = [Report(2, accuracy, loader=True), lambda chunk: seen.append(len(compiled))]
        fit(data=data, loss=fresh, epochs=9, callbacks=around, **CHEAP)
        assert compiled.count("run") == compiled.count("measure") == 1
        assert seen == [len(compiled)] * 5, "all are there before the first chunk"


def test_a_step_compiles_once():
    step: Any = jax.jit(make_train_step(LINEAR, LOSS, SGD))
    generator, variables = jaxnet.init(LINEAR, jaxnet.random.manual_seed(1))
    state = start(SGD, variables, generator)
    for _ in range(3):
        state, _ = step(state, (X, Y))
    assert step._cache_size() == 1
