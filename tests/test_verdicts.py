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


def hold(net, apply, optimizer=None, own=None, **options):
    """A port by hand beside a net, under SGD or what is given for both."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), 0.1) if optimizer is None else optimizer
    port = apply, {"params": params_of(net)}, optax.sgd(0.1) if own is None else own
    return certify(net, optimizer=optimizer, port=port, **({"loss": MSE, "data": (X, Y)} | options))


WRONG: dict[str, Any] = {
    "of a port that computes something else": lambda v, x: 0 * x[:, :1] + 7,
    "of one that is right": lambda v, x: (
        x @ v["params"]["0"]["weight"].T + v["params"]["0"]["bias"][None]
    ),
}


@pytest.mark.parametrize("factor, name", list(zip([1e20, float("nan")], WRONG, strict=True)))
def test_a_loss_that_is_never_finite(factor, name):
    """Nothing is known of gradients and updates; a wrong output is seen all the same."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 1))
    params = {key: p.detach().numpy().copy() for key, p in net[0].named_parameters()}
    port = (WRONG[name], {"params": {"0": params}}, optax.sgd(0.1))
    optimizer, mean = torch.optim.SGD(net.parameters(), lr=0.1), torch.nn.MSELoss()
    found = certify(
        net,
        loss=(mean, lambda o, y: jnp.mean((o - y) ** 2)),
        optimizer=optimizer,
        data=(X, Y * factor),
        port=port,
    )
    right = name == "of one that is right"
    assert found.verdict == ("UNDECIDED" if right else "DIVERGE") and not found.agrees
    assert str(found).startswith("UNDECIDED: loss of loss and" if right else "DIVERGE")


def test_a_leaf_that_torch_has_not_may_not_train():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 1, bias=False))
    weight = net.get_parameter("0.weight").detach().numpy().copy()
    params = {"0": {"weight": weight, "bias": np.zeros(1, "f4")}}

    def apply(variables, x):
        layer = variables["params"]["0"]
        return x @ layer["weight"].T + layer["bias"][None]

    found = certify(
        net,
        loss=(torch.nn.MSELoss(), lambda o, y: jnp.mean((o - y) ** 2)),
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        data=(X, Y),
        port=(apply, {"params": params}, optax.sgd(0.1)),
    ).divergence
    assert found is not None and (found.stage, found.tensor) == ("gradients", "0.bias")


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

    found = certify(
        net,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(net.parameters(), 0.05),
        data=(x, y.astype(np.int64)),
        batch_size=32,
        port=(apply, variables, optax.sgd(0.05)),
    )
    if factor == 1.0:
        assert found.agrees, found
    else:
        assert found.divergence is not None, found
        assert (found.divergence.stage, found.divergence.tensor) == ("gradients", "0.weight")


def test_other_sides_of_a_kink_are_taken_for_what_they_are():
    """A port whose ReLU stands on the other side of 0 in one unit of one row, and one beyond it."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    first: Any = net[0]
    with torch.no_grad():  # the first row lies within rounding of unit 3's edge
        first.bias[3] -= first(X[:1])[0, 3] - 1e-8
    params = {
        key: {name: p.detach().numpy().copy() for name, p in net[int(key)].named_parameters()}
        for key in ("0", "2")
    }

    def port_of(units):
        def apply(variables, x, train):
            first, last = variables["params"]["0"], variables["params"]["2"]
            hidden = x @ first["weight"].T + first["bias"][None]
            on = hidden > 0
            for unit in units if train else ():  # turned in the row whose number is nearest to 0
                row = jnp.argmin(jnp.abs(hidden[:, unit]))
                on = on.at[row, unit].set(~on[row, unit])
            hidden = jnp.where(on, hidden, 0)
            return hidden @ last["weight"].T + last["bias"][None]

        return certify(
            net,
            loss=(torch.nn.MSELoss(), lambda o, y: jnp.mean((o - y) ** 2)),
            optimizer=torch.optim.SGD(net.parameters(), lr=1e-3),
            data=(X, Y),
            port=(apply, {"params": params}, optax.sgd(1e-3)),
        )

    found = port_of([3])
    assert found.agrees and found.kinks == 1, found
    assert "chose another side of a kink" in str(found)
    assert not port_of([5]).agrees, "its number is not within rounding of 0"


def test_an_update_is_held_against_its_formula():
    """A rate off by 1e-5; a decay forgotten, where rate times decay is 1e-6."""

    def found(port, make, epochs=4):
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        jnet, variables = jaxnet.convert.from_torch(net)
        optimizer = make(net.parameters())
        run: dict[str, Any] = dict(
            data=(X, Y), batch_size=8, epochs=epochs, loss=nn.BCEWithLogitsLoss()
        )
        return certify(net, optimizer=optimizer, port=(jnet.apply, variables, port), **run)

    torch.manual_seed(0)
    adam = found(optax.adam(1e-2), lambda p: torch.optim.Adam(p, 1e-2))
    assert adam.agrees and set(adam.granted) <= {"adam-bias-correction"}, adam
    off = found(optax.adam(1.00001e-2), lambda p: torch.optim.Adam(p, 1e-2), epochs=20)
    assert off.divergence is not None and off.divergence.stage == "update"
    decayed = found(
        optax.adamw(1e-3, weight_decay=1e-3),
        lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=1e-3),
    )
    assert decayed.agrees and "adamw-decay-rounding" in decayed.granted, decayed
    forgotten = found(
        optax.adam(1e-3), lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=1e-3), epochs=30
    )
    assert forgotten.divergence is not None and forgotten.divergence.stage == "update"


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
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, 1))
    x = X * torch.tensor([1e7, 1, 1, 1, 1, 1])
    with torch.no_grad():
        net[0].weight[:, 0] *= 1e-7

    def apply(variables, x):
        weight = variables["params"]["0"]["weight"]
        still = jnp.concatenate([weight[:, :1], jax.lax.stop_gradient(weight[:, 1:])], 1)
        return x @ still.T + variables["params"]["0"]["bias"][None]

    adam = torch.optim.Adam(net.parameters(), 1e-3)
    found = hold(net, apply, adam, optax.adam(1e-3), data=(x, Y)).divergence
    assert found is not None and (found.stage, found.tensor) == ("gradients", "0.weight")


@pytest.mark.parametrize("beta", [0.9, 0.9001])
def test_the_update_of_a_small_weight_beside_a_large_one(beta):
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(6, 3))
    x = X * torch.tensor([1e-6, 1, 1, 1, 1, 1])
    with torch.no_grad():
        net[0].weight[0, 0] = 3e5

    def apply(variables, x):
        return linear(variables, "0", x)

    adam, own = torch.optim.Adam(net.parameters(), 1e-3), optax.adam(1e-3, b1=beta)
    found = hold(net, apply, adam, own, data=(x, X[:, :3]), batch_size=5, epochs=3)
    assert found.verdict == ("AGREE" if beta == 0.9 else "DIVERGE"), found
    assert where(found) in (None, ("update", "0.weight"), ("update", "0.bias"))


@pytest.mark.parametrize("wrong_from", [400, 399])
def test_every_row_is_evaluated(wrong_from):
    net = nn.Sequential(nn.Linear(6, 3))
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))

    def apply(variables, x, train):
        y = linear(variables, "0", x)
        return y if train else jnp.where(jnp.arange(len(x))[:, None] < wrong_from, y, 0)

    found = hold(net, apply, data=(x, x[:, :3]), batch_size=100)
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

    found = certify(
        net, loss=MSE, optimizer=torch.optim.SGD(net.parameters(), 0.1), data=(X, Y), batch_size=10,
        port=(apply, variables, optax.sgd(0.1)),
    )  # fmt: skip
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
    net = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 1)
    )
    optimizer = torch.optim.Adam(net.parameters())
    found = certify(
        net, loss=nn.MSELoss(), optimizer=optimizer, data=(X, Y), batch_size=10, epochs=4, seed=1
    )
    assert found.agrees, found
    assert len(doubted) >= 5  # each step that was not drawn at once
