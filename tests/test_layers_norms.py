"""LayerNorm and BatchNorm against torch's: values, gradients, buffers, refusals."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.errors import ModifyScopeVariableError

from jaxnet import nn
from jaxnet.certificate.bounds import EPS, REDUCTION, Tolerance, half_precision
from tests.helpers import assert_close, assert_same_bits, assert_same_state
from tests.layers import (
    assert_same_calls,
    assert_same_tensors,
    assert_same_weights,
    both_nets,
    describe,
    describe_init,
    refusals,
    rows,
)

KEY = jax.random.key(0)

# A gradient through a norm is a difference of terms that cancel: its rounding is relative to the
# largest, which is near 1 here, or near the inverse deviation where that is larger.
GRADIENT_OF_NORM = Tolerance(rtol=64 * EPS, atol=16 * EPS)


def assert_same_norm(layer, layer_torch, variables, x, train=True):
    """At parameters that are not the first ones."""
    params = variables.get("params", {}).items()
    changed = {"params": {k: 1 + rows(*v.shape, seed=9) / 2 for k, v in params}}
    assert_same_calls(layer, layer_torch, variables | changed, x, GRADIENT_OF_NORM, train=train)


@pytest.mark.parametrize("shape", [5, (5,), (4, 5), [3, 4, 5]])
@pytest.mark.parametrize(
    "options", [{}, {"eps": 0.3}, {"bias": False}, {"elementwise_affine": False}]
)
def test_layer_norm(shape, options):
    layer, variables, generator, layer_torch = both_nets(lambda n, s: n.LayerNorm(shape, **options))
    assert_same_state(generator)
    assert_same_weights(variables, layer_torch)
    x = 2 * rows(2, 3, 4, 5) + 1
    assert describe_init(layer, x) == describe(variables)
    assert_same_norm(layer, layer_torch, variables, x)


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (lambda n: n.LayerNorm(64, elementwise_affine=False), rows(10, 64) + 1000),
        (lambda n: n.BatchNorm1d(3, affine=False, track_running_stats=False), rows(50, 3) + 300),
    ],
)
def test_norms_far_from_zero_are_no_less_accurate_than_torchs(build, x):
    layer, layer_torch = build(nn), build(torch.nn)
    exact = layer_torch(torch.tensor(x, dtype=torch.float64)).numpy()
    own = np.abs(layer.apply({}, x) - exact).max()
    assert own <= 1.5 * np.abs(layer_torch(torch.tensor(x)).numpy() - exact).max()


def test_a_layer_norm_of_equal_numbers_is_zero():
    layer, x = nn.LayerNorm(64, elementwise_affine=False), np.full((1, 64), 7.5, np.float32)
    assert_close(layer.apply({}, x), np.zeros_like(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm1d"])
def test_norms_keep_the_type(name, dtype):
    layer, layer_torch = (getattr(side, name)(6) for side in (nn, torch.nn))
    layer_torch = layer_torch.double() if dtype == "float64" else layer_torch
    with jax.enable_x64(dtype == "float64"):
        x_torch = torch.tensor(rows(5, 6)).to(getattr(torch, dtype))
        x = jnp.asarray(x_torch.double().numpy(), dtype)
        variables = layer.init(KEY, x)
        keywords = {"train": True} if name == "BatchNorm1d" else {}
        y, updated = layer.apply(variables, x, **keywords, mutable=["batch_stats"])
        assert y.dtype == dtype
        leaves = jax.tree.leaves((variables["params"], updated))
        assert {leaf.dtype for leaf in leaves} <= {jnp.dtype("float32"), jnp.dtype("int32")}
        expected = layer_torch(x_torch).to(torch.float64 if dtype == "float64" else torch.float32)
        assert_close(y.astype(float), expected, half_precision(float(jnp.finfo(dtype).eps)))


BATCH_NORMS = {
    "1d": ("BatchNorm1d", (6, 4)), "1d_long": ("BatchNorm1d", (3, 4, 5)),
    "1d_one_row": ("BatchNorm1d", (1, 4, 5)), "2d": ("BatchNorm2d", (3, 4, 5, 2)),
}  # fmt: skip
OPTIONS = {
    "default": {}, "eps": {"eps": 0.5}, "momentum": {"momentum": 0.7},
    "cumulative": {"momentum": None}, "no_affine": {"affine": False},
    "no_stats": {"track_running_stats": False},
    "nothing": {"affine": False, "track_running_stats": False},
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", BATCH_NORMS)
def test_batch_norm(kind, option):
    """Values and gradients in training and evaluation, the buffers after each of four steps."""
    name, shape = BATCH_NORMS[kind]
    layer, variables, generator, layer_torch = both_nets(
        lambda n, s: getattr(n, name)(4, **OPTIONS[option])
    )
    assert_same_state(generator)
    assert_same_weights(variables, layer_torch)
    assert describe_init(layer, rows(*shape)) == describe(variables)

    train = jax.jit(lambda v, x: layer.apply(v, x, train=True, mutable=["batch_stats"]))
    for step in range(4):
        x = (step + 1) * rows(*shape, seed=step) + step
        y, updated = train(variables, x)
        assert_close(y, layer_torch(torch.tensor(x)), REDUCTION, where=f"step {step}")
        variables = variables | updated
        stats = variables.get("batch_stats", {})
        assert_same_tensors(stats, dict(layer_torch.named_buffers()), REDUCTION)

    x = 2 * rows(*shape, seed=8) + 1
    for mode in (False, True):  # torch moves its averages in training
        assert_same_norm(layer, layer_torch.train(mode), variables, x, train=mode)


def test_training_differs_from_evaluation_and_keeps_the_variables_apart():
    layer, shape = nn.BatchNorm1d(4), (6, 4)
    x = rows(*shape)
    variables = layer.init(KEY, x, train=True)  # initialising moves no average
    assert_same_bits(variables["batch_stats"]["running_mean"], np.zeros(4, np.float32))
    trained, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    assert not np.allclose(trained, layer.apply(variables, x))
    assert int(updated["batch_stats"]["num_batches_tracked"]) == 1
    with pytest.raises(ModifyScopeVariableError):
        layer.apply(variables, x, train=True)


def test_running_statistics_carry_no_gradient():
    layer, shape = nn.BatchNorm1d(4), (6, 4)
    variables = layer.init(KEY, rows(*shape))

    def track(x):
        updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        return updated["batch_stats"]["running_var"].sum()

    assert_same_bits(jax.grad(track)(rows(*shape)), np.zeros(shape, np.float32))


def test_an_empty_batch_leaves_the_averages_alone():
    layer = nn.BatchNorm1d(3)
    x = np.zeros((0, 3), np.float32)
    variables = layer.init(KEY, x)
    y, updated = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.shape == (0, 3)
    jax.tree.map(assert_same_bits, variables["batch_stats"], updated["batch_stats"])


@pytest.mark.skipif(
    "bias" not in inspect.signature(torch.nn.BatchNorm1d).parameters, reason="an older torch"
)
def test_batch_norm_without_bias():
    layer, variables, _, layer_torch = both_nets(lambda n, s: n.BatchNorm1d(4, bias=False))
    assert list(variables["params"]) == ["weight"]
    assert_same_norm(layer, layer_torch, variables, rows(6, 4))


def train(layer, x):
    return layer.init_with_output(KEY, x, train=True)


test_refusals = refusals(
    ValueError,
    [
        (lambda: nn.LayerNorm(()), "normalized_shape must have at least one size"),
        (lambda: nn.LayerNorm((3, 0)), "normalized_shape must be at least 1, not 0"),
        (
            lambda: nn.LayerNorm((3, 4)).init(KEY, rows(4, 3)),
            r"x must have shape \(..., 3, 4\), not \(4, 3\)",
        ),
        (lambda: nn.LayerNorm((3, 4)).init(KEY, rows(4)), r"x must have shape \(..., 3, 4\)"),
        (lambda: nn.BatchNorm1d(0), "num_features must be at least 1, not 0"),
        (lambda: nn.BatchNorm2d(3, eps=-1.0), "eps must be at least 0, not -1.0"),
        (lambda: nn.BatchNorm2d(3, eps=float("nan")), "eps must be at least 0"),
        (lambda: train(nn.BatchNorm1d(3, eps=0.0), rows(2, 3)), "eps must be above 0 in training"),
        (
            lambda: nn.BatchNorm1d(3).init(KEY, rows(2, 4)),
            r"x must have shape \(N, C\) or \(N, C, L\) with C = 3, not \(2, 4\)",
        ),
        (lambda: nn.BatchNorm1d(3).init(KEY, rows(2, 3, 4, 5)), r"x must have shape \(N, C\)"),
        (lambda: nn.BatchNorm1d(3).init(KEY, rows(3)), r"x must have shape \(N, C\)"),
        (
            lambda: nn.BatchNorm2d(3).init(KEY, rows(2, 3, 4)),
            r"x must have shape \(N, C, H, W\) with C = 3, not \(2, 3, 4\)",
        ),
        (lambda: train(nn.BatchNorm1d(3), rows(1, 3)), "more than one value for each channel"),
        (lambda: train(nn.BatchNorm2d(3), rows(1, 3, 1, 1)), "more than one value"),
        (
            lambda: nn.BatchNorm1d(3, track_running_stats=False).init(KEY, rows(1, 3)),
            r"more than one value for each channel .* not shape \(1, 3\)",
        ),
    ],
)
