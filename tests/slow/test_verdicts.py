"""The rows that `tests/test_verdicts.py` leaves out: larger faults, and longer sums."""

import pytest

from tests import test_verdicts


@pytest.mark.parametrize("right, factor", [(False, float("nan")), (True, 1e20)])
def test_a_loss_that_is_never_finite(right, factor):
    test_verdicts.test_a_loss_that_is_never_finite(right, factor)


@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_large_faults(factor):
    test_verdicts.test_a_convolution_below_a_pool(factor)
    test_verdicts.test_a_small_output_beside_a_large_one(factor)


def test_every_row_is_evaluated():
    test_verdicts.test_every_row_is_evaluated(256)


def test_long_sums_accuse_nobody():
    test_verdicts.test_long_sums_accuse_nobody(100_000)
