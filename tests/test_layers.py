"""Activations, Embedding, Flatten, Identity and Sequential of all of them, against torch's."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxnet import nn
from jaxnet.certificate.bounds import (
    ELEMENTWISE,
    ELEMENTWISE_RELATIVE,
    EPS,
    FLOAT64,
    FLOAT64_RATIO,
    REDUCTION,
    Tolerance,
    half_precision,
)
from tests.helpers import (
    assert_close,
    assert_same_bits,
    assert_same_function,
    assert_same_state,
    to_numpy,
)
from tests.layers import assert_same_weights, both_nets, refusals, rows

KEY = jax.random.key(0)


# torch forms GELU from 1 + erf or 1 + tanh, which rounds to ulps of 1, then multiplies by x (and
# by the slope of the tanh's argument): its own error is up to 1.1e-6 against float64.
GELU = Tolerance(rtol=16 * EPS, atol=16 * EPS)

ELEMENTWISE_LAYERS = {
    "leaky_relu": lambda n: n.LeakyReLU(), "leaky_relu_slope": lambda n: n.LeakyReLU(0.3),
    "elu": lambda n: n.ELU(), "elu_alpha": lambda n: n.ELU(alpha=2.5), "gelu": lambda n: n.GELU(),
    "gelu_tanh": lambda n: n.GELU(approximate="tanh"), "silu": lambda n: n.SiLU(),
    "sigmoid": lambda n: n.Sigmoid(), "log_sigmoid": lambda n: n.LogSigmoid(),
    "tanh": lambda n: n.Tanh(), "softplus": lambda n: n.Softplus(),
    "softplus_options": lambda n: n.Softplus(beta=2.0, threshold=3.0),
    "softplus_negative": lambda n: n.Softplus(beta=-0.5),
}  # fmt: skip
EDGES = np.array([0.0, -0.0, 1e-30, -1e-30, 80.0, -80.0, 1e9, -1e9], np.float32)


def assert_same_layer(layer, layer_torch, x, tolerance=ELEMENTWISE) -> None:
    assert_same_function(lambda x: layer.apply({}, x), layer_torch, [x], tolerance=tolerance)


@pytest.mark.parametrize("name", ELEMENTWISE_LAYERS)
def test_elementwise_layers(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = np.concatenate([rows(200), 5 * rows(200, seed=1), EDGES])
    tolerance = GELU if name.startswith("gelu") else ELEMENTWISE
    assert_same_layer(layer, layer_torch, x, tolerance)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE_LAYERS if not n.startswith("gelu")])
def test_elementwise_layers_at_infinity(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    assert_close(layer.apply({}, x), layer_torch(torch.tensor(x)))


# The points are where torch's own form is accurate in relative terms.
TAILS = {
    "elu": (-80.0, 80.0), "elu_alpha": (-80.0, 80.0), "leaky_relu": (-80.0, 80.0),
    "silu": (-80.0, -3.0), "log_sigmoid": (-80.0, 80.0), "softplus": (-80.0, 80.0),
    "softplus_options": (-40.0, 40.0),
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_tails_are_accurate_in_relative_terms(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = np.linspace(*TAILS[name], 1001, dtype=np.float32)
    x = np.concatenate([x, [1e-30, -1e-30]] if TAILS[name][1] > 0 else [x]).astype(np.float32)
    assert_same_layer(layer, layer_torch, x, ELEMENTWISE_RELATIVE)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_gelu_is_no_less_accurate_than_torchs(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = np.linspace(-12, 12, 20001, dtype=np.float32)
    single, double = (torch.tensor(x, dtype=t) for t in (torch.float32, torch.float64))
    slope = jax.grad(lambda x: layer.apply({}, x).sum())(x)
    slope_torch = torch.func.grad(lambda x: layer_torch(x).sum())
    for own, function in ((layer.apply({}, x), layer_torch), (slope, slope_torch)):
        exact = to_numpy(function(double))
        error, error_torch = (np.abs(to_numpy(y) - exact).max() for y in (own, function(single)))
        assert error <= FLOAT64_RATIO * error_torch


def test_softplus_past_where_exp_overflows():
    x = np.array([100.0, 200.0], np.float32)
    layer = nn.Softplus(threshold=1000.0)
    assert_same_bits(layer.apply({}, x), x)
    assert_same_bits(jax.grad(lambda x: layer.apply({}, x).sum())(x), np.ones(2, np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ELEMENTWISE_LAYERS)
def test_half_types_are_rounded_once(name, dtype):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = torch.tensor(3 * rows(100)).to(getattr(torch, dtype))
    y = layer.apply({}, jnp.asarray(x.float().numpy(), dtype))
    assert y.dtype == dtype
    tolerance = half_precision(float(jnp.finfo(dtype).eps) / 4)  # one rounding
    assert_close(y.astype(jnp.float32), layer_torch(x).float(), tolerance)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE_LAYERS if not n.startswith("gelu")])
def test_elementwise_layers_in_float64(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = torch.tensor(np.linspace(-7.0, -0.5, 101), requires_grad=True)
    layer_torch(x).sum().backward()
    with jax.enable_x64(True):
        own = jnp.asarray(to_numpy(x))
        assert_close(layer.apply({}, own), layer_torch(x), FLOAT64)
        gradient = jax.grad(lambda x: layer.apply({}, x).sum())(own)
        assert_close(gradient, x.grad, Tolerance(FLOAT64.rtol, FLOAT64.rtol))


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sigmoid(), nn.SiLU()])
def test_integers_become_float32(layer):
    y = inspect.unwrap(type(layer).__call__)(layer, np.arange(3))
    assert_close(y, layer.apply({}, np.arange(3, dtype=np.float32)))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmaxes(name, dim):
    layer, layer_torch = (getattr(side, name)(dim=dim) for side in (nn, torch.nn))
    x = np.stack([rows(3, 7), 30 * rows(3, 7, seed=1), 1e4 * rows(3, 7, seed=2), np.zeros((3, 7))])
    x[0, 0, 0] = -np.inf
    assert_same_layer(layer, layer_torch, x.astype(np.float32), REDUCTION)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmaxes_of_infinities(name):
    layer, layer_torch = (getattr(side, name)(dim=1) for side in (nn, torch.nn))
    x = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 0.0]], np.float32)
    assert_close(layer.apply({}, x), layer_torch(torch.tensor(x)))


@pytest.mark.parametrize("padding_idx", [None, 0, 4, -1, -7])
def test_embedding(padding_idx):
    layer, variables, generator, layer_torch = both_nets(
        lambda n, s: n.Embedding(7, 3, padding_idx)
    )
    assert_same_weights(variables, layer_torch)
    assert_same_state(generator)
    x = np.random.default_rng(0).integers(0, 7, (4, 5))
    x[0] = [0, 4, 6, 0, 4]  # every padding row, more than once

    def call_jax(weight, x):
        return layer.apply({"params": {"weight": weight}}, x)

    def call_torch(weight, x):
        return torch.func.functional_call(layer_torch, {"weight": weight}, (x,))

    weight = rows(7, 3)  # the padding row need not be 0 later
    assert_same_function(call_jax, call_torch, [weight], constants=[x], tolerance=REDUCTION)
    own = np.array(layer.init(KEY, x)["params"]["weight"])
    assert own.shape == (7, 3) and own.dtype == np.float32
    empty = np.flatnonzero((own == 0).all(axis=1))
    assert empty.tolist() == ([] if padding_idx is None else [padding_idx % 7])


def test_embedding_starts_standard_normal():
    own = np.array(nn.Embedding(100, 400).init(KEY, np.zeros(1, int))["params"]["weight"])
    assert abs(own.mean()) < 5 / np.sqrt(own.size)
    assert abs(own.std() - 1) < 5 / np.sqrt(2 * own.size)


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8])
def test_traced_indices_out_of_range_give_nan(dtype):
    layer = nn.Embedding(200, 2, padding_idx=150)
    variables = layer.init(KEY, np.zeros(1, np.int32))
    weight = variables["params"]["weight"]
    x = np.array([-1, 3, 100]).astype(dtype)
    found = jax.jit(lambda x: layer.apply(variables, x))(x)
    inside = (x >= 0) & (x < 200)
    assert_same_bits(np.isnan(found).all(axis=1), ~inside)
    assert_same_bits(found[inside], weight[x[inside].astype(int)])


@pytest.mark.parametrize("dims", [(1, -1), (0, -1), (0, 1), (1, 2), (-2, -1), (2, 2)])
def test_flatten(dims):
    layer, layer_torch = (side.Flatten(*dims) for side in (nn, torch.nn))
    assert_same_layer(layer, layer_torch, rows(2, 3, 4, 5))


def test_flatten_and_identity_of_anything():
    assert nn.Flatten(0).apply({}, np.float32(3.0)).shape == (1,)
    assert nn.Flatten().apply({}, np.zeros((0, 3, 2))).shape == (0, 6)
    assert nn.Flatten().apply({}, np.zeros((2, 3, 2), bool)).dtype == bool
    x = rows(3)
    assert nn.Identity().apply({}, x) is x


test_refusals = refusals(
    ValueError,
    [
        (lambda: nn.GELU("erf"), 'approximate must be "none" or "tanh", not \'erf\''),
        (lambda: nn.Softplus(beta=0.0), "beta must be other than 0"),
        (lambda: nn.Softmax(2).apply({}, rows(2, 3)), "dim must be an axis of x, -2 to 1, not 2"),
        (lambda: nn.LogSoftmax(-3).apply({}, rows(2, 3)), "dim must be an axis of x"),
        (lambda: nn.Flatten(2, 1).apply({}, rows(2, 3, 4)), "start_dim must not come after"),
        (lambda: nn.Flatten().apply({}, rows(3)), "start_dim must be an axis of x, -1 to 0, not 1"),
        (lambda: nn.Flatten(0, 3).apply({}, rows(3)), "end_dim must be an axis of x"),
        (lambda: nn.Embedding(0, 2), "num_embeddings must be at least 1, not 0"),
        (lambda: nn.Embedding(2, 0), "embedding_dim must be at least 1, not 0"),
        (lambda: nn.Embedding(3, 2, 3), "padding_idx must be a row of weight, -3 to 2, not 3"),
        (lambda: nn.Embedding(3, 2, -4), "padding_idx must be a row of weight"),
        (
            lambda: nn.Embedding(3, 2).init(KEY, np.array([0, 3])),
            "x must hold indices from 0 to 2, not 3",
        ),
        (lambda: nn.Embedding(3, 2).init(KEY, np.array([-1])), "from 0 to 2, not -1"),
    ],
)


def test_refusals_of_types():
    with pytest.raises(TypeError, match="hold integers|Integer"):
        nn.Embedding(3, 2).init(KEY, rows(2))  # pyright: ignore
