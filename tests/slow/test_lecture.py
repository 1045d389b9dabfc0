"""Every experiment certified to its end, and every loss of the longest against float64."""

import pytest

from jaxnet.lecture.experiments import EXPERIMENTS
from tests.test_lecture import EXACT, certify, compare_errors


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_certified_to_the_end(name, record_property):
    certify(name, EXPERIMENTS[name].epochs, record_property)


@pytest.mark.parametrize("name", EXACT)
def test_error_of_every_loss_against_float64(name):
    compare_errors(name, None)
