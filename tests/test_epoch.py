"""Epochs as compiled programs: compiled once, and the same bits however they are cut."""

import logging
import re
from typing import Any

import jax
import numpy as np
import pytest

import jaxnet
import jaxnet.train.epoch
from jaxnet import cache, metrics, optim
from jaxnet.callbacks import Report
from jaxnet.train import make_train_step, start
from tests.helpers import assert_same_bits
from tests.test_checkpoint import assert_same_run
from tests.test_programs import fit
from tests.tiny import ADAM, LOSS, NET, X, Y

DEVICE = jax.devices()[0]


@pytest.mark.parametrize("capacity", [1, 6, 13])
def test_more_losses_than_a_call_has_room_for(capacity, monkeypatch):
    """Six losses an epoch: calls of one epoch, of one and of two."""
    whole = fit(epochs=5)
    monkeypatch.setattr(jaxnet.train.epoch, "LOSSES", capacity)
    cut = fit(epochs=5)
    assert_same_bits(cut[1].losses, whole[1].losses)
    jax.tree.map(assert_same_bits, cut[0].params, whole[0].params)


@pytest.fixture
def drawn_ahead(monkeypatch):
    """Says how many bytes of draws are made ahead, of which no program knows."""

    def limit(size: int) -> None:
        monkeypatch.setattr(jaxnet.train.epoch, "DRAWN", size)
        cache.clear()

    yield limit
    monkeypatch.undo()
    cache.clear()


def map_rows(folder):
    """`X` and `Y`, read from a file as batches need them."""
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r"), Y


@pytest.mark.parametrize(
    "seed, streamed, steps, lengths",
    [
        (1, False, 1, {1}),
        (1, False, 2, {2, 1}),
        (1, False, 3, {3, 2, 1}),
        (1, True, 2, {2, 1}),
        (jax.random.key(1), False, 2, {2, 1}),
    ],
)
def test_draws_made_ahead_in_several_chunks_are_those_made_at_once(
    seed, streamed, steps, lengths, drawn_ahead, tmp_path, monkeypatch
):
    """Masks of 64 bytes a step, or keys of 8; five steps of an epoch, and a short one."""
    found: set[int] = set()
    scan_steps = jaxnet.train.epoch.Program._scan_steps

    def note(self, state, batches, **options):
        found.add(len(jax.tree.leaves(batches)[0]))
        return scan_steps(self, state, batches, **options)

    monkeypatch.setattr(jaxnet.train.epoch.Program, "_scan_steps", note)
    data = map_rows(tmp_path) if streamed else (X, Y)
    cache.clear()
    whole = fit(seed=seed, data=data)
    assert found == {5, 1}
    found.clear()
    drawn_ahead(steps * (8 if isinstance(seed, jax.Array) else 64) + 7)
    assert_same_run(fit(seed=seed, data=data), whole)
    assert found == lengths


def test_a_run_compiles_once_for_all_its_chunks_and_for_the_next_run():
    traces = []

    def loss(outputs, y):
        traces.append(outputs.shape)
        return LOSS(outputs, y)

    optimizer = optim.sgd()
    fit(loss=loss, optimizer=optimizer, epochs=7, batch_size=8, callbacks=[Report(3)])
    once = len(traces)
    assert set(traces) == {(8, 1), (1, 1)}
    fit(loss=loss, optimizer=optimizer, epochs=7, batch_size=8, callbacks=[Report(3)], seed=2)
    assert len(traces) == once


@pytest.mark.parametrize("put", [lambda data: data, lambda data: jax.device_put(data, DEVICE)])
def test_xla_compiles_a_run_and_its_reports_once(put, caplog):
    """Wherever the arrays are: a second compilation would hide in `run_seconds`."""
    accuracy = {"accuracy": lambda outputs, y: metrics.logit_is_right(outputs, y)}
    report = Report(2, accuracy, loader=True)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        fit(
            data=put((X, Y)),
            optimizer=optim.adam(),
            epochs=9,
            batch_size=8,
            callbacks=[report, lambda chunk: logging.warning("chunk")],
        )
    messages = [record.getMessage() for record in caplog.records]
    names = re.findall(r"Finished XLA compilation of jit\((\w+)\)", "\n".join(messages))
    assert names.count("run") == names.count("measure") == 1
    first_chunk = messages.index("chunk")
    later = [text for text in messages[first_chunk:] if "Finished XLA compilation" in text]
    assert later == []


def test_a_step_compiles_once():
    step: Any = jax.jit(make_train_step(NET, LOSS, ADAM))
    generator, variables = jaxnet.init(NET, jaxnet.random.manual_seed(1))
    state = start(ADAM, variables, generator)
    for _ in range(3):
        state, _ = step(state, (X, Y))
    assert step._cache_size() == 1
