"""Nets of any kind certified, and any callable of torch's as a loss."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchref
from jaxnet import convert
from jaxnet.certificate.bounds import ELEMENTWISE
from jaxnet.program import RULES
from tests.helpers import assert_close, each_row


class Two(nn.Module):
    """Two inputs by keyword, two outputs, noise, statistics, dropout, a shared layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3)
        self.second, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, z):
        h = self.drop(F.relu(self.norm(self.first(self.first(x))))) * torch.tanh(self.second(z))
        if self.training:
            h = h + 0.1 * torch.randn_like(h)
        return {"y": self.head(h), "h": h}


def lose(outputs, y):
    """Of both outputs."""
    return F.huber_loss(outputs["y"], y) + 0.1 * outputs["h"].square().mean()


def build():
    net = Two()
    data = {"x": torch.randn(10, 4), "z": torch.randn(10, 3)}, torch.randn(10, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return {"net": net, "loss": lose, "optimizer": optimizer, "data": data}


def test_a_net_of_several_inputs_is_certified():
    """From a script, with its initial weights and a short last batch."""
    certificate = torchref.certify_script(build, batch_size=4, shuffle=True, seed=3)
    assert certificate.agrees, str(certificate)
    assert certificate.steps == 3 and certificate.checked["masks"] > 0
    assert certificate.checked["initial weights"] > 0


def test_a_fault_of_the_port_is_seen():
    """The port is compared, not believed: a rule that is off by a little diverges."""
    torch.manual_seed(0)
    given = build()
    right = RULES["aten.tanh.default"]
    try:
        RULES["aten.tanh.default"] = right._replace(function=lambda x: 1.001 * right.function(x))
        certificate = torchref.certify(**given, batch_size=5)
    finally:
        RULES["aten.tanh.default"] = right
    assert certificate.verdict == "DIVERGE" and certificate.divergence is not None
    assert certificate.divergence.stage == "outputs"


RNG = np.random.default_rng(0)
ROWS, LABELS = RNG.normal(size=(5, 3)).astype(np.float32), RNG.integers(0, 3, 5)
LOSSES = [
    (F.huber_loss, ROWS + 1),
    (lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1) + out.square().mean(), LABELS),
    (lambda out, y: F.kl_div(out.log_softmax(1), y.softmax(1), reduction="batchmean"), ROWS * 2),
    (nn.SmoothL1Loss(beta=0.5), ROWS - 1),
]


class Outputs(NamedTuple):
    """What a net may give."""

    mean: Any
    spread: Any


def test_outputs_are_read_as_torch_has_them():
    """Fields of what is a dataclass there, and a dictionary here; of a named tuple too."""
    loss = convert.loss_from_torch(lambda out, y: F.mse_loss(out.logits, y) + out.aux.sum())
    assert loss({"logits": ROWS, "aux": ROWS * 0}, ROWS) == 0
    loss = convert.loss_from_torch(lambda out, y: F.mse_loss(out.mean, y) + out.spread.sum())
    assert loss(Outputs(ROWS, ROWS * 0), ROWS) == 0
    first = convert.loss_from_torch(lambda out, y: out[0].mean())
    with pytest.raises(convert.Unsupported, match=r"name one of the outputs \['aux', 'logits'\]"):
        first({"logits": ROWS, "aux": ROWS * 0}, ROWS)


@each_row("loss, y", LOSSES)
def test_any_callable_is_a_loss(loss, y):
    x = torch.tensor(ROWS, requires_grad=True)
    expected = loss(x, torch.tensor(y))
    expected.backward()
    value, grad = jax.jit(jax.value_and_grad(convert.loss_from_torch(loss)))(ROWS, y)
    assert_close(value, expected, ELEMENTWISE)
    assert_close(grad, x.grad, ELEMENTWISE)


def test_a_loss_that_has_no_translation_says_so_when_it_is_traced():
    loss = convert.loss_from_torch(lambda out, y: F.dropout(out - y, 0.5).mean())
    with pytest.raises(convert.Unsupported, match="loss draws random numbers"):
        loss(ROWS, ROWS)
