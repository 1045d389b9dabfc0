"""What `from_torch` rejects, each by its module and line, before a net is ported wrongly."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jaxnet import convert
from jaxnet.program import RULES, TorchNet, rule
from tests.helpers import assert_close, each_row, to_numpy

X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer, and what a function makes of the net, its input and the layer's output."""

    def __init__(self, function):
        super().__init__()
        self.function, self.lin, self.count = function, nn.Linear(4, 4), 0

    def forward(self, x):
        return self.function(self, x, self.lin(x))


class Straight(torch.autograd.Function):
    """A gradient of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, *grads):
        return grads[0] * 3


def own_gradient(net, x, y):
    return Straight.apply(y) * y


def hook(net, x, y):
    y = y * 2
    if y.requires_grad:
        y.register_hook(lambda g: g * 5)
    return y


def counter(net, x, y):
    net.count += 1
    return y * net.count


def unused_draw(net, x, y):
    torch.randn(3)
    return F.dropout(y, 0.5, net.training)


@each_row(
    "function, says",
    [
        (own_gradient, "step 1: the gradients of .* differ"),
        (hook, "step 1: the gradients of .* differ"),
        (lambda net, x, y: y if random.random() < 0.5 else x, "draws from Python's random"),
        (lambda net, x, y: y * float(np.random.uniform()), "draws from NumPy's random"),
        (counter, "step 2: output 0 differs"),
        (unused_draw, "draws 2 times in torch and its graph 1 times"),
    ],
)
def test_what_export_loses_is_found(function, says):
    with pytest.raises(convert.Unsupported, match=f"(?s){says}"):
        convert.from_torch(Net(function), X)


def branch(net, x, y):
    if x.sum() > 0:
        return x * 2
    return x


def in_place(net, x, y):
    x.add_(1)
    return x * 2


@each_row(
    "function, says",
    [
        (
            branch,
            "in module 'inner' .Net., what the net does depends on values that it .* at "
            r".*test_from_torch_rejects.py:\d+: if x.sum.. > 0",
        ),
        (
            lambda net, x, y: x[x > 0] * 2,
            r"aten.index.Tensor in module 'inner' .* gives a size that depends on values",
        ),
        (
            lambda net, x, y: F.rrelu(x, training=True),
            "aten.rrelu.default in module 'inner' .Net., .*words that depends on data",
        ),
        (
            lambda net, x, y: random.Random(0),
            "Found <class 'random.Random'> in output: a net may take and give tensors in",
        ),
        (in_place, "changes its input 'input' in place"),
        (
            lambda net, x, y: torch.special.bessel_j0(torch.special.airy_ai(x)),
            r"(?s)aten.special_airy_ai.default in module 'inner' \(Net\), "
            r"tests/test_from_torch_rejects.py:\d+: return self.function.*"
            r"aten.special_bessel_j0.default.*"
            r"@jaxnet.program.rule\(",
        ),
    ],
)
def test_what_has_no_translation_is_rejected_by_line(function, says):
    net = nn.Sequential()
    net.add_module("inner", Net(function))
    with pytest.raises(convert.Unsupported, match=says):
        convert.from_torch(net, X)


@torch.library.custom_op("jaxnet_tests::thrice", mutates_args=())
def thrice(x: torch.Tensor) -> torch.Tensor:
    """An operation of one's own."""
    return x * 3


@thrice.register_fake
def _(x):
    return torch.empty_like(x)


def test_a_rule_of_ones_own():
    """Without the check the result says so."""
    name, net = "jaxnet_tests.thrice.default", Net(lambda net, x, y: thrice(x))
    with pytest.raises(convert.Unsupported, match=f'(?s){name} in the net .*rule."{name}"'):
        convert.from_torch(net, X)
    try:
        rule(name)(lambda x: 3 * x)
        jnet, variables = convert.from_torch(net, X, check=False)
        assert isinstance(jnet, TorchNet) and not jnet.port.checked
        assert_close(jnet.apply(variables, to_numpy(X)), 3 * X)
    finally:
        RULES.pop(name)
