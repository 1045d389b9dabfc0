"""The runs of `tests.test_mesh` in two processes with a device each: as one process has them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxnet.launch import find_port

from tests import spread, test_mesh
from tests.test_mesh import REDUCTION, folder

__all__ = ["folder"]  # a fixture

PROCESSES = "2 processes"
RUNS = (*spread.BASIC, *spread.WIDER, "norms", "own_generator", "keys", "streamed")


@pytest.fixture(scope="module")
def found(folder) -> dict[Any, dict[str, np.ndarray]]:
    """What came of the runs, by the number of devices; 0 is without a mesh."""
    together, port = folder / PROCESSES, find_port()
    together.mkdir()

    def start(number: int) -> dict[str, np.ndarray]:
        path = folder / f"of {number}.npz"
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
        place = ("spread", 2, path, together, f"127.0.0.1:{port}", number)
        command = [sys.executable, "-W", "error", "-m", "tests.child", *map(str, place)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(path) as file:
            return dict(file)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))
    assert first["files.made"] and not second["files.made"], "the first alone writes"
    for name in first.keys() - {"files.made"}:
        np.testing.assert_array_equal(first[name], second[name])
    (together / "2").rename(folder / "saved by both")
    return {0: spread.find(0, Path(folder), RUNS), PROCESSES: first}


CHECKS = (
    test_mesh.test_integers_are_the_same,
    test_mesh.test_the_same_rows_are_right_but_for_those_on_the_edge,
    test_mesh.test_lanes_are_spread_and_stay_themselves,
    test_mesh.test_weights_lie_in_parts_where_specs_say_so,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_two_processes_are_as_one(found, check):
    check(found, PROCESSES)


@pytest.mark.parametrize("run", RUNS)
def test_floats_agree_within_the_rounding_of_sums(found, run):
    """Losses, weights and buffers, as on the devices of one process."""
    test_mesh.test_floats_agree_within_the_rounding_of_sums(found, run, PROCESSES)


def test_what_both_saved_restores_on_one(found, folder):
    """And goes on there as the run that was never moved."""
    both = {"saved by both": found[PROCESSES]}
    test_mesh.test_what_many_devices_saved_restores_on_one(both, folder, "saved by both")


def test_weights_that_several_processes_share_are_saved_and_gone_on_with(found):
    """Each has a part; the first alone writes all of it."""
    one, many = found[0], found[PROCESSES]
    np.testing.assert_allclose(many["shared.losses"], one["wide.losses"], rtol=REDUCTION)
    np.testing.assert_array_equal(many["shared.stream"], one["wide.stream"])


@pytest.mark.parametrize(
    "what, name", [("data", "data"), ("seed", "the state, or seed,"), ("epochs", "epochs")]
)
def test_processes_that_differ_are_refused(found, what, name):
    refusal = str(found[PROCESSES][f"differ.{what}"])
    assert refusal.startswith(f"{name} must be the same in every process, but process 1 has ")


def test_a_hook_in_one_process_alone_keeps_nobody_waiting(found):
    assert found[PROCESSES]["differ.steps"] == 3


def test_a_run_that_goes_wrong_says_where_with_weights_in_many_processes(found):
    assert "is not finite in epoch 1, step" in str(found[PROCESSES]["differ.not_finite"])


def test_what_processes_tell_each_other_is_exact(found):
    told = found[PROCESSES]
    assert told["differ.exact"].tolist() == [2**40, 0.1]
    assert told["differ.flags"].tolist() == [True, False]
    assert told["differ.gathered"].tolist() == [0, 1]
