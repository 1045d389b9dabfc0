"""The two experiments of 500 epochs whole: all that tests/test_lecture.py checks of the others."""

import pytest

from tests import test_lecture as each


@pytest.mark.parametrize("name", each.LONG)
def test_the_whole_experiment(name, record_property):
    each.test_certified(name, record_property)
    each.test_loss_of_every_step(name)
    each.test_records_are_torchs(name)
    each.test_error_of_every_loss_against_float64(name)
    each.test_rows_right_at_every_report(name, record_property)
    each.test_the_stream_afterwards(name)
    each.test_published_and_measured_figures(name)
