"""What `from_torch` rejects, each by its module and line, before a net is ported wrongly."""

import random

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import jaxnet
from jaxnet import convert
from jaxnet.program import RULES, TorchNet, rule
from tests.helpers import assert_close, each_row, to_numpy

X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


class Straight(torch.autograd.Function):
    """A gradient of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, *grads):
        return grads[0] * 3


class Lost(nn.Module):
    """What export turns into something else: `kind` says which."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.lin, self.count = kind, nn.Linear(4, 4), 0

    def forward(self, x):
        y = self.lin(x)
        if self.kind == "function":
            return Straight.apply(y) * y
        if self.kind == "hook":
            y = y * 2
            if y.requires_grad:
                y.register_hook(lambda g: g * 5)
        elif self.kind == "random":
            return y if random.random() < 0.5 else x
        elif self.kind == "numpy":
            return y * float(np.random.uniform())
        elif self.kind == "counter":
            self.count += 1
            return y * self.count
        elif self.kind == "unused draw":
            torch.randn(3)
            return F.dropout(y, 0.5, self.training)
        return y


@each_row(
    "kind, says",
    [
        ("function", "step 1: the gradients of .* differ"),
        ("hook", "step 1: the gradients of .* differ"),
        ("random", "draws from Python's random"),
        ("numpy", "draws from NumPy's random"),
        ("counter", "step 2: output 0 differs"),
        ("unused draw", "draws 2 times in torch and its graph 1 times"),
    ],
)
def test_what_export_loses_is_found(kind, says):
    with pytest.raises(convert.Unsupported, match=f"(?s){says}"):
        convert.from_torch(Lost(kind), X)


def test_without_the_check_the_result_says_so():
    jnet, _ = convert.from_torch(Lost("function"), X, check=False)
    assert isinstance(jnet, TorchNet) and not jnet.port.checked


class NoGrad(nn.Module):
    """A part of it has no gradient."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            t = F.dropout(self.lin(x), 0.5)
        return self.lin(x) * t


def test_no_grad_is_kept():
    torch.manual_seed(0)
    net = NoGrad()
    jnet, variables = convert.from_torch(net, X)
    _, draws = jaxnet.nn.draw(jnet, jaxnet.random.manual_seed(1), to_numpy(X))
    torch.manual_seed(1)
    net.train()(X).sum().backward()
    grads = jax.grad(lambda v: jnet.apply(v, to_numpy(X), train=True, draws=draws).sum())(variables)
    assert_close(grads["params"]["lin"]["weight"], net.lin.weight.grad)


class Odd(nn.Module):
    """Rejected, by name and line."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind == "branch":
            if x.sum() > 0:
                return x * 2
            return x
        if self.kind == "size":
            return x[x > 0] * 2
        if self.kind == "object":
            return random.Random(0)
        if self.kind == "rrelu":
            return F.rrelu(x, training=True)
        if self.kind == "in place":
            x.add_(1)
            return x * 2
        return torch.special.bessel_j0(torch.special.airy_ai(x))


@each_row(
    "kind, says",
    [
        (
            "branch",
            "in module 'inner' .Odd., what the net does depends on values that it .* at "
            r".*test_from_torch_rejects.py:\d+: if x.sum.. > 0",
        ),
        ("size", r"aten.index.Tensor in module 'inner' .* gives a size that depends on values"),
        ("rrelu", "aten.rrelu.default in module 'inner' .Odd., .*words that depends on data"),
        ("object", "Found <class 'random.Random'> in output: a net may take and give tensors in"),
        ("in place", "changes its input 'input' in place"),
        (
            "two",
            r"(?s)aten.special_airy_ai.default in module 'inner' \(Odd\), "
            r"tests/test_from_torch_rejects.py:\d+: return torch.special.*"
            r"aten.special_bessel_j0.default.*"
            r"@jaxnet.program.rule\(",
        ),
    ],
)
def test_what_has_no_translation_is_rejected_by_line(kind, says):
    net = nn.Sequential()
    net.add_module("inner", Odd(kind))
    with pytest.raises(convert.Unsupported, match=says):
        convert.from_torch(net, X)


@torch.library.custom_op("jaxnet_tests::thrice", mutates_args=())
def thrice(x: torch.Tensor) -> torch.Tensor:
    """An operation of one's own."""
    return x * 3


@thrice.register_fake
def _(x):
    return torch.empty_like(x)


class Thrice(nn.Module):
    """Uses it."""

    def forward(self, x):
        return thrice(x)


def test_a_rule_of_ones_own():
    name = "jaxnet_tests.thrice.default"
    with pytest.raises(convert.Unsupported, match=f'(?s){name} in the net .*rule."{name}"'):
        convert.from_torch(Thrice(), X)
    try:
        rule(name)(lambda x: 3 * x)
        jnet, variables = convert.from_torch(Thrice(), X)
        assert_close(jnet.apply(variables, to_numpy(X)), 3 * X)
    finally:
        RULES.pop(name)
