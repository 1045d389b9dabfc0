"""Where a user's port diverges, why, and what is granted where the user says so."""

from functools import partial
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from tests.manual import X, Y, linear, where
from torchref import certify
from torchref.sighting import align, find_place, sight
from torchref.user_update import Moved, explain_update
from torchref.variants import list_variants
from torchref.variants.variant import Changed

RUN: dict[str, Any] = {"loss": nn.MSELoss(), "data": (X, Y), "batch_size": 10}


def tensors(net):
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + torch.tanh(layer(norm(x)))
        return self.head(x)


def blocks(params, x, eps=(1e-5, 1e-5)):
    """The same with the layers stacked for a scan."""

    def block(x, layer):
        weight, bias, scale, shift, eps = layer
        z = jax.nn.standardize(x, epsilon=eps) * scale[None] + shift[None]
        return x + jnp.tanh(z @ weight.T + bias[None]), None

    stacked = (*(params[name] for name in ("w", "b", "scale", "shift")), jnp.array(eps))
    return linear({"params": params}, "head", jax.lax.scan(block, x, stacked)[0])


@pytest.mark.parametrize(
    ("eps", "place"),
    [((1e-5, 1e-5), None), ((1e-3, 1e-5), "norms.0"), ((1e-5, 1e-3), "norms.1")],
)
def test_a_fault_inside_a_scan_is_placed_and_named(eps, place):
    torch.manual_seed(0)
    net = Blocks()
    s = tensors(net)
    stack = lambda form: np.stack([s[form.format(i)] for i in range(2)])  # noqa: E731
    params = {
        "w": stack("layers.{}.weight"), "b": stack("layers.{}.bias"),
        "scale": stack("norms.{}.weight"), "shift": stack("norms.{}.bias"),
        "head": {"weight": s["head.weight"], "bias": s["head.bias"]},
    }  # fmt: skip
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    port = partial(blocks, eps=eps), params, optax.sgd(0.1)
    found = certify(net, optimizer=sgd, port=port, **RUN)
    assert where(found) == (place and ("outputs", place)), found
    if place:
        assert found.divergence is not None and "eps 0.001" in found.divergence.causes[0]


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_a_mistake_that_rounding_would_hide_is_seen_at_its_layer(eps):
    """It moves the norm by 10 units in the last place, and the outputs by less than rounding may.

    A layer's mistake that is named is one, however wide its bound is.
    """
    torch.manual_seed(0)
    net = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 8))
    s = tensors(net)

    def port(params, x):
        z = jax.nn.standardize(x, epsilon=eps) * params["0.weight"][None] + params["0.bias"][None]
        return z @ params["1.weight"].T + params["1.bias"][None]

    sgd = torch.optim.SGD(net.parameters(), 0.1)
    run: dict[str, Any] = RUN | {"data": (2 * torch.randn(20, 64), torch.randn(20, 8))}
    found = certify(net, optimizer=sgd, port=(port, s, optax.sgd(0.1)), **run)
    assert where(found) == (None if eps == 1e-5 else ("outputs", "0")), found
    if found.divergence is not None:
        assert found.divergence.causes[0] == "layer_norm has eps 1e-06"


class Normed(flax.linen.Module):
    momentum: float = 0.9

    @flax.linen.compact
    def __call__(self, x, train=False):
        x = flax.linen.Dense(4)(x)
        x = flax.linen.BatchNorm(not train, momentum=self.momentum, epsilon=1e-5)(x)
        return flax.linen.Dense(1)(x)


def test_flaxs_running_variance_is_named_and_may_be_known():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    s = tensors(net)
    dense = lambda name: {"kernel": s[f"{name}.weight"].T, "bias": s[f"{name}.bias"]}  # noqa: E731
    norm = {"scale": s["1.weight"], "bias": s["1.bias"]}
    statistics = {"mean": s["1.running_mean"], "var": s["1.running_var"]}
    variables = {
        "params": {"Dense_0": dense("0"), "BatchNorm_0": norm, "Dense_1": dense("2")},
        "batch_stats": {"BatchNorm_0": statistics},
    }
    run: dict[str, Any] = RUN | {"port": (Normed(), variables, optax.sgd(0.1))}
    run["optimizer"] = torch.optim.SGD(net.parameters(), 0.1)
    found = certify(net, **run)
    assert where(found) == ("buffers", "1.running_var")
    assert found.divergence is not None
    assert found.divergence.causes[0].startswith("batchnorm-variance: ")
    other: Any = run | {"port": (Normed(momentum=0.1), variables, optax.sgd(0.1))}
    assert where(certify(net, **other)) == ("buffers", "1.running_mean")
    known = certify(net, known=("batchnorm-variance",), **run)
    assert known.agrees and str(known).startswith("AGREE, granted batchnorm-variance: "), known
    with pytest.raises(ValueError, match="known must be among batchnorm-variance, .*, not 'x'"):
        certify(net, known=("x",), **run)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(6, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x):
        return self.last(self.cells(x[:, None])[0][:, -1])


def recurrent(params, x, order=(0, 1, 2, 3)):
    """One step of an LSTM, whose gates bear one bias."""
    gates = jnp.split(x @ params["w"].T + params["b"][None], 4, 1)
    i, _, g, o = (gates[k] for k in order)
    cell = jax.nn.sigmoid(i) * jnp.tanh(g)
    return linear({"params": params}, "last", jax.nn.sigmoid(o) * jnp.tanh(cell))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2)])
def test_one_bias_for_two_and_gates_in_another_order(order):
    torch.manual_seed(0)
    net = Recurrent()
    s = tensors(net)
    last = {"weight": s["last.weight"], "bias": s["last.bias"]}
    params = {
        "w": s["cells.weight_ih_l0"], "u": s["cells.weight_hh_l0"], "last": last,
        "b": s["cells.bias_ih_l0"] + s["cells.bias_hh_l0"],
    }  # fmt: skip
    port = partial(recurrent, order=order), params, optax.sgd(0.1)
    run = RUN | {"port": port, "optimizer": torch.optim.SGD(net.parameters(), 0.1)}
    found = certify(net, known=("merged-bias",), **run)
    if order != (0, 1, 2, 3):
        assert where(found) == ("outputs", "cells")
        assert found.divergence is not None and "i, f, o, g" in found.divergence.causes[0]
        return
    assert found.agrees and found.granted["merged-bias"] == 0.5, found
    wrong = certify(net, **run).divergence
    assert wrong is not None and wrong.tensor == "cells.bias_ih_l0"
    assert wrong.causes[0].startswith("merged-bias: torch has two biases")


def test_the_missing_epsilon_of_optaxs_clipping_may_be_known():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 1))
    data = X, net(X).detach() + 1e-3
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    clip: Any = torch.nn.utils.clip_grad_norm_
    sgd.register_step_pre_hook(lambda *_: clip(net.parameters(), 1e-4))
    rule = optax.chain(optax.clip_by_global_norm(1e-4), optax.sgd(0.1))
    port = (lambda v, x: linear(v, "0", x)), {"params": {"0": _layer(net)}}, rule
    run = RUN | {"port": port, "optimizer": sgd, "data": data, "batch_size": None}
    found = certify(net, **run).divergence
    assert found is not None and found.causes[0].startswith("clip-epsilon: ")
    assert certify(net, known=("clip-epsilon",), **run).agrees


def _layer(net):
    return {"weight": tensors(net)["0.weight"], "bias": tensors(net)["0.bias"]}


class Masked(nn.Module):
    """Attention of its own."""

    def forward(self, x):
        return x.masked_fill(mask=x > 0.5, value=-1e9).softmax(-1)


NETS = nn.ModuleDict(
    {
        "norms": nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.LeakyReLU(0.1), nn.Dropout(0.35)),
        "images": nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, 1),
            nn.ConvTranspose2d(4, 3, 2, 2), nn.Upsample(scale_factor=2, mode="bilinear"),
        ),
        "lstm": nn.LSTM(8, 4),
        "gru": nn.GRU(8, 4),
        "attention": nn.TransformerEncoderLayer(8, 2, 8, batch_first=True),
        "masked": Masked(),
    }
)  # fmt: skip


def test_variants_change_what_torch_computes():
    """Each that applies to one of these nets, but for the option that the net has already."""
    x, changed = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)), set()
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def run(name):
        torch.manual_seed(0)
        out = NETS[name](image if name == "images" else x)
        return out[0] if isinstance(out, tuple) else out

    for name in NETS:
        own = run(name)
        for variant in list_variants("outputs"):
            try:
                with Changed(variant) as mode:
                    other = run(name)
            except (RuntimeError, ValueError):  # batch_norm without an eps
                continue
            if mode.calls and not torch.equal(own, other):
                changed.add(variant.words)
    for words in ("layer_norm has eps 0.001", "batch_norm has eps 0.001", 'the padding is "SAME"',
                  "the kernel of a transposed", "a dropout scales by 1 / (1 - 0.2)", "nothing is",
                  "one dropout mask", "GELU", "the negative slope is 0.2", "interpolation",
                  "the gates are in the order i, f, o, g", "the gates are in the order r, n, z",
                  "a mask is left out", "a mask is True where torch's is False",
                  ):  # fmt: skip
        assert any(each.startswith(words) for each in changed), words


STEP = np.array([0.5, -1.0, 0.25, 2.0])
WEIGHTS = np.array([1.0, 2.0, -3.0, 0.5])


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (2 * STEP, "the update is 2 times torch's: another learning rate, or a sum"),
        (0 * STEP, "the update is 0 times torch's"),
        (STEP + 0.01 * WEIGHTS, "weight decay is another: the steps differ by 0.01 of the weight"),
        (np.clip(STEP, -0.6, 0.6), "gradients are clipped by value, at 0.6, not by their norm"),
    ],
)
def test_an_update_tells_why_it_is_another(ours, words):
    moved = {"w": Moved(ours, STEP, WEIGHTS, STEP)}
    assert explain_update(moved, "w").startswith(words)


def test_an_update_that_nothing_explains_has_no_cause():
    assert not explain_update({"w": Moved(STEP**3 + 1, STEP, WEIGHTS, STEP)}, "w")


def test_layers_are_sighted_in_any_order_of_the_axes():
    rng = np.random.default_rng(0)
    image, flat = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 7))
    values = {
        3: np.asarray(image.transpose(0, 2, 3, 1), np.float32),
        4: np.asarray(flat.reshape(2, 3, 7) * 1.01, np.float32),
        5: np.zeros((2, 3), np.float32),  # constants are everywhere
    }
    found = sight({"conv": image, "flat": flat, "zeros": np.zeros((2, 3))}, values)
    assert {name: each.place for name, (each, _) in found.items()} == {"conv": 3, "flat": 4}
    np.testing.assert_allclose(found["conv"][1], image, rtol=1e-6)
    assert align(image.transpose(0, 2, 3, 1), image.shape).shape == image.shape


def test_the_place_is_the_first_layer_that_nothing_found_depends_on():
    """b is computed otherwise, but what follows it is found; d is found, and beside c."""
    depends = {("e", "c"), ("e", "d"), ("c", "b"), ("c", "a"), ("b", "a"), ("d", "a")}
    found = {"a", "c", "d"}
    place = find_place("abcde", found.__contains__, lambda *pair: pair in depends)
    assert place == "e"
    assert find_place("abcde", {"a", "b", "d"}.__contains__, lambda *p: p in depends) == "c"
