"""Certificates of ports of one's own, right and wrong."""

from typing import Any

import flax.linen
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from torchref import certify

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, :1] > 0).float()
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

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        x = flax.linen.relu(flax.linen.LayerNorm(epsilon=1e-5)(flax.linen.Dense(6)(x))) + x
        if train:
            assert masks is not None
            x = jnp.where(masks["drop"], x / np.float32(0.7), 0)
        return flax.linen.Dense(1)(x)


def build(optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)):
    torch.manual_seed(0)
    net = Residual()
    return net, optimizer(net.parameters())


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


def certify_port(apply=None, optimizer=None, change=lambda variables: variables, **options):
    net, torch_optimizer = build()
    return certify(
        net,
        optimizer=torch_optimizer,
        port=(
            Port().apply if apply is None else apply,
            change(variables_of(net)),
            optax.sgd(0.1, momentum=0.9) if optimizer is None else optimizer,
        ),
        **(RUN | options),
    )


def test_a_port_of_ones_own_is_right():
    certificate = certify_port()
    assert certificate.agrees, certificate
    assert certificate.settings["port"] == "the caller's" and certificate.steps == 6
    assert "The port is given torch's rows and draws; a loop of your own" in str(certificate)
    assert not {"rows", "masks", "stream"} & set(certificate.stages)
    assert len(certificate.run_gaps) == 6


def test_a_port_may_be_a_function():
    def apply(variables, x, deterministic, masks=None):
        return Port().apply(variables, x, train=not deterministic, masks=masks)

    assert certify_port(apply).agrees


def transposed(variables):
    kernel = variables["params"]["Dense_0"]["kernel"]
    variables["params"]["Dense_0"]["kernel"] = kernel.T.copy()
    return variables


def other(variables):
    variables["params"]["Dense_1"]["bias"] = variables["params"]["Dense_1"]["bias"] + 1
    return variables


class Eager(Port):
    """Drops without scaling."""

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        x = flax.linen.relu(flax.linen.LayerNorm(epsilon=1e-5)(flax.linen.Dense(6)(x))) + x
        if train:
            assert masks is not None
            x = jnp.where(masks["drop"], x, 0)
        return flax.linen.Dense(1)(x)


@pytest.mark.parametrize(
    ("options", "stage", "tensor"),
    [
        ({"change": transposed}, "outputs", "a"),
        ({"change": other}, "initial weights", "b.bias"),
        ({"apply": Eager().apply}, "outputs", "drop"),
        ({"optimizer": optax.sgd(0.1, momentum=0.9, nesterov=True)}, "update", "a.weight"),
        ({"loss": (LOSS, lambda o, y: optax.sigmoid_binary_cross_entropy(o, y).sum())}, "loss",
         "loss"),
    ],
)  # fmt: skip
def test_a_port_of_ones_own_that_is_wrong(options, stage, tensor):
    found = certify_port(**options).divergence
    assert found is not None and (found.stage, found.tensor) == (stage, tensor)


def test_a_port_with_buffers_returns_its_collections():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4))
    net.append(torch.nn.Linear(4, 1))

    class Normed(flax.linen.Module):
        momentum: float = 0.9

        @flax.linen.compact
        def __call__(self, x, train=False):
            x = flax.linen.Dense(4)(x)
            x = flax.linen.BatchNorm(not train, momentum=self.momentum, epsilon=1e-5)(x)
            return flax.linen.Dense(1)(x)

    arrays = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
    variables = {
        "params": {
            "Dense_0": {"kernel": arrays["0.weight"].T, "bias": arrays["0.bias"]},
            "BatchNorm_0": {"scale": arrays["1.weight"], "bias": arrays["1.bias"]},
            "Dense_1": {"kernel": arrays["2.weight"].T, "bias": arrays["2.bias"]},
        },
        "batch_stats": {
            "BatchNorm_0": {"mean": arrays["1.running_mean"], "var": arrays["1.running_var"]}
        },
    }
    options: dict[str, Any] = RUN | {"optimizer": torch.optim.SGD(net.parameters(), lr=0.1)}
    # Flax keeps the biased variance where torch keeps the unbiased one: the certificate says so.
    found = certify(net, port=(Normed().apply, variables, optax.sgd(0.1)), **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("buffers", "1.running_var")
    port = (Normed(momentum=0.1).apply, variables, optax.sgd(0.1))
    found = certify(net, port=port, **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("buffers", "1.running_mean")


def test_an_optimizer_of_ones_own_that_is_right():
    net, _ = build()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    port = Port().apply, variables_of(net), optax.adam(0.1)
    certificate = certify(net, optimizer=optimizer, port=port, **RUN)
    assert certificate.agrees, certificate


def test_what_torch_freezes_the_port_must_leave_alone():
    net, _ = build()
    net.a.weight.requires_grad_(False)
    found = certify(
        net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        port=(Port().apply, variables_of(net), optax.sgd(0.1)),
        **RUN,
    ).divergence
    assert found is not None and (found.stage, found.tensor) == ("update", "a.weight")


def test_layers_that_bear_torchs_names_are_seen():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)

        def forward(self, x):
            return self.two(torch.relu(self.one(torch.relu(self.one(x)))))

    class TwicePort(flax.linen.Module):
        slope: float = 0.0

        @flax.linen.compact
        def __call__(self, x):
            one = flax.linen.Dense(6, name="one")
            x = flax.linen.leaky_relu(one(x), self.slope)
            return flax.linen.Dense(1, name="two")(flax.linen.relu(one(x)))

    torch.manual_seed(0)
    net = Twice()
    arrays = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    variables = {
        "params": {
            layer: {"kernel": arrays[f"{layer}.weight"].T, "bias": arrays[f"{layer}.bias"]}
            for layer in ("one", "two")
        }
    }
    options: dict[str, Any] = RUN | {"optimizer": torch.optim.SGD(net.parameters(), lr=0.1)}
    assert certify(net, port=(TwicePort().apply, variables, optax.sgd(0.1)), **options).agrees
    wrong = (TwicePort(slope=0.01).apply, variables, optax.sgd(0.1))
    found = certify(net, port=wrong, **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("outputs", "one#1")


def test_a_net_that_is_one_dropout_is_compared():
    """Its mask has no name, and is handed over by itself."""
    certificate = certify(torch.nn.Dropout(0.5), data=(X, Y), epochs=2, batch_size=8)
    assert certificate.agrees, certificate
    assert certificate.checked["masks"] >= 2 * X.numel()
