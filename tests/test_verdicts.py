"""The three verdicts: ports that are wrong in ways that are hard to see, and right ones that look
wrong."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import jaxnet
from jaxnet.certificate.comparison import Comparator
from tests.manual import X, Y, hold, linear, make_one, one, params_of, where
from torchref import certify


@pytest.mark.parametrize("right", [False, True])
def test_a_loss_that_is_never_finite(right, factor=None):
    """Nothing is known of gradients and updates; a wrong output is seen all the same."""
    factor = factor or (float("nan") if right else 1e20)
    found = hold(make_one(), one if right else lambda v, x: 0 * x[:, :1] + 7, data=(X, Y * factor))
    assert found.verdict == ("UNDECIDED" if right else "DIVERGE") and not found.agrees
    assert str(found).startswith("UNDECIDED: loss of loss and" if right else "DIVERGE")


def test_a_leaf_that_torch_has_not_may_not_train():
    def apply(params, x):
        return x @ params["weight"].T + params["bias"][None]

    net = make_one(bias=False)
    params = {"weight": net[0].weight.detach().numpy().copy(), "bias": np.zeros(1, "f4")}
    assert where(hold(net, apply, params=params)) == ("gradients", "bias")


# Of a row's factors the smallest fault; `tests/slow/test_verdicts.py` has the others.


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_convolution_below_a_pool(factor):
    """On digits, whose neighbours are often equal: the pool has ties, and its gradient a bound."""
    train, _ = jaxnet.data.load_mnist()
    x, y = train.images[::180][:64].reshape(-1, 1, 28, 28), train.labels[::180][:64]
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(676, 3),
    )  # fmt: skip
    jnet, variables = jaxnet.convert.from_torch(net)

    @jax.custom_vjp
    def bend(weight):
        return weight

    bend.defvjp(lambda weight: (weight, None), lambda _, grad: (factor * grad,))

    def apply(variables, x):
        params = dict(variables["params"])
        params["0"] = params["0"] | {"weight": bend(params["0"]["weight"])}
        return jnet.apply({"params": params}, x)

    run: Any = dict(loss=nn.CrossEntropyLoss(), data=(x, y.astype(np.int64)), batch_size=32)
    found = hold(net, apply, params=variables, **run)
    assert where(found) == (None if factor == 1.0 else ("gradients", "0.weight")), found


UPDATES = [
    (torch.optim.Adam, {"lr": 1e-2}, optax.adam(1e-2), True),
    (torch.optim.Adam, {"lr": 1e-2}, optax.adam(1.00001e-2), False),
    (torch.optim.AdamW, {"weight_decay": 1e-3}, optax.adamw(1e-3, weight_decay=1e-3), True),
    (torch.optim.AdamW, {"weight_decay": 1e-3}, optax.adam(1e-3), False),
]
"""A rate off by 1e-5; a decay forgotten, where rate times decay is 1e-6."""


@pytest.mark.parametrize(("make", "options", "own", "right"), UPDATES)
def test_an_update_is_held_against_its_formula(make, options, own, right):
    net = make_one()
    found = hold(net, one, make(net.parameters(), **options), own, batch_size=8, epochs=4)
    if right:
        assert found.agrees, found
        assert ("adamw-decay-rounding" in found.granted) is (make is torch.optim.AdamW)
        assert set(found.granted) <= {"adam-bias-correction", "adamw-decay-rounding"}
    else:
        assert (where(found) or "")[0] == "update", found


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_a_small_output_beside_a_large_one(factor):
    """Each element has a size of its own: one scale for both would hide the small one."""
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    with torch.no_grad():
        net[2].weight[0] *= 1e7
    y = torch.cat([1e7 * Y, X[:, :1]], 1)

    def apply(variables, x):
        return linear(variables, "2", jnp.tanh(linear(variables, "0", x))) * jnp.array(
            [[1, factor]]
        )

    found = hold(net, apply, data=(X, y))
    assert found.verdict == ("AGREE" if factor == 1 else "DIVERGE"), found
    assert where(found) in (None, ("outputs", "2"))


def test_features_without_gradient_beside_a_large_one():
    net, x = make_one(), X * torch.tensor([1e7, 1, 1, 1, 1, 1])
    with torch.no_grad():
        net[0].weight[:, 0] *= 1e-7

    def apply(variables, x):
        weight = variables["params"]["0"]["weight"]
        still = jnp.concatenate([weight[:, :1], jax.lax.stop_gradient(weight[:, 1:])], 1)
        return x @ still.T + variables["params"]["0"]["bias"][None]

    adam = torch.optim.Adam(net.parameters(), 1e-3)
    found = hold(net, apply, adam, optax.adam(1e-3), data=(x, Y))
    assert where(found) == ("gradients", "0.weight")


@pytest.mark.parametrize("beta", [0.9, 0.9001])
def test_the_update_of_a_small_weight_beside_a_large_one(beta):
    net, x = make_one(3), X * torch.tensor([1e-6, 1, 1, 1, 1, 1])
    with torch.no_grad():
        net[0].weight[0, 0] = 3e5
    adam, own = torch.optim.Adam(net.parameters(), 1e-3), optax.adam(1e-3, b1=beta)
    found = hold(net, one, adam, own, data=(x, X[:, :3]), batch_size=5, epochs=3)
    assert found.verdict == ("AGREE" if beta == 0.9 else "DIVERGE"), found
    assert where(found) in (None, ("update", "0.weight"), ("update", "0.bias"))


@pytest.mark.parametrize("wrong_from", [400, 399])
def test_every_row_is_evaluated(wrong_from):
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))

    def apply(variables, x, train):
        y = one(variables, x)
        return y if train else jnp.where(jnp.arange(len(x))[:, None] < wrong_from, y, 0)

    found = hold(make_one(3), apply, data=(x, x[:, :3]), batch_size=100)
    assert found.verdict == ("AGREE" if wrong_from == 400 else "DIVERGE"), found
    assert where(found) in (None, ("evaluation", "outputs"))


@pytest.mark.parametrize("kept", [True, False])
def test_running_statistics_of_a_run_of_ones_own(kept):
    """In training nothing is computed from them: only they themselves show it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    jnet, variables = jaxnet.convert.from_torch(net)

    def apply(variables, x, train):
        if not train:
            return jnet.apply(variables, x)
        y, changed = jnet.apply(variables, x, train=True, mutable=["batch_stats"])
        return y, changed if kept else {"batch_stats": variables["batch_stats"]}

    found = hold(net, apply, params=variables, batch_size=10)
    assert found.verdict == ("AGREE" if kept else "DIVERGE"), found
    assert where(found) in (None, ("buffers", "1.running_mean"))


@pytest.mark.parametrize("rows", [13_000])
def test_long_sums_accuse_nobody(rows):
    """An uncentred mean squared error: partial sums grow, and rounding with them."""
    x = 3 + torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    y = 50 + x.sum(1, keepdim=True)
    found = certify(net, loss=nn.MSELoss(), optimizer=optimizer, data=(x, y), epochs=2)
    assert found.agrees, found


def test_numbers_below_the_normal_ones_accuse_nobody():
    """XLA takes them for 0. Whatever hangs on them alone is not compared, and named."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    found = certify(net, loss=nn.MSELoss(), optimizer=optimizer, data=(1e-42 * X, Y), epochs=2)
    assert found.verdict == "UNDECIDED", found
    assert any(what.startswith("gradients of 0.weight: ") for what in found.missing)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])
def test_nan_accuses_nobody(activation):
    """At nan torch's activations let a gradient through that JAX's do not."""
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 1))
    with torch.no_grad():
        net[0].weight[:4] *= 1e38
        net[0].weight[4:] *= -1e38
    optimizer = torch.optim.SGD(net.parameters(), 1e-2)
    x = 100 * X.abs() * torch.tensor([1, -1, 1, -1, 1, -1])
    found = certify(net, loss=nn.MSELoss(), optimizer=optimizer, data=(x, Y), batch_size=5)
    assert found.verdict == "UNDECIDED", found
    assert found.overflowed == 1


@pytest.mark.parametrize("eps", [2.0**-23, 2.0**-22])
def test_an_eps_that_follows_the_dtype(eps):
    """RMSNorm's default is float32's: in float64 it would be another net."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8), nn.Linear(8, 1))

    def apply(variables, x):
        y = linear(variables, "0", x)
        y = y / jnp.sqrt(jnp.mean(y**2, -1, keepdims=True) + eps)
        return linear(variables, "2", y * variables["params"]["1"]["weight"][None])

    found = hold(net, apply, data=(1e-3 * X, Y), batch_size=5, epochs=2)
    assert found.verdict == ("AGREE" if eps == 2.0**-23 else "DIVERGE"), found


def test_a_hook_that_holds_the_net_sees_the_net_that_is_trained():
    """No copy of it: a closure would go on with the original's weights."""
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 1))
    net[0].register_forward_hook(lambda layer, args, output: output * net[1].weight)
    net.calls = []
    net.register_forward_pre_hook(lambda *_: net.calls.append(len(net.calls)))
    first = params_of(net)

    def apply(variables, x):
        y = linear(variables, "0", x) * variables["params"]["1"]["weight"]
        return linear(variables, "1", y)

    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    found = hold(net, apply, optimizer, optax.sgd(0.1, momentum=0.9), epochs=4)
    assert found.agrees, found
    jax.tree.map(np.testing.assert_array_equal, params_of(net), first)
    assert net.calls == [] and not optimizer.state and net[0].weight.grad is None


@pytest.mark.parametrize("stage", ["outputs", "buffers", "loss", "gradients"])
def test_rounding_is_drawn_before_a_step_is_called_a_fault(stage, monkeypatch):
    """Of a batch of one row, say, all of torch's own errors may be small, and the port's not."""
    hold, doubted = Comparator.hold, []

    def doubt(comparator, at, tensor, jax, torch, view, **options):
        held = hold(comparator, at, tensor, jax, torch, view, **options)
        if at != stage or view.spread is not None:
            return held
        doubted.append(view)
        return held._replace(error=held.bound + 1, compared=np.ones_like(held.compared))

    monkeypatch.setattr(Comparator, "hold", doubt)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
    found = certify(net, loss=nn.MSELoss(), data=(X, Y), batch_size=5, epochs=2, seed=1)
    assert found.agrees, found
    assert len(doubted) >= 5  # each step that was not drawn at once
