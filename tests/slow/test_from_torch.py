"""Every one of the sixteen nets beside torch: both precisions, and batches of other sizes."""

import pytest

from tests.ported import assert_same_evaluation, assert_same_step
from tests.program_nets import CASES


@pytest.mark.parametrize("name", CASES)
def test_a_step_in_float32(name):
    assert_same_step(name)


@pytest.mark.parametrize("name", CASES)
def test_a_step_in_float64(name):
    assert_same_step(name, wide=True)


@pytest.mark.parametrize("batch", (1, 3, 7))
@pytest.mark.parametrize("name", CASES)
def test_one_export_serves_batches_of_other_sizes(name, batch):
    assert_same_step(name, batch=batch)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("vae", "drops")])
def test_in_evaluation_mode(name):
    assert_same_evaluation(name)
