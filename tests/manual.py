"""Ports that are written as plain functions, with torch's names, beside their nets."""

from typing import Any

import jax.numpy as jnp
import optax
import torch
from torch import nn

from torchref import certify

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, :1] > 0).float()
MSE = (nn.MSELoss(), lambda outputs, y: jnp.mean((outputs - y) ** 2))


def where(certificate):
    """Stage and tensor of a divergence; nothing where there is none."""
    found = certificate.divergence
    return None if found is None else (found.stage, found.tensor)


def params_of(net):
    """A net's parameters, nested by torch's names."""
    tree: dict[str, Any] = {}
    for name, parameter in net.named_parameters():
        layer, _, last = name.rpartition(".")
        tree.setdefault(layer, {})[last] = parameter.detach().numpy().copy()
    return tree


def linear(variables, layer, x):
    params = variables["params"][layer]
    y = x @ params["weight"].T
    return y + params["bias"][None] if "bias" in params else y


def hold(net, apply, optimizer=None, own=None, params: Any = None, **options):
    """A port by hand beside a net, under SGD or what is given for both."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), 0.1) if optimizer is None else optimizer
    params = {"params": params_of(net)} if params is None else params
    port = apply, params, optax.sgd(0.1) if own is None else own
    return certify(net, optimizer=optimizer, port=port, **({"loss": MSE, "data": (X, Y)} | options))


def one(variables, x):
    return linear(variables, "0", x)


def make_one(outputs=1, **options):
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, outputs, **options))
    return net


def mlp(variables, x):
    return linear(variables, "2", jnp.tanh(linear(variables, "0", x)))


def make_mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
