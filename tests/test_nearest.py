"""Errors about names that are none: the nearest one that there is."""

import numpy as np
import pytest

from jaxnet._utils.validation import nearest
from jaxnet.convert import from_state_dict
from tests.helpers import each_row

NAMES = ["full_batch", "dropout", "logits"]
MEANT = {
    "logits": ("logts", "LOGITS"),
    "dropout": ("dropuot",),
    "full_batch": ("full-batch", "fullbatch"),
    None: ("three_class", "", None, 3, ["logits"]),
}


@each_row("name, meant", [(name, meant) for meant, names in MEANT.items() for name in names])
def test_the_nearest_name_is_suggested_where_one_is_near(name, meant):
    assert nearest(name, NAMES) == (f"; did you mean {meant!r}?" if meant else "")


def test_numbers_are_near_to_nothing_and_choices_may_be_anything():
    assert nearest("10", ["0", "1"]) == "" == nearest("logts", [])
    assert nearest("Kernel", (3, None, "kernel")) == "; did you mean 'kernel'?"
    assert nearest("relu", {"ReLU": 1}) == "; did you mean 'ReLU'?"


def test_only_tensors_that_are_missing_are_suggested():
    """A name that the net has, and that is there, is not what another name meant."""
    weight = np.ones(1, np.float32)
    like = {"params": {"0": {"weight": weight}, "2": {"weight": weight}}}
    found = {"0.weight": weight, "0.weights": weight, "moved.2.weight": weight}
    with pytest.raises(ValueError) as caught:
        from_state_dict(found, like)
    assert str(caught.value).splitlines()[1:] == [
        "2.weight: missing",
        "0.weights: not expected; did you mean '2.weight'?",
        "moved.2.weight: not expected; did you mean '2.weight'?",
    ]
    with pytest.raises(ValueError, match=r"0.weights: not expected$"):
        from_state_dict(
            {"0.weight": weight, "0.weights": weight}, {"params": {"0": like["params"]["0"]}}
        )


def test_of_many_names_none_is_compared():
    """A state_dict of another net altogether: every pair would take a minute."""
    weight = np.ones(1, np.float32)
    like = {"params": {f"layer{i}": {"weight": weight} for i in range(101)}}
    with pytest.raises(ValueError, match="block7.weight: not expected\n"):
        from_state_dict({f"block{i}.weight": weight for i in range(101)}, like)
