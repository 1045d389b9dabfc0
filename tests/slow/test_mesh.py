"""Runs on 1, 2 and 4 devices, as `tests.test_mesh` has them on 8, and others on 4."""

import numpy as np
import pytest

from tests import sharded, test_mesh


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_other_numbers_of_devices(tmp_path, devices):
    many = sharded.find(devices, tmp_path)
    found = {0: sharded.find(0, tmp_path), devices: many}
    for run in sharded.BASIC:
        test_mesh.test_floats_agree_within_the_rounding_of_sums(found, run, devices)
    test_mesh.test_integers_are_the_same(found, devices)
    test_mesh.test_the_same_rows_are_right_but_for_those_on_the_edge(found, devices)
    test_mesh.test_a_step_communicates_once(found, devices)
    test_mesh.test_what_many_devices_saved_restores_on_one(found, tmp_path, tmp_path, devices)


@pytest.mark.parametrize("run", sharded.REST)
def test_other_runs(tmp_path, run):
    """With buffers, a loader's generator, JAX's keys, and rows that are read as they are needed."""
    one, many = (sharded.find(count, tmp_path, [run]) for count in (0, 4))
    found = {0: one, 4: many}
    test_mesh.test_floats_agree_within_the_rounding_of_sums(found, run, 4)
    np.testing.assert_array_equal(many[f"{run}.stream"], one[f"{run}.stream"])
