"""Ports by hand beside nets of many kinds: right ones agree, and wrong ones are seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

import jaxnet
from tests.manual import X, Y, hold, linear, make_one, mlp, one, params_of, where
from torchref import certify


class Attention(nn.Module):
    """Causal, by a mask of -inf."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = x.reshape(-1, 2, 3)
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        later = torch.ones(2, 2).triu(1).bool()
        return (scores.masked_fill(later, -torch.inf).softmax(-1) @ self.v(x)).sum((1, 2))[:, None]


@jax.custom_vjp
def negate(x):
    return x


negate.defvjp(lambda x: (x, None), lambda _, grad: (-grad,))


@pytest.mark.parametrize("change", [None, negate])
def test_a_mask_of_minus_infinity(change):
    torch.manual_seed(0)

    def apply(variables, x):
        x = x.reshape(-1, 2, 3)

        def of(layer):
            params = variables["params"][layer]
            return x @ params["weight"].T + params["bias"][None, None]

        scores = of("q") @ of("k").transpose(0, 2, 1)
        scores = jnp.where(jnp.triu(jnp.ones((1, 2, 2)), 1) == 1, -jnp.inf, scores)
        y = (jax.nn.softmax(scores) @ of("v")).sum((1, 2))[:, None]
        return y if change is None else change(y)

    found = hold(Attention(), apply, batch_size=5)
    assert found.verdict == ("AGREE" if change is None else "DIVERGE"), found
    assert change is not None or found.checked["outputs"] == found.given["outputs"]


class Choosing(nn.Module):
    """One of its numbers, in the first row, lies within rounding of a kink."""

    def __init__(self, kind):
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(6, 8), nn.Linear(8, 1), kind
        self.put_near(3, 0)

    def put_near(self, unit, row):
        """That number of the row's is an ulp of its two terms, in whatever order they are added."""
        with torch.no_grad():
            self.a.weight[unit] = torch.eye(6)[0]
            self.a.bias[unit] = -torch.nextafter(X[row, 0], torch.tensor(-torch.inf))

    def forward(self, x):
        h = self.a(x)
        if self.kind == "relu":
            return self.b(torch.relu(h))
        if self.kind == "where":
            return self.b(torch.where(h > 0, h, 0.1 * h))
        if self.kind == "compared":
            return self.b(torch.where(h >= 0.1 * h, h, 0.1 * h))
        both = torch.stack([h, 0.1 * h])
        return self.b(both.amax(0) if self.kind == "amax" else both.max(0).values)


KINDS = ["relu", "where", "compared", "amax", "max"]


def choose(variables, x, turned, slope=0.1):
    """The same, with units on the other side in the row whose number is nearest to 0."""
    h = linear(variables, "a", x)
    on = h > 0
    for unit in turned:
        row = jnp.argmin(jnp.abs(h[:, unit]))
        on = on.at[row, unit].set(~on[row, unit])
    return linear(variables, "b", jnp.where(on, h, slope * h))


def hold_slowly(net, apply):
    return hold(net, apply, torch.optim.SGD(net.parameters(), 1e-3), optax.sgd(1e-3))


# A wrong choice of the other kinds is in `tests/slow/test_ports.py`.
@pytest.mark.parametrize("kind, unit", [*((kind, 3) for kind in KINDS), ("relu", 5)])
def test_a_choice_within_rounding_may_fall_otherwise(kind, unit):
    torch.manual_seed(0)
    net, slope = Choosing(kind), 0.0 if kind == "relu" else 0.1
    found = hold_slowly(net, lambda v, x, train: choose(v, x, [unit] * train, slope))
    assert found.verdict == ("AGREE" if unit == 3 else "DIVERGE"), found
    assert unit != 3 or (found.kinks == 1 and "chose another side of a kink" in str(found))


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_choices_that_are_too_many_are_left_out_and_counted(factor, monkeypatch):
    # Fewer than the two there are; at 1, whether an effect is as large as an error is rounding.
    monkeypatch.setattr("torchref.reference.kinks.MOST", 1.5)
    torch.manual_seed(0)

    def apply(variables, x, train):
        # 0, whose gradient makes that of `a.weight` a little more than it is.
        weight = variables["params"]["a"]["weight"].sum()
        more = (factor - 1) * (weight - jax.lax.stop_gradient(weight))
        return choose(variables, x, (3, 6) if train else ()) + more

    net: Any = Choosing("where")
    net.put_near(6, 1)
    found = hold_slowly(net, apply)
    assert found.verdict == ("AGREE" if factor == 1 else "DIVERGE"), found
    assert factor != 1 or found.checked["gradients"] < found.given["gradients"]


@pytest.mark.parametrize(("unit", "verdict"), [(6, "AGREE"), (7, "DIVERGE")])
def test_a_tie_of_rounding_alone_may_fall_otherwise(unit, verdict):
    """Unit 6 is 0 in torch's second row because its terms were rounded, unit 7 as 0 times 0 is."""
    torch.manual_seed(0)
    net: Any = Choosing("where")
    with torch.no_grad():
        net.a.bias[6] -= net.a(X)[1, 6]
        net.a.weight[7], net.a.bias[7] = 0.0, 0.0
        assert net.a(X)[1, 6] == 0

    def apply(variables, x, train):
        h = linear(variables, "a", x)
        on = (h > 0) & (jnp.abs(h) > 1e-6)
        if train:
            on = on.at[1, unit].set(True)
        return linear(variables, "b", jnp.where(on, h, 0.1 * h))

    found = hold_slowly(net, apply)
    assert found.verdict == verdict, found


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)


@pytest.mark.parametrize("small", [1e-7, 0.0])
def test_what_is_infinite_in_torch_is_so_in_the_port(small):
    """A logarithm of 0, beside one that is guarded."""
    logarithm = nn.Sequential(nn.Linear(6, 1), nn.ReLU(), Log())

    def apply(variables, x):
        return jnp.log(jnp.maximum(jax.nn.relu(linear(variables, "0", x)), small))

    found = hold(logarithm, apply, batch_size=5)
    assert found.verdict == ("DIVERGE" if small else "UNDECIDED"), found
    assert where(found) == (("outputs", "2") if small else None)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "AGREE"), (1e20, "DIVERGE")])
def test_what_is_not_compared_may_not_be_anything(factor, verdict):
    """Below float32's normal numbers XLA has 0; a large number is another matter."""
    net = make_one(2, bias=False)
    with torch.no_grad():
        net.get_parameter("0.weight")[0] *= 1e-33

    def apply(variables, x):
        return linear(variables, "0", x) * jnp.array([[factor, 1.0]])

    found = hold(net, apply, data=(X, torch.cat([Y, Y], 1)))
    assert found.verdict == verdict, found


@pytest.mark.parametrize(
    "make, option", [(torch.optim.Adam, "foreach"), (torch.optim.SGD, "fused")]
)
def test_optimizers_over_all_tensors_at_once(make, option):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    momentum = {"momentum": 0.9} if make is torch.optim.SGD else {}
    optimizer = make(net.parameters(), 1e-2, **momentum, **{option: True})
    found = certify(net, loss=nn.MSELoss(), optimizer=optimizer, data=(X, Y), epochs=8)
    assert found.agrees, found
    assert optimizer.param_groups[0][option] is True


def test_what_was_granted_is_granted_to_the_whole_run():
    """optax's bias correction is off by 3e-4 in the first steps, where beta2 is .9999."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 1))
    adam = torch.optim.Adam(net.parameters(), 5e-2, betas=(0.5, 0.9999))
    own = optax.adam(5e-2, b1=0.5, b2=0.9999)
    found = hold(net, mlp, adam, own, batch_size=5, epochs=4)
    assert found.agrees and set(found.granted) == {"adam-bias-correction"}, found


@pytest.mark.parametrize(
    ("decay", "words"), [(1e-5, "applies none of it"), (1e-4, "applies 1.19 times it")]
)
def test_a_decay_that_torch_applies_otherwise_is_named(decay, words):
    """1 - 1e-8 is 1 in float32."""
    net = make_one()
    adamw = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=decay)
    found = certify(net, loss=nn.MSELoss(), optimizer=adamw, data=(X, Y), epochs=3)
    assert found.agrees and "adamw-decay-rounding" in found.granted, found
    assert f"torch {words}" in str(found)


def forget(monkeypatch, change):
    """`jaxnet.train.run` with something done to the state and the history that it gives."""
    run = jaxnet.train.run
    changed = lambda *args, **kwargs: change(*run(*args, **kwargs))  # noqa: E731
    monkeypatch.setattr(jaxnet.train, "run", changed)


def test_statistics_that_stand_still_beside_a_bias_that_rounding_moves(monkeypatch):
    """Adam takes whole steps of the bias before a BatchNorm, whose gradient is 0."""

    def stale(state, history):
        kept = jax.tree_util.tree_map_with_path(
            lambda path, leaf: 0 * leaf if "mean" in str(path[-1]) else leaf, state.model_state
        )
        return state._replace(model_state=kept), history

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    run: Any = dict(loss=nn.MSELoss(), optimizer=adam, data=(X, Y), epochs=3, batch_size=5)
    found = certify(net, **run)
    assert found.agrees and found.noise_by_tensor["0.bias"] == 8, found
    forget(monkeypatch, stale)
    assert where(certify(net, **run)) == ("whole run", "1.running_mean")


def test_a_fault_late_in_a_run_whose_first_losses_are_large(monkeypatch):
    """What rounding comes to beside a loss of 1e8 is no bound for one of 1."""
    net = make_one()
    y = 1e4 + X.sum(1, keepdim=True) + Y
    run: Any = dict(loss=nn.MSELoss(), data=(X, y), epochs=80)
    run["optimizer"] = torch.optim.SGD(net.parameters(), 0.2)
    found = certify(net, **run)
    assert found.agrees and found.losses[0] > 1e7 * found.losses[-1], found

    def late(state, history):
        losses = history.losses.copy()
        losses[-20:] *= 1.5
        return state, history._replace(losses=losses)

    forget(monkeypatch, late)
    assert where(certify(net, **run)) == ("whole run", "loss")


def test_forward_only_and_no_updates():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
    found = certify(net, data=(X, Y), batch_size=5)
    assert found.agrees and str(found).startswith("AGREE, forward only: 4 steps; outputs"), found
    assert not {"loss", "gradients", "update", "whole run"} & set(found.stages)
    found = certify(net, data=(X, Y), batch_size=5, loss=nn.MSELoss())
    assert found.agrees and str(found).startswith("AGREE, no updates: 4 steps"), found
    assert "gradients" in found.stages and "update" not in found.stages
    found = hold(make_one(), lambda v, x: 1.0001 * one(v, x), loss=None)
    assert where(found) == ("outputs", "0")
    found = hold(make_one(), one, loss=None, data=(X, None))
    assert found.agrees and str(found).startswith("AGREE, forward only"), found


def test_everything_is_put_back():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.array, self.seen = nn.Linear(6, 1), np.zeros(2), []
            self.register_buffer("one", torch.ones(1, 1).expand(6, 6))

        def forward(self, x):
            self.array += 1
            self.seen.append(len(self.seen))
            return self.layer(x * self.get_buffer("one")[:1])

    net = Odd().eval()
    net.layer.weight.grad = torch.ones(1, 6)
    first = params_of(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    apply = lambda variables, x: linear(variables, "layer", x)  # noqa: E731
    assert hold(net, apply, optimizer, optax.sgd(0.1, momentum=0.9), epochs=3).agrees
    jax.tree.map(np.testing.assert_array_equal, params_of(net), first)
    assert not net.array.any() and net.seen == [] and not net.training
    assert net.layer.weight.grad is not None and net.layer.weight.grad.eq(1).all()
    assert not optimizer.state
