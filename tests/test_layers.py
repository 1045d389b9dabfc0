"""Activations, Embedding, Flatten and Identity against torch's."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
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
    Case,
    assert_close,
    assert_same_bits,
    assert_same_functions,
    assert_same_state,
    each_row,
    to_numpy,
)
from tests.layers import assert_same_weights, both_nets, rows

KEY = jax.random.key(0)

# torch forms GELU from 1 + erf or 1 + tanh, which rounds to ulps of 1, then multiplies by x (and
# by the slope of the tanh's argument): its own error is up to 1.1e-6 against float64.
GELU = Tolerance(rtol=16 * EPS, atol=16 * EPS)

ELEMENTWISE_LAYERS = {
    "relu": lambda n: n.ReLU(), "leaky_relu": lambda n: n.LeakyReLU(),
    "leaky_relu_slope": lambda n: n.LeakyReLU(0.3), "elu": lambda n: n.ELU(),
    "elu_alpha": lambda n: n.ELU(alpha=2.5), "gelu": lambda n: n.GELU(),
    "gelu_tanh": lambda n: n.GELU(approximate="tanh"), "silu": lambda n: n.SiLU(),
    "sigmoid": lambda n: n.Sigmoid(), "log_sigmoid": lambda n: n.LogSigmoid(),
    "tanh": lambda n: n.Tanh(), "softplus": lambda n: n.Softplus(),
    "softplus_options": lambda n: n.Softplus(beta=2.0, threshold=3.0),
    "softplus_negative": lambda n: n.Softplus(beta=-0.5),
}  # fmt: skip
NO_GELU = [name for name in ELEMENTWISE_LAYERS if not name.startswith("gelu")]
EDGES = np.array([0.0, -0.0, 1e-30, -1e-30, 80.0, -80.0, 1e9, -1e9], np.float32)
# The points are where torch's own form is accurate in relative terms.
TAILS = {
    "elu": (-80.0, 80.0), "elu_alpha": (-80.0, 80.0), "leaky_relu": (-80.0, 80.0),
    "silu": (-80.0, -3.0), "log_sigmoid": (-80.0, 80.0), "softplus": (-80.0, 80.0),
    "softplus_options": (-40.0, 40.0),
}  # fmt: skip


def layer_pair(build, inputs=(), constants=(), tolerance=ELEMENTWISE) -> Case:
    layer = build(nn)
    return Case(lambda x: layer.apply({}, x), build(torch.nn), inputs, constants, tolerance)


def test_elementwise_layers():
    """Near 0 and far off, at infinity, and in their tails in relative terms."""
    x = np.concatenate([rows(200), 5 * rows(200, seed=1), EDGES])
    infinite, cases = np.array([np.inf, -np.inf, np.nan], np.float32), {}
    for name, build in ELEMENTWISE_LAYERS.items():
        bound = ELEMENTWISE if name in NO_GELU else GELU
        cases[name] = layer_pair(build, [x], tolerance=bound)
    for name in NO_GELU:
        cases[name, "infinite"] = layer_pair(ELEMENTWISE_LAYERS[name], constants=[infinite])
    for name, (low, high) in TAILS.items():
        tail = [*np.linspace(low, high, 1001), *([1e-30, -1e-30] if high > 0 else [])]
        inputs = [np.array(tail, np.float32)]
        cases[name, "tail"] = layer_pair(
            ELEMENTWISE_LAYERS[name], inputs, tolerance=ELEMENTWISE_RELATIVE
        )
    assert_same_functions(cases)


def test_elementwise_layers_in_float64():
    x, bound = [np.linspace(-7.0, -0.5, 101)], Tolerance(FLOAT64.rtol, FLOAT64.rtol)
    with jax.enable_x64(True):
        cases = {n: layer_pair(ELEMENTWISE_LAYERS[n], x, tolerance=bound) for n in NO_GELU}
        assert_same_functions(cases)


def test_softmaxes_and_flatten():
    x = np.stack([rows(3, 7), 30 * rows(3, 7, seed=1), 1e4 * rows(3, 7, seed=2), np.zeros((3, 7))])
    x[0, 0, 0] = -np.inf
    infinite = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 0.0]], np.float32)
    cases = {}
    for name in ("Softmax", "LogSoftmax"):
        for dim in (0, 1, -1):
            cases[name, dim] = layer_pair(
                lambda n, name=name, dim=dim: getattr(n, name)(dim=dim),
                [x.astype(np.float32)],
                tolerance=REDUCTION,
            )
        cases[name] = layer_pair(lambda n, name=name: getattr(n, name)(1), constants=[infinite])
    for dims in [(1, -1), (0, -1), (0, 1), (1, 2), (-2, -1), (2, 2)]:
        cases[dims] = layer_pair(lambda n, dims=dims: n.Flatten(*dims), [rows(2, 3, 4, 5)])
    assert_same_functions(cases)


@each_row("name", ["gelu", "gelu_tanh"])
def test_gelu_is_no_less_accurate_than_torchs(name):
    layer, layer_torch = (ELEMENTWISE_LAYERS[name](side) for side in (nn, torch.nn))
    x = np.linspace(-12, 12, 20001, dtype=np.float32)
    single, double = (torch.tensor(x, dtype=t) for t in (torch.float32, torch.float64))
    y, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: layer.apply({}, x))))(x)
    slope_torch = torch.func.grad(lambda x: layer_torch(x).sum())
    for own, function in ((y, layer_torch), (slope, slope_torch)):
        exact = to_numpy(function(double))
        error, error_torch = (np.abs(to_numpy(y) - exact).max() for y in (own, function(single)))
        assert error <= FLOAT64_RATIO * error_torch


def test_softplus_past_where_exp_overflows():
    x = np.array([100.0, 200.0], np.float32)
    layer = nn.Softplus(threshold=1000.0)
    y, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: layer.apply({}, x))))(x)
    assert_same_bits(y, x)
    assert_same_bits(slope, np.ones(2, np.float32))


def test_half_types_are_rounded_once():
    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    xs = {kind: torch.tensor(3 * rows(100)).to(t) for kind, t in kinds.items()}
    layers = {name: build(nn) for name, build in ELEMENTWISE_LAYERS.items()}

    @jax.jit
    def apply(xs):
        return {name: {k: y.apply({}, x) for k, x in xs.items()} for name, y in layers.items()}

    found = apply({kind: jnp.asarray(x.float().numpy(), kind) for kind, x in xs.items()})
    for name, of_kinds in found.items():
        for kind, y in of_kinds.items():
            assert y.dtype == kind
            expected = ELEMENTWISE_LAYERS[name](torch.nn)(xs[kind]).float()
            one_rounding = half_precision(float(jnp.finfo(kind).eps) / 4)
            assert_close(y.astype(jnp.float32), expected, one_rounding, where=f"{name}, {kind}")


@each_row("layer", [nn.Tanh(), nn.Sigmoid(), nn.SiLU()])
def test_integers_become_float32(layer):
    y = inspect.unwrap(type(layer).__call__)(layer, np.arange(3))
    assert_close(y, layer.apply({}, np.arange(3, dtype=np.float32)))


def test_embedding():
    x = np.random.default_rng(0).integers(0, 7, (4, 5))
    x[0] = [0, 4, 6, 0, 4]  # every padding row, more than once
    cases, layers = {}, {}
    for padding_idx in (None, 0, 4, -1, -7):
        layer, variables, generator, layer_torch = both_nets(
            lambda n, s, own=padding_idx: n.Embedding(7, 3, own)
        )
        assert_same_weights(variables, layer_torch)
        assert_same_state(generator)

        def call_jax(weight, x, layer=layer):
            return layer.apply({"params": {"weight": weight}}, x)

        def call_torch(weight, x, layer=layer_torch):
            return torch.func.functional_call(layer, {"weight": weight}, (x,))

        # The padding row need not be 0 later.
        cases[padding_idx] = Case(call_jax, call_torch, [rows(7, 3)], [x], REDUCTION)
        layers[padding_idx] = layer
    assert_same_functions(cases)
    begun = jax.jit(lambda: [layer.init(KEY, x) for layer in layers.values()])()
    for padding_idx, own in zip(layers, begun, strict=True):
        weight = np.array(own["params"]["weight"])
        assert weight.shape == (7, 3) and weight.dtype == np.float32
        empty = np.flatnonzero((weight == 0).all(axis=1))
        assert empty.tolist() == ([] if padding_idx is None else [padding_idx % 7])


def test_embedding_starts_standard_normal():
    own = np.array(nn.Embedding(100, 400).init(KEY, np.zeros(1, int))["params"]["weight"])
    assert abs(own.mean()) < 5 / np.sqrt(own.size)
    assert abs(own.std() - 1) < 5 / np.sqrt(2 * own.size)


@each_row("dtype", [np.int32, np.int8, np.uint8])
def test_traced_indices_out_of_range_give_nan(dtype):
    layer = nn.Embedding(200, 2, padding_idx=150)
    variables = jax.jit(layer.init)(KEY, np.zeros(1, np.int32))
    weight = variables["params"]["weight"]
    x = np.array([-1, 3, 100]).astype(dtype)
    found = jax.jit(lambda x: layer.apply(variables, x))(x)
    inside = (x >= 0) & (x < 200)
    found, weight = np.array(found), np.array(weight)
    assert_same_bits(np.isnan(found).all(axis=1), ~inside)
    assert_same_bits(found[inside], weight[x[inside].astype(int)])


def test_flatten_and_identity_of_anything():
    assert nn.Flatten(0).apply({}, np.float32(3.0)).shape == (1,)
    assert nn.Flatten().apply({}, np.zeros((0, 3, 2))).shape == (0, 6)
    assert nn.Flatten().apply({}, np.zeros((2, 3, 2), bool)).dtype == bool
    x = rows(3)
    assert nn.Identity().apply({}, x) is x
