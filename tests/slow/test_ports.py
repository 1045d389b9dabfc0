"""The rows that `tests/test_ports.py` leaves out."""

import pytest
import torch

from tests import test_ports


@pytest.mark.parametrize("kind", test_ports.KINDS[1:])
def test_a_choice_that_is_not_within_rounding(kind):
    test_ports.test_a_choice_within_rounding_may_fall_otherwise(kind, 5)


@pytest.mark.parametrize(
    "make, option", [(torch.optim.Adam, "fused"), (torch.optim.SGD, "foreach")]
)
def test_optimizers_over_all_tensors_at_once(make, option):
    test_ports.test_optimizers_over_all_tensors_at_once(make, option)
