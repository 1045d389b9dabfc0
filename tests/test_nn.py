"""Modules against torch's: names, layout, first weights, outputs, gradients, refusals."""

import inspect

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
from jaxnet import nn
from jaxnet.nn._product import product
from tests.helpers import assert_same_bits, assert_same_function, to_numpy
from tests.layers import assert_same_weights, both_nets, refusals, rows

KEY = jax.random.key(0)


@pytest.mark.parametrize("fan_in", [1, 2, 3, 7, 32, 784, 1000])
def test_the_bound_of_the_first_weights_rounds_as_torchs(fan_in):
    _, variables, _, layer_torch = both_nets(lambda n, s: n.Linear(fan_in, 9))
    assert_same_weights(variables, layer_torch)


def test_flax_init_has_the_same_distribution():
    wide = np.array(nn.Linear(400, 100).init(KEY, rows(1, 400))["params"]["weight"])
    assert np.abs(wide).max() <= 1 / 20
    deviation = 1 / 20 / np.sqrt(3)  # of a uniform number within ±1/20
    assert abs(wide.mean()) < 5 * deviation / np.sqrt(wide.size)
    assert abs(wide.std() / deviation - 1) < 0.01


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("p", [0.0, 0.04, 0.09, 0.15, 0.3, 0.42, 0.5, 0.74, 0.9, 1.0])
def test_dropout_equals_torchs_bit_for_bit(p, dtype):
    """Signed zeros and the rounding of the scale included, forward and backward."""
    x, cotangent = (torch.tensor(rows(40, 11, seed=s)).to(getattr(torch, dtype)) for s in range(2))
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    expected = torch.nn.functional.dropout(leaf, p)
    expected.backward(cotangent)
    layer = nn.Sequential([nn.Dropout(p)])
    x_jax, cotangent_jax = (jnp.asarray(to_numpy(t.float()), dtype) for t in (x, cotangent))
    _, draws = nn.draw(layer, jaxnet.random.manual_seed(5), x_jax)
    dropped, pullback = jax.vjp(lambda x: layer.apply({}, x, train=True, draws=draws), x_jax)
    assert dropped.dtype == dtype
    assert_same_bits(dropped.astype(jnp.float32), expected.float())
    assert leaf.grad is not None
    assert_same_bits(pullback(cotangent_jax)[0].astype(jnp.float32), leaf.grad.float())


def test_dropout_with_a_key_is_flaxs_way():
    x = jnp.ones((200, 50))
    layer = nn.Dropout(0.25)
    keys = (jax.random.key(i) for i in (0, 1))
    first, second = (layer.apply({}, x, train=True, rngs={"dropout": key}) for key in keys)
    assert not np.array_equal(first, second)
    kept = (first != 0).mean()
    assert abs(kept - 0.75) < 5 * np.sqrt(0.75 * 0.25 / x.size)
    assert_same_bits(layer.apply({}, x), x)


@pytest.mark.parametrize("name", ["ReLU", "Sigmoid"])
def test_elementwise_layers(name):
    layer, function = (getattr(side, name)() for side in (nn, torch.nn))
    edges = np.array([0.0, -0.0, 1e-30, 80.0, -80.0, 1e9, -1e9, np.inf, -np.inf], np.float32)
    x = np.concatenate([rows(100), edges])
    assert_same_function(lambda x: layer.apply({}, x), function, [x])


def test_draws_are_nested_like_the_parameters():
    inner = nn.Sequential([nn.Dropout(0.3), nn.Linear(4, 2)])
    net = nn.Sequential([nn.Linear(5, 4), nn.Sequential([nn.ReLU(), inner]), nn.Sigmoid()])
    _, draws = nn.draw(net, jaxnet.random.manual_seed(0), rows(3, 5))
    assert jax.tree.map(jnp.shape, draws) == {"1": {"1": {"0": (3, 4)}}}


@pytest.mark.parametrize(
    ("layer", "x", "said"),
    [
        (nn.Linear(5, 3), rows(2, 5), "precision = [HIGHEST, HIGHEST]"),
        (nn.Conv2d(1, 1, 2), rows(1, 3, 3), "HIGHEST"),
    ],
)
def test_a_precision_set_for_all_of_jax_wins(layer, x, said):
    variables = layer.init(KEY, x)

    def program():
        return jax.jit(lambda x: layer.apply(variables, x)).lower(x).as_text()

    assert said in program()
    with jax.default_matmul_precision("default"):
        assert "HIGHEST" not in program()


def test_other_flax_modules_may_stand_among_the_layers():
    net = nn.Sequential([flax.linen.Dense(4), nn.ReLU()])
    assert net.apply(net.init(KEY, rows(2, 5)), rows(2, 5)).shape == (2, 4)
    with pytest.raises(TypeError, match="net must be made of jaxnet.nn modules, not Dense"):
        jaxnet.init(net, jaxnet.random.manual_seed(0))


def test_other_modules_are_told_whether_the_net_trains():
    x = rows(60, 5)
    for layer in (flax.linen.Dropout(0.5), flax.linen.BatchNorm(use_scale=False, use_bias=False)):
        net = nn.Sequential([layer, nn.ReLU()])
        variables = net.init(KEY, x)
        options = {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
        trained, _ = net.apply(variables, x, train=True, **options)
        assert not np.array_equal(trained, net.apply(variables, x))


def test_a_net_of_one_dropout_takes_its_mask_itself():
    _, mask = nn.draw(nn.Dropout(0.5), jaxnet.random.manual_seed(1), X)
    _, expected = jaxnet.random.dropout_mask(jaxnet.random.manual_seed(1), 0.5, X.shape)
    assert_same_bits(mask, expected)
    assert nn.Dropout(0.5).apply({}, X, train=True, draws=mask).shape == X.shape


def test_weights_stay_float32_under_x64():
    with jax.enable_x64(True):
        variables = nn.Linear(5, 3).init(KEY, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


X = rows(2, 5)
SHARED = nn.Linear(5, 5)
FROM_JAXNET = "generator must come from jaxnet"
DROPOUT = nn.Sequential([nn.Linear(5, 4), nn.Dropout(0.5)])
VARIABLES = {"params": {"0": {"weight": rows(4, 5), "bias": rows(4)}}}


test_refusals = refusals(
    ValueError,
    [
        (lambda: DROPOUT.apply(VARIABLES, X, train=True), "dropout '1' has nothing to draw from"),
        (lambda: DROPOUT.apply(VARIABLES, X, draws={"0": X}), r"draws names \['0'\]"),
        (
            lambda: DROPOUT.apply(VARIABLES, X, train=True, draws={"1": np.ones((2, 5), bool)}),
            r"mask of dropout '1' must be boolean of shape \(2, 4\), not bool of shape \(2, 5\)",
        ),
        (
            lambda: DROPOUT.apply(VARIABLES, X, train=True, draws={"1": np.ones((2, 4))}),
            "must be boolean",
        ),
        (lambda: DROPOUT.apply(VARIABLES, rows(2, 4)), r"x must have shape \(..., 5\)"),
        (lambda: nn.Dropout(1.5), "p must be a probability between 0 and 1, not 1.5"),
        (lambda: nn.Dropout(float("nan")), "p must be a probability"),
        (lambda: nn.Linear(0, 3), "in_features must be at least 1, not 0"),
        (lambda: nn.Sequential([SHARED, nn.ReLU(), SHARED]), "holds one Linear twice"),
        (
            lambda: DROPOUT.apply(VARIABLES, X, draws={"1": np.ones((2, 4), bool)}),
            "dropout '1' got a mask without train=True",
        ),
    ],
)


test_refusals_of_types = refusals(
    TypeError,
    [
        # Past the annotations, which the tests check too.
        (lambda: inspect.unwrap(jaxnet.init)(DROPOUT, KEY), FROM_JAXNET),
        (lambda: inspect.unwrap(nn.draw_steps)(DROPOUT, KEY, X, 1), FROM_JAXNET),
        (lambda: nn.Sequential(nn.Linear(5, 4)), "layers"),  # pyright: ignore
        (lambda: nn.Sequential([nn.Linear(5, 4), jax.nn.relu]), "layers"),  # pyright: ignore
        (
            lambda: nn.Sequential([nn.Dropout()]).apply(
                {}, np.ones(3, int), train=True, rngs={"dropout": KEY}
            ),
            "floating-point x, not int|Float",
        ),
    ],
)


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (7,)])
def test_the_gradient_in_a_linears_weight_is_the_cotangent_times_x(shape):
    """Its own derivative, of which a CPU computes another form than autodiff's, in both modes."""
    rng = np.random.default_rng(0)
    x, weight, change = (rng.normal(size=s).astype(np.float32) for s in (shape, (4, 7), (4, 7)))
    y, pull = jax.vjp(lambda w: product(jnp.asarray(x), w), jnp.asarray(weight))
    cotangent = rng.normal(size=y.shape).astype(np.float32)
    expected = cotangent.reshape(-1, 4).T.astype(np.float64) @ x.reshape(-1, 7)
    np.testing.assert_allclose(pull(jnp.asarray(cotangent))[0], expected, rtol=1e-5, atol=1e-5)
    _, pushed = jax.jvp(lambda w: product(jnp.asarray(x), w), (weight,), (change,))
    np.testing.assert_allclose(pushed, x @ change.T.astype(np.float64), rtol=1e-5, atol=1e-5)
