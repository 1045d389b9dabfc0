"""LayerNorm and BatchNorm against torch's: values, gradients, buffers."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.errors import ModifyScopeVariableError

from jaxnet import nn
from jaxnet.certificate.bounds import EPS, REDUCTION, Tolerance, half_precision
from tests.helpers import (
    Case,
    assert_close,
    assert_same_bits,
    assert_same_functions,
    assert_same_state,
    each_row,
)
from tests.layers import (
    assert_same_tensors,
    assert_same_weights,
    both_nets,
    call_case,
    describe,
    describe_init,
    rows,
)

KEY = jax.random.key(0)

# A gradient through a norm is a difference of terms that cancel: its rounding is relative to the
# largest, which is near 1 here, or near the inverse deviation where that is larger.
GRADIENT_OF_NORM = Tolerance(rtol=64 * EPS, atol=16 * EPS)


def norm_case(layer, layer_torch, variables, x, train=True) -> Case:
    """At parameters that are not the first ones."""
    params = variables.get("params", {}).items()
    changed = {"params": {k: 1 + rows(*v.shape, seed=9) / 2 for k, v in params}}
    return call_case(layer, layer_torch, variables | changed, x, GRADIENT_OF_NORM, train=train)


def same_start(build, x):
    """A layer on both sides, whose first weights, stream and tree are the same."""
    layer, variables, generator, layer_torch = both_nets(lambda n, s: build(n))
    assert_same_state(generator)
    assert_same_weights(variables, layer_torch)
    assert describe_init(layer, x) == describe(variables)
    return layer, layer_torch, variables


def test_layer_norm():
    cases, x = {}, 2 * rows(2, 3, 4, 5) + 1
    for shape, options in [
        *[(5, {}), ((5,), {"eps": 0.3}), ((4, 5), {}), ([3, 4, 5], {"eps": 0.3})],
        *[((4, 5), {"bias": False}), (5, {"elementwise_affine": False})],
    ]:
        both = same_start(lambda n, s=shape, o=options: n.LayerNorm(s, **o), x)
        cases[str(shape), *options] = norm_case(*both, x)
    assert_same_functions(cases)


@each_row(
    "build, x",
    [
        (lambda n: n.LayerNorm(64, elementwise_affine=False), rows(10, 64) + 1000),
        (lambda n: n.BatchNorm1d(3, affine=False, track_running_stats=False), rows(50, 3) + 300),
    ],
)
def test_norms_far_from_zero_are_no_less_accurate_than_torchs(build, x):
    layer, layer_torch = build(nn), build(torch.nn)
    exact = layer_torch(torch.tensor(x, dtype=torch.float64)).numpy()
    own = np.abs(np.asarray(jax.jit(layer.apply)({}, x)) - exact).max()
    assert own <= 1.5 * np.abs(layer_torch(torch.tensor(x)).numpy() - exact).max()


def test_a_layer_norm_of_equal_numbers_is_zero():
    layer, x = nn.LayerNorm(64, elementwise_affine=False), np.full((1, 64), 7.5, np.float32)
    assert_close(jax.jit(layer.apply)({}, x), np.zeros_like(x))


@each_row(
    "name, dtype",
    itertools.product(["LayerNorm", "BatchNorm1d"], ["float16", "bfloat16", "float64"]),
)
def test_norms_keep_the_type(name, dtype):
    layer, layer_torch = (getattr(side, name)(6) for side in (nn, torch.nn))
    layer_torch = layer_torch.double() if dtype == "float64" else layer_torch
    with jax.enable_x64(dtype == "float64"):
        x_torch = torch.tensor(rows(5, 6)).to(getattr(torch, dtype))
        x = jnp.asarray(x_torch.double().numpy(), dtype)
        variables = jax.jit(layer.init)(KEY, x)
        keywords = {"train": True} if name == "BatchNorm1d" else {}
        apply = functools.partial(layer.apply, **keywords, mutable=["batch_stats"])
        y, updated = jax.jit(apply)(variables, x)
        assert y.dtype == dtype
        leaves = jax.tree.leaves((variables["params"], updated))
        assert {leaf.dtype for leaf in leaves} <= {jnp.dtype("float32"), jnp.dtype("int32")}
        expected = layer_torch(x_torch).to(torch.float64 if dtype == "float64" else torch.float32)
        assert_close(y.astype(float), expected, half_precision(float(jnp.finfo(dtype).eps)))


BATCH_NORMS = {
    "1d": ("BatchNorm1d", (6, 4)), "1d_one_row": ("BatchNorm1d", (1, 4, 5)),
    "2d": ("BatchNorm2d", (3, 4, 5, 2)),
}  # fmt: skip
OPTIONS = {
    "default": {}, "eps": {"eps": 0.5}, "momentum": {"momentum": 0.7},
    "cumulative": {"momentum": None}, "no_affine": {"affine": False},
    "no_stats": {"track_running_stats": False},
    "nothing": {"affine": False, "track_running_stats": False},
}  # fmt: skip


@pytest.mark.parametrize("kind", BATCH_NORMS)
def test_batch_norm(kind):
    """Values and gradients in training and evaluation, the buffers after each of four steps."""
    name, shape = BATCH_NORMS[kind]
    some = OPTIONS if kind == "1d" else {key: OPTIONS[key] for key in ("momentum", "cumulative")}
    nets = {
        option: same_start(lambda n, o=options: getattr(n, name)(4, **o), rows(*shape))
        for option, options in some.items()
    }
    layers = {option: net[0] for option, net in nets.items()}
    found = {option: net[2] for option, net in nets.items()}

    @jax.jit
    def train(variables, x):
        return {
            option: layer.apply(variables[option], x, train=True, mutable=["batch_stats"])
            for option, layer in layers.items()
        }

    for step in range(4):
        x = (step + 1) * rows(*shape, seed=step) + step
        for option, (y, updated) in train(found, x).items():
            layer_torch = nets[option][1]
            assert_close(y, layer_torch(torch.tensor(x)), REDUCTION, where=f"{option}, {step}")
            found[option] = found[option] | updated
            stats = found[option].get("batch_stats", {})
            assert_same_tensors(stats, dict(layer_torch.named_buffers()), REDUCTION)
    x = 2 * rows(*shape, seed=8) + 1
    for mode in (False, True):  # torch moves its averages in training
        cases = {
            option: norm_case(layer, layer_torch.train(mode), found[option], x, train=mode)
            for option, (layer, layer_torch, _) in nets.items()
        }
        assert_same_functions(cases)


def test_training_differs_from_evaluation_and_keeps_the_variables_apart():
    layer, shape = nn.BatchNorm1d(4), (6, 4)
    x = rows(*shape)
    init = functools.partial(layer.init, train=True)
    variables = jax.jit(init)(KEY, x)  # initialising moves no average
    assert_same_bits(variables["batch_stats"]["running_mean"], np.zeros(4, np.float32))
    trained, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    assert not np.allclose(trained, layer.apply(variables, x))
    assert int(updated["batch_stats"]["num_batches_tracked"]) == 1
    with pytest.raises(ModifyScopeVariableError):
        layer.apply(variables, x, train=True)


def test_running_statistics_carry_no_gradient():
    layer, shape = nn.BatchNorm1d(4), (6, 4)
    variables = jax.jit(layer.init)(KEY, rows(*shape))

    def track(x):
        updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        return updated["batch_stats"]["running_var"].sum()

    assert_same_bits(jax.jit(jax.grad(track))(rows(*shape)), np.zeros(shape, np.float32))


def test_an_empty_batch_leaves_the_averages_alone():
    layer = nn.BatchNorm1d(3)
    x = np.zeros((0, 3), np.float32)
    variables = jax.jit(layer.init)(KEY, x)
    apply = functools.partial(layer.apply, train=True, mutable=["batch_stats"])
    y, updated = jax.jit(apply)(variables, x)
    assert y.shape == (0, 3)
    jax.tree.map(assert_same_bits, variables["batch_stats"], updated["batch_stats"])


@pytest.mark.skipif(
    "bias" not in inspect.signature(torch.nn.BatchNorm1d).parameters, reason="an older torch"
)
def test_batch_norm_without_bias():
    layer, variables, _, layer_torch = both_nets(lambda n, s: n.BatchNorm1d(4, bias=False))
    assert list(variables["params"]) == ["weight"]
    assert_same_functions({"it": norm_case(layer, layer_torch, variables, rows(6, 4))})
