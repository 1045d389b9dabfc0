"""Errors about names that are none: the nearest one that there is."""

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import jaxnet
from jaxnet import callbacks, lecture, losses, nn, optim, precision, random
from jaxnet._utils.validation import nearest
from jaxnet.convert import from_state_dict, opt_state_from_torch
from jaxnet.train import Report
from tests.helpers import each_row

NAMES = ["full_batch", "dropout", "logits"]
X = np.arange(8, dtype=np.float32).reshape(4, 2)
Y = np.array([[0.0], [1.0], [1.0], [0.0]], np.float32)
NET = nn.Sequential([nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1)], ("first", "drop", "last"))
REPORTS = [Report(1, 0.5, {"accuracy": 0.5, "validation accuracy": 0.5})]


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


def _sweep(grid: dict[str, Any] | None = None) -> Any:
    return jaxnet.run_sweep(
        NET, (X, Y), loss=losses.binary_cross_entropy_with_logits, optimizer=optim.sgd, epochs=1,
        seeds=[0], grid=grid,
    )  # fmt: skip


def _draws() -> Any:
    _, variables = jaxnet.init(NET, random.manual_seed(0))
    keep = np.ones((4, 3), bool)
    return NET.apply(variables, X, train=True, draws={"dorp": keep})


def _load() -> Any:
    like = {"params": {"first": {"weight": np.ones(2, np.float32), "bias": np.ones(1, np.float32)}}}
    named = {"first.wieght": np.ones(2, np.float32), "first.bias": np.ones(1, np.float32)}
    return from_state_dict(named, like)


def _moments() -> Any:
    net = torch.nn.Sequential(torch.nn.Linear(2, 1))
    like = optim.adam().init({"0": {"wieght": np.ones((1, 2), np.float32)}})
    return opt_state_from_torch(torch.optim.Adam(net.parameters()), net, like)


def _reduce(reduction: Any) -> Any:
    return losses.mse_loss(X, X, reduction=reduction)


def _stop(metric: str) -> Any:
    return callbacks.EarlyStopping(metric, patience=1).is_over(REPORTS)


class Lookup(NamedTuple):
    """A call with a name that is none, and the one that is meant."""

    call: Callable[[], Any]
    name: str
    meant: str
    kind: type[Exception] = ValueError


generator = random.manual_seed(0)
LOOKUPS = {  # what the suite's checks of annotations refuse first is in tests/bad_calls
    "experiment": Lookup(lambda: lecture.find("logts"), "logts", "logits"),
    "precision": Lookup(lambda: precision.check_precision("flaot64"), "flaot64", "float64"),
    "reduction": Lookup(lambda: _reduce("Mean"), "Mean", "mean"),
    "approximate": Lookup(lambda: nn.GELU("tahn"), "tahn", "tanh"),
    "padding": Lookup(lambda: nn.Conv2d(1, 1, 3, padding="Same"), "Same", "same"),
    "padding_mode": Lookup(lambda: nn.Conv2d(1, 1, 3, padding_mode="zeroes"), "zeroes", "zeros"),
    "mode of fans": Lookup(lambda: random.kaiming_normal(generator, (2, 2), mode="fanin"), "fanin",
                           "fan_in"),
    "nonlinearity": Lookup(
        lambda: random.kaiming_uniform(generator, (2, 2), nonlinearity="leakyrelu"),
        "leakyrelu", "leaky_relu",
    ),
    "device": Lookup(lambda: random.manual_seed(0, "CUDA"), "CUDA", "cuda"),
    "metric of a callback": Lookup(lambda: _stop("acuracy"), "acuracy", "accuracy"),
    "metric of validation": Lookup(lambda: _stop("validation_accuracy"), "validation_accuracy",
                                   "validation accuracy"),
    "key of a grid": Lookup(lambda: _sweep({"momentun": [0.5]}), "momentun", "momentum"),
    "column": Lookup(lambda: _sweep().answer(0.5, "los"), "los", "loss"),
    "draws": Lookup(_draws, "dorp", "drop"),
    "tensor": Lookup(_load, "first.wieght", "first.weight"),
    "parameter": Lookup(_moments, "0.wieght", "0.weight"),
}  # fmt: skip


@each_row("where", LOOKUPS)
def test_a_name_that_is_none_is_met_by_the_nearest(where):
    lookup = LOOKUPS[where]
    with pytest.raises(lookup.kind) as caught:
        lookup.call()
    message = str(caught.value)
    assert lookup.name in message
    assert message.endswith(f"; did you mean {lookup.meant!r}?"), message


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


@pytest.mark.parametrize(
    ("name", "meant"), [("nn.Lienar", "Linear"), ("losses.cross_entrpy", "cross_entropy")]
)
def test_python_itself_suggests_a_modules_names(name, meant):
    """In tracebacks, so that modules need no `__getattr__` for it."""
    code = f"import jaxnet; jaxnet.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(rf"AttributeError: .*Did you mean: '{meant}'\?", done.stderr)
