"""Ports in every form that their authors hold them in: one net, written once for each."""

from functools import partial
from typing import Any

import equinox as eqx
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from flax.core import freeze
from flax.training.train_state import TrainState

from jaxnet.certificate.bounds import EPS, Tolerance
from tests.helpers import assert_close, each_row
from torchref.forms import explain_call, open_port
from torchref.traced import Traced

SUMS = Tolerance(rtol=64 * EPS, atol=64 * EPS)
SGD = optax.sgd(0.1)
RNG = np.random.default_rng(0)
SHAPES = {"w": (6, 8), "b": (8,), "scale": (8,), "bias": (8,), "mean": (8,), "v": (8, 2)}
W = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
X = RNG.normal(size=(5, 6)).astype(np.float32)
W["var"] = 1 + W["mean"] ** 2
KEEP = RNG.random((5, 8)) < 0.5


def forward(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer is given and gives, after a linear one, a batch norm and a dropout."""
    y = X @ W["w"] + W["b"]
    mean, var = (y.mean(0), y.var(0)) if train else (W["mean"], W["var"])
    y = (y - mean) / np.sqrt(var + 1e-5) * W["scale"] + W["bias"]
    hidden = np.where(KEEP, 2 * y, 0) if train else y
    return hidden, hidden @ W["v"]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(8, name="a")(x))
        return nn.Dense(2, use_bias=False, name="out")(nn.Dropout(0.5, deterministic=not train)(x))


PARAMS = {
    "a": {"kernel": W["w"], "bias": W["b"]},
    "norm": {"scale": W["scale"], "bias": W["bias"]},
    "out": {"kernel": W["v"]},
}
STATS = {"norm": {"mean": W["mean"], "var": W["var"]}}
VARIABLES = {"params": PARAMS, "batch_stats": STATS}


class WithStats(TrainState):
    batch_stats: Any = None


class NNX(nnx.Module):
    def __init__(self, rngs: Any):
        self.a: Any = nnx.Linear(6, 8, rngs=rngs)
        self.norm: Any = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(8, 2, use_bias=False, rngs=rngs)
        self.a.kernel[...], self.a.bias[...] = W["w"], W["b"]
        self.norm.scale[...], self.norm.bias[...] = W["scale"], W["bias"]
        self.norm.mean[...], self.norm.var[...] = W["mean"], W["var"]
        self.out.kernel[...] = W["v"]

    def __call__(self, x):
        y = self.norm(self.a(x))
        self.seen = nnx.Intermediate(y)
        return self.out(self.drop(y))


class Equinox(eqx.Module):
    a: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    out: jax.Array
    act: Any

    def __init__(self):
        self.a = eqx.nn.Linear(6, 8, key=jax.random.key(0))
        self.norm = eqx.nn.BatchNorm(8, "rows", mode="batch")
        self.drop, self.out, self.act = eqx.nn.Dropout(0.5), jnp.array(W["v"]), jnp.asarray

    def __call__(self, x, state, *, key=None):
        y, state = self.norm(self.a(x), state)
        return self.act(self.drop(y, key=key)) @ self.out, state


def make_equinox() -> tuple[Equinox, eqx.nn.State]:
    module, state = eqx.nn.make_with_state(Equinox)()
    where = lambda m: (m.a.weight, m.a.bias, m.norm.weight, m.norm.bias)  # noqa: E731
    module = eqx.tree_at(where, module, (W["w"].T, W["b"], W["scale"], W["bias"]))
    index = module.norm.batch_state_index
    return module, state.set(index, (jnp.array(W["mean"]), jnp.array(W["var"])))


def function(variables, x, is_training, dropout_rng: Any = None):
    if is_training:
        rngs = {"dropout": dropout_rng}
        return Linen().apply(variables, x, True, rngs=rngs, mutable=["batch_stats"])
    assert dropout_rng is None, "a key tells this one that it trains"
    return Linen().apply(variables, x, False)


def make_haiku() -> Any:
    hk = pytest.importorskip("haiku")

    def net(x, is_training):
        y = hk.BatchNorm(True, True, 0.9, name="norm")(hk.Linear(8, name="a")(x), is_training)
        y = hk.dropout(hk.next_rng_key(), 0.5, y) if is_training else y
        return hk.Linear(2, with_bias=False, name="out")(y)

    row = lambda name: W[name][None]  # noqa: E731
    ema = lambda name: {"counter": np.int32(1), "hidden": row(name), "average": row(name)}  # noqa: E731
    norm = {"scale": row("scale"), "offset": row("bias")}
    params = {"a": {"w": W["w"], "b": W["b"]}, "norm": norm, "out": {"w": W["v"]}}
    state = {f"norm/~/{name}_ema": ema(name) for name in ("mean", "var")}
    return hk.transform_with_state(net), (params, state), SGD


MODULE = NNX(nnx.Rngs(0))
PORTS: dict[str, Any] = {
    "flax.linen: module": lambda: (Linen(), VARIABLES, SGD),
    "flax.linen: apply": lambda: (Linen().apply, freeze(VARIABLES), SGD),
    "flax.linen: partial": lambda: (
        jax.jit(partial(jax.jit(Linen().apply), train=True, mutable=[])), VARIABLES, SGD),
    "flax.linen: remat": lambda: (nn.remat(Linen, static_argnums=(2,))(), VARIABLES, SGD),
    "flax.linen: TrainState": lambda: WithStats.create(
        apply_fn=Linen().apply, params=PARAMS, tx=SGD, batch_stats=STATS),
    "nnx: optax": lambda: (MODULE, SGD),
    "nnx: nnx.Optimizer": lambda: (MODULE, nnx.Optimizer(MODULE, SGD, wrt=nnx.Param)),
    "equinox: state": lambda: (make_equinox(), SGD),
    "haiku: state": make_haiku,
    "function: collections": lambda: (function, VARIABLES, SGD),
    "function: jit": lambda: (jax.jit(function), VARIABLES, optax.MultiSteps(SGD, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", PORTS)
def test_every_form_computes_what_its_author_wrote(name):
    """Values and, contracted with a random cotangent, gradients; with masks put in, in training."""
    port = PORTS[name]()
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(MODULE, nnx.Not(nnx.RngKey))))
    form = open_port(port)
    assert form.kind == name.partition(":")[0] and not form.names_masks
    assert isinstance(form.optimizer, optax.GradientTransformation)
    form.optimizer.init(form.params)
    cotangent = RNG.normal(size=(5, 2)).astype(np.float32)
    for train in (True, False):
        call = partial(form.apply, keywords={}, train=train)
        traced = Traced(call, form.params, form.state, (X,))
        assert [draw.kind for draw in traced.draws] == ["bernoulli"] * train

        def objective(params, state, x, traced=traced):
            (outputs, state), _ = traced((params, state, (x,)), [KEEP] * len(traced.draws))
            return (outputs * cotangent).sum(), (outputs, state)

        differentiate = jax.jit(jax.grad(objective, has_aux=True))
        grads, (outputs, state) = differentiate(form.params, form.state, X)
        hidden, expected = forward(train)
        assert_close(outputs, expected, SUMS)
        kernel = next(leaf for leaf in jax.tree.leaves(grads) if leaf.shape == (8, 2))
        assert_close(kernel, hidden.T @ cotangent, SUMS)
        differ = lambda new, old: not np.array_equal(new, old)  # noqa: E731
        changed = jax.tree.leaves(jax.tree.map(differ, state, form.state))
        assert all(changed) if train else not any(changed)
    after = nnx.to_pure_dict(nnx.state(MODULE, nnx.Not(nnx.RngKey)))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert MODULE.drop.deterministic is False and not hasattr(MODULE, "seen")
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(VARIABLES))


LINEAR = {"w": W["w"]}
LINED = X @ W["w"]
ATTENDED = LINED + 2 * X.sum() + 1
LAYER: Any = eqx.nn.MLP(6, 8, 4, 1, key=jax.random.key(0))


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x, masks=None):
        return x if masks is None else x * masks["drop"]

    def encode(self, x, training):
        return x + training + 0 * jax.random.uniform(self.make_rng("noise"))


def attend(params, query, key, value, train):
    return query @ params["w"] + key.sum() + value.sum() + train


CALLS = {
    "bare parameters": ((lambda p, x: x @ p["w"], LINEAR, None), (X,), {}, LINED),
    "jit of vmap": (
        (jax.jit(jax.vmap(lambda p, x: x @ p["w"], (None, 0))), LINEAR, None), (X,), {}, LINED),
    "keywords": (
        (lambda p, *, ids, mask: ids * mask, LINEAR, None), (), {"ids": X, "mask": 2}, 2 * X),
    "a key before the inputs": (
        (lambda p, rng, x: x + jax.random.uniform(rng), LINEAR, None), (X,), {},
        X + jax.random.uniform(jax.random.key(1))),
    "an input that is called key": ((attend, LINEAR, None), (X, X, X), {}, ATTENDED),
    "a mode before the inputs": ((lambda p, train, x: x + train, LINEAR, None), (X,), {}, X + 1),
    "a mode that was set": ((partial(attend, train=False), LINEAR, None), (X, X, X), {}, ATTENDED),
    "inference": ((lambda p, x, inference=True: x * inference, LINEAR, None), (X,), {}, 0 * X),
    "two outputs": ((lambda p, x: (x, {"a": x}), LINEAR, None), (X,), {}, (X, {"a": X})),
    "two outputs, collections": (
        (lambda v, x: (x, 2 * x), {"params": {}, "s": {"n": X}}, None), (X,), {}, (X, 2 * X)),
    "no collections": ((lambda v, x: (x, {}), {"params": LINEAR}, None), (X,), {}, X),
    "an Equinox module": ((LAYER, None), (X,), {}, jax.vmap(LAYER)(X)),
    "an Equinox module and a function": (
        (lambda m, x: jax.vmap(m)(x), LAYER, None), (X,), {}, jax.vmap(LAYER)(X)),
    "linen, bare": ((nn.Dense(8), PARAMS["a"], None), (X,), {}, LINED + W["b"]),
    "masks": ((Masked().apply, {"params": {}}, None), (X,), {}, 3 * X),
    "masks, draws": ((lambda v, x, draws: x * draws["drop"], LINEAR, None), (X,), {}, 3 * X),
    "another method, evaluated": (
        (partial(Masked().apply, method="encode"), {"params": {}}, None), (X,), {}, X),
}  # fmt: skip


@each_row("name, call", CALLS.items())
def test_how_a_net_is_called(name, call):
    port, args, keywords, expected = call
    form = open_port(port)
    masks = {"drop": np.float32(3)} if "masks" in name else {}
    assert form.names_masks is bool(masks) and form.optimizer is None
    apply = partial(form.apply, train="evaluated" not in name, masks=masks)
    found, _ = apply(form.params, form.state, args, keywords)
    jax.tree.map(partial(assert_close, tolerance=SUMS), found, expected)


def test_a_call_without_jit_does_not_change_an_nnx_module():
    norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))
    form = open_port((norm, None))
    _, state = form.apply(form.params, form.state, (X,), {}, train=True)
    assert not np.array_equal(state["mean"][...], norm.mean[...])
    norm.var[...] += 1
    for held, value in ((norm.mean, 0), (form.state["mean"], 0), (form.state["var"], 1)):
        assert np.all(held[...] == value)


def test_haiku_without_state_or_keys():
    hk = pytest.importorskip("haiku")
    net = hk.transform(lambda x: hk.Linear(8, False, name="a")(x))
    for transformed in (net, hk.without_apply_rng(net)):
        form = open_port((transformed, {"a": LINEAR}, SGD))
        outputs, state = form.apply(form.params, {}, (X,), {}, train=False)
        assert_close(outputs, LINED, SUMS)
        assert (form.kind, state) == ("haiku", form.state) == ("haiku", {})
    with pytest.raises(TypeError, match=r"haiku's \(params, state\), not dict"):
        open_port((hk.transform_with_state(net.apply), {}, SGD))


def test_what_is_no_floating_point_number_is_not_trained():
    form = open_port((lambda p, x: x[:, p["ids"]] @ p["w"], {**LINEAR, "ids": np.arange(6)}, None))
    assert [leaf.shape for leaf in jax.tree.leaves(form.params)] == [(6, 8)]
    assert_close(form.apply(form.params, {}, (X,), {}, train=True)[0], X @ W["w"], SUMS)


@each_row("port, message", [
    (Linen(), "port must be .*, not Linen"),
    ((Linen(), SGD), "port must be .*, not Linen with GradientTransformation"),
    ((Linen, VARIABLES, SGD), "not class Linen with dict with"),
    ((MODULE, MODULE, SGD), r"\(nnx.Module, optimizer\), .*not NNX with NNX"),
    ((LAYER, LAYER, SGD), r"\(eqx.Module, optimizer\), .*not MLP with MLP"),
    ((VARIABLES, Linen(), SGD), "not dict with Linen"),
    ((Linen(), VARIABLES, optax.sgd), "optimizer.* not function"),
    ((Linen(), {"params": {"w": torch.ones(2)}}, SGD), "arrays of JAX or NumPy, not torch"),
    (SGD, "not GradientTransformation"),
])  # fmt: skip
def test_what_is_no_port_is_rejected(port, message):
    with pytest.raises(TypeError, match=message):
        open_port(port)


class Images(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(32, (3, 3), use_bias=False)(nn.Conv(32, (3, 3), use_bias=False)(x))


def test_channels_first_are_named():
    kernels = {f"Conv_{n}": {"kernel": np.zeros((3, 3, k, 32))} for n, k in enumerate((3, 32))}
    form, x = open_port((Images(), kernels, None)), np.zeros((2, 3, 32, 32))
    with pytest.raises(flax.errors.ScopeParamShapeError) as caught:
        form.apply(form.params, form.state, (x,), {}, train=True)
    message = str(explain_call(caught.value, form, (x,)))
    assert message.startswith("port failed on inputs of shape (2, 3, 32, 32): ScopeParamShapeError")
    assert message.endswith("the net takes images channels last and was given them channels first")
    other = str(explain_call(ValueError("one\ntwo"), form, {"x": np.zeros((2, 32, 32, 3))}))
    assert other == "port failed on inputs of shape (2, 32, 32, 3): ValueError: one"
