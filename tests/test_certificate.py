"""Certificates of ports of one's own, right and wrong."""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tests.manual import X, Y, hold, linear, make_mlp, mlp, where
from torchref import certify

LOSS = torch.nn.BCEWithLogitsLoss()


class Residual(torch.nn.Module):
    """A net that is no Sequential."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = torch.nn.Linear(6, 6), torch.nn.LayerNorm(6)
        self.drop, self.b = torch.nn.Dropout(0.3), torch.nn.Linear(6, 1)

    def forward(self, x):
        return self.b(self.drop(torch.relu(self.norm(self.a(x))) + x))


class Port(flax.linen.Module):
    """The same, as a Flax user writes it."""

    scale: float = 0.7

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        x = flax.linen.relu(flax.linen.LayerNorm(epsilon=1e-5)(flax.linen.Dense(6)(x))) + x
        if train:
            assert masks is not None
            x = jnp.where(masks["drop"], x / np.float32(self.scale), 0)
        return flax.linen.Dense(1)(x)


def variables_of(net):
    arrays = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    return {
        "params": {
            "Dense_0": {"kernel": arrays["a.weight"].T, "bias": arrays["a.bias"]},
            "LayerNorm_0": {"scale": arrays["norm.weight"], "bias": arrays["norm.bias"]},
            "Dense_1": {"kernel": arrays["b.weight"].T, "bias": arrays["b.bias"]},
        }
    }


RUN: dict[str, Any] = {
    "loss": LOSS,
    "data": (X, Y),
    "epochs": 2,
    "batch_size": 8,
    "shuffle": True,
    "seed": 3,
}


def certify_port(scale=0.7, change=lambda variables: variables, nesterov=False, **options):
    torch.manual_seed(0)
    net = Residual()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    own = optax.sgd(0.1, momentum=0.9, nesterov=nesterov)
    given = Port(scale).apply, change(variables_of(net)), own
    return certify(net, optimizer=optimizer, port=given, **(RUN | options))


def test_a_port_of_ones_own_is_right():
    certificate = certify_port()
    assert certificate.agrees, certificate
    assert certificate.settings["port"] == "the caller's" and certificate.steps == 6
    assert "The port is given torch's rows and draws; a loop of your own" in str(certificate)
    assert not {"rows", "masks", "stream"} & set(certificate.stages)
    assert len(certificate.run_gaps) == 6


def transposed(variables):
    kernel = variables["params"]["Dense_0"]["kernel"]
    variables["params"]["Dense_0"]["kernel"] = kernel.T.copy()
    return variables


def other(variables):
    variables["params"]["Dense_1"]["bias"] = variables["params"]["Dense_1"]["bias"] + 1
    return variables


@pytest.mark.parametrize(
    ("options", "stage", "tensor"),
    [
        ({"change": transposed}, "outputs", "a"),
        ({"change": other}, "initial weights", "b.bias"),
        ({"scale": 1.0}, "outputs", "drop"),  # drops without scaling
        ({"nesterov": True}, "update", "a.weight"),
        ({"loss": (LOSS, lambda o, y: optax.sigmoid_binary_cross_entropy(o, y).sum())}, "loss",
         "loss"),
    ],
)  # fmt: skip
def test_a_port_of_ones_own_that_is_wrong(options, stage, tensor):
    found = certify_port(**options).divergence
    assert found is not None and (found.stage, found.tensor) == (stage, tensor)


def test_what_torch_freezes_the_port_must_leave_alone():
    net = make_mlp()
    net[0].weight.requires_grad_(False)
    assert where(hold(net, mlp)) == ("update", "0.weight")


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)

    def forward(self, x):
        return self.two(torch.relu(self.one(torch.relu(self.one(x)))))


@pytest.mark.parametrize(("slope", "place"), [(0.0, None), (0.01, ("outputs", "one#1"))])
def test_a_layer_that_runs_twice_is_seen_twice(slope, place):
    def apply(variables, x):
        x = jax.nn.leaky_relu(linear(variables, "one", x), slope)
        return linear(variables, "two", jax.nn.relu(linear(variables, "one", x)))

    torch.manual_seed(0)
    assert where(hold(Twice(), apply)) == place


def test_a_net_that_is_one_dropout_is_compared():
    """Its mask has no name, and is handed over by itself."""
    certificate = certify(torch.nn.Dropout(0.5), data=(X, Y), epochs=2, batch_size=8)
    assert certificate.agrees, certificate
    assert certificate.checked["masks"] >= 2 * X.numel()
