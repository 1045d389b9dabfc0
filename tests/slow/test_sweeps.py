"""Sweeps whose groups compile programs of their own."""

from typing import Any

import optax

import jaxnet
from jaxnet import optim
from jaxnet.certificate.bounds import SMALL_LOSSES
from jaxnet.sweep import _programs
from tests.helpers import assert_close, assert_same_bits
from tests.test_sweeps import PLAIN, assert_lane_is, one_group, sweep


def test_values_that_an_optimizer_looks_into_have_programs_of_their_own():
    grid = {"momentum": [0.0, 0.9], "nesterov": [False]}
    found = sweep(net=PLAIN, grid=grid, seeds=[1, 2])
    for lane, row in enumerate(found.table):
        optimizer = optim.sgd(momentum=row["momentum"])
        assert_lane_is(found, lane, PLAIN, optimizer=optimizer, seed=row["seed"])
    grid = {"learning_rate": [0.1], "weight_decay": [0.0, 0.5]}
    own = sweep(net=PLAIN, optimizer=optax.adamw, grid=grid)
    assert len(own.group_sizes) == 1
    for lane in (1, 6):
        row = own.table[lane]
        solo = optax.adamw(0.1, weight_decay=row["weight_decay"])
        assert_lane_is(own, lane, PLAIN, optimizer=solo, seed=row["seed"])


def test_how_groups_are_cut_changes_no_integer(monkeypatch):
    options: dict[str, Any] = {"batch_size": 8, "shuffle": True, "seeds": range(7)}
    with monkeypatch.context() as patch:
        one_group(patch, 7)
        whole = sweep(**options)
    monkeypatch.setattr(_programs, "_GROUP", 1)
    alone = sweep(**options)
    assert whole.group_sizes[0] > alone.group_sizes[0] == 1
    for lane in range(7):
        generators = (part.state(lane).generator for part in (whole, alone))
        assert_same_bits(*map(jaxnet.random.get_state, generators))
        assert_close(whole.losses[lane], alone.losses[lane], SMALL_LOSSES)
