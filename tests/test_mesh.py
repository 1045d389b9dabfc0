"""Runs on 8 devices: the same masks and orders, the same losses.

The losses but for the rounding of sums.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxnet
from jaxnet import nn
from jaxnet.callbacks import Report
from jaxnet.certificate.bounds import PREDICTION_MARGIN
from jaxnet.data import Batching, InMemory
from jaxnet.train import OnMesh, start
from tests import sharded

DEVICES = (8,)
REDUCTION = 1e-6  # relative: sums over the devices' rows are added in another order
RUNS = (*(run for run in sharded.BASIC if run != "full_batch"), *sharded.WIDER)
"""`masks_of_one_step` takes all rows at once, and is exact."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the runs below leave their checkpoints."""
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def found(folder) -> dict[Any, dict[str, np.ndarray]]:
    """What came of the runs, by the number of devices; 0 is without a mesh."""
    many = {count: sharded.find(count, folder, RUNS) for count in DEVICES}
    return {0: sharded.find(0, folder, RUNS), **many}


@pytest.mark.parametrize("devices", DEVICES)
def test_integers_are_the_same(found, devices):
    """Losses made of integers are exact: one other row, place or mask would change them."""
    one, many = found[0], found[devices]
    assert len(set(one["order_and_masks.losses"])) == sharded.STEPS, (
        "each step's rows and masks are its own"
    )
    for name in ("order_and_masks.losses", "masks_of_one_step.losses"):
        np.testing.assert_array_equal(many[name], one[name])
    streams = [name for name in many.keys() & one.keys() if name.endswith(".stream")]
    assert len(streams) >= len(sharded.BASIC) - 1
    for name in streams:
        np.testing.assert_array_equal(many[name], one[name])


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("run", RUNS)
def test_floats_agree_within_the_rounding_of_sums(found, run, devices):
    one, many = found[0], found[devices]
    np.testing.assert_allclose(many[f"{run}.losses"], one[f"{run}.losses"], rtol=REDUCTION)
    for part in ("weights", "variables"):
        if f"{run}.{part}" in one:
            expected = one[f"{run}.{part}"]
            scale = np.abs(expected).max(initial=0.0)
            np.testing.assert_allclose(many[f"{run}.{part}"], expected, atol=2e-6 * scale)


@pytest.mark.parametrize("devices", DEVICES)
def test_the_same_rows_are_right_but_for_those_on_the_edge(found, devices):
    """Counts at the reports, against the rows that the margin leaves open at the last."""
    lecture, (x, y) = sharded.LECTURE, sharded.load()
    options = {"optimizer": jaxnet.optim.sgd(), "epochs": 2, "batch_size": 16, "seed": 1}
    options["callbacks"] = [Report(metrics={"accuracy": lecture.metric}, loader=True)]
    state, history = jaxnet.fit(lecture.net, (x, y), loss=lecture.loss, **options)
    margins = np.abs(np.asarray(jaxnet.predict(lecture.net, state, x)) - 0.5)
    edge = int((margins < PREDICTION_MARGIN.atol).sum())
    expected = [[report.metrics["accuracy"]] for report in history.reports]
    np.testing.assert_array_equal(found[0]["lecture.accuracies"], expected)
    counts = np.rint(sharded.ROWS * found[devices]["lecture.accuracies"])
    assert np.abs(counts - np.rint(sharded.ROWS * np.array(expected))).max() <= edge


def test_lanes_are_sharded_and_stay_themselves(found):
    """Ten lanes on eight devices: two rounds up to sixteen."""
    ours, theirs = (found[n]["sweep.accuracies"] for n in (8, 0))
    np.testing.assert_array_equal(ours, theirs)  # seeds, rates and accuracies, in order


@pytest.mark.parametrize("devices", DEVICES)
def test_a_step_communicates_once(found, devices):
    """One all-reduce in the program: of the full batches; those of 9 rows are computed whole."""
    counts = found[devices]["lecture.counts"]
    assert counts.tolist() == ([1, 0, 0, 0, 0] if devices > 1 else [0, 0, 0, 0, 0])
    assert found[devices]["lecture.later"] == 0, "a second chunk compiles nothing"


def test_weights_are_sharded_where_specs_say_so(found):
    """Each device holds its part of the first layer, of the last one's inputs, and of moments."""
    parts = 2
    sizes = found[8]["wide.shard_sizes"]
    tensors = [64 / parts, 64 * 784 / parts, 8, 8 * 64 / parts]
    assert sizes.tolist() == tensors + [1] + tensors + tensors


def test_parts_that_do_not_come_out_even_are_rejected(found):
    message = str(found[8]["wide.message"])
    assert "shards 3.bias, whose shape is (7,), into 8 parts of 7" in message


@pytest.mark.parametrize("written", DEVICES)
def test_what_many_devices_saved_restores_on_one(found, folder, tmp_path, written):
    """And is resumed as the run that was never moved; on a mesh of one device too."""
    _, whole = sharded.save(None, tmp_path / "whole", 2)
    placement = OnMesh(jax.make_mesh((1,), ("data",))) if written == 8 else None
    state, history = sharded.save(placement, folder / str(written), 2, resume=True)
    assert len(history.losses) == int(state.step) == sharded.STEPS
    saved = found[written]["saved.losses"]
    np.testing.assert_array_equal(history.losses[: len(saved)], saved)
    np.testing.assert_allclose(history.losses, whole.losses, rtol=REDUCTION)


def test_a_spec_reaches_the_moments_of_its_weight_and_no_other():
    """Names that end alike, "0.weight" and "1.0.weight", and a nested layer's."""
    mesh = jax.make_mesh((2,), ("model",))
    inner = nn.Sequential([nn.Linear(4, 4), nn.ReLU()])
    net = nn.Sequential([nn.Linear(4, 4), inner])
    generator, variables = jaxnet.init(net, jaxnet.random.manual_seed(0))
    state = start(jaxnet.optim.adam(), variables, generator)
    rows = InMemory((np.ones((8, 4), np.float32), np.zeros((8, 4), np.float32)))
    for specs, expected in [
        ({"0": {"weight": PartitionSpec("model")}}, {"0.weight"}),
        ({"1": {"0": {"weight": PartitionSpec("model")}}}, {"1.0.weight"}),
    ]:
        placed, *_ = OnMesh(mesh, specs).place(state, rows, Batching(8, None))
        for tree in (placed.params, placed.opt_state):
            found = {
                ".".join(str(key.key) for key in path if hasattr(key, "key"))
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
                if leaf.sharding.spec == PartitionSpec("model")
            }
            assert found == expected
