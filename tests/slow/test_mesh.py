"""Runs on 1, 2 and 4 devices, as `tests.test_mesh` has them on 8."""

import pytest

from tests import spread, test_mesh


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_other_numbers_of_devices(tmp_path, devices):
    found = {count: spread.find(count, tmp_path) for count in (0, devices)}
    for run in spread.BASIC:
        test_mesh.test_floats_agree_within_the_rounding_of_sums(found, run, devices)
    test_mesh.test_integers_are_the_same(found, devices)
    test_mesh.test_the_same_rows_are_right_but_for_those_on_the_edge(found, devices)
    test_mesh.test_a_step_communicates_once(found, devices)
    test_mesh.test_what_many_devices_saved_restores_on_one(found, tmp_path, devices)
