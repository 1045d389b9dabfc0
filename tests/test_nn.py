"""Modules against torch's: names, layout, first weights, dropout, draws, precision."""

import functools
import itertools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

import jaxnet
from jaxnet import nn
from jaxnet.nn._product import product
from tests.helpers import assert_same_bits, assert_same_state, each_row, to_numpy
from tests.layers import assert_same_weights, both_nets, build_jax, describe, describe_init, rows

KEY = jax.random.key(0)
X = rows(2, 5)


NETS = {
    "linear": lambda n, s: n.Linear(5, 3),
    "no_bias": lambda n, s: n.Linear(5, 3, bias=False),
    "lecture": lambda n, s: s(
        n.Linear(5, 4), n.Dropout(0.5), n.ReLU(), n.Linear(4, 1), n.Sigmoid()
    ),
    "nested": lambda n, s: s(
        n.Linear(5, 4), s(n.ReLU(), s(n.Dropout(0.3), n.Linear(4, 2))), n.Sigmoid()
    ),
    "convolutions": lambda n, s: s(
        n.Conv2d(1, 4, 3, bias=False), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2),
        s(n.Conv2d(4, 6, 3, padding=1), n.BatchNorm2d(6, affine=False), n.GELU()),
        n.AdaptiveAvgPool2d(1), n.Flatten(), n.Dropout(0.4), n.Linear(6, 2),
        n.BatchNorm1d(2, track_running_stats=False), n.LogSoftmax(dim=-1),
    ),
    "words": lambda n, s: s(
        n.Embedding(9, 5, padding_idx=0),
        s(s(n.LayerNorm(5), n.Tanh()), n.Dropout(0.2), n.Identity()),
        n.Flatten(), n.LayerNorm(20, elementwise_affine=False), n.Linear(20, 3),
    ),
}  # fmt: skip
IN_A_ROW = ["linear", "no_bias", "lecture", "nested"]
INPUTS = dict.fromkeys(IN_A_ROW, rows(50, 5)) | {
    "convolutions": rows(8, 1, 10, 10), "words": np.arange(32).reshape(8, 4) % 9
}  # fmt: skip


@each_row("name", NETS)
def test_init_gives_torchs_state_dict(name):
    net, variables, generator, net_torch = both_nets(NETS[name])
    assert_same_weights(variables, net_torch)
    names = [".".join(path) for path in flatten_dict(variables["params"])]
    assert names == [name for name, _ in net_torch.named_parameters()]
    assert_same_state(generator)
    assert describe_init(net, INPUTS[name]) == describe(variables)


def test_nets_compare_and_hash_by_what_they_are():
    assert build_jax(NETS["lecture"]) != build_jax(NETS["nested"])
    for name in NETS:
        first, second = (build_jax(NETS[name]) for _ in range(2))
        assert first == second and hash(first) == hash(second)
    assert nn.Conv2d(1, 2, [3, 3]) == nn.Conv2d(1, 2, 3)
    assert hash(nn.LayerNorm([2, 3])) == hash(nn.LayerNorm((2, 3)))
    assert nn.AdaptiveAvgPool2d([None, 2]) == nn.AdaptiveAvgPool2d((None, 2))
    assert nn.MaxPool2d([2, 2]) == nn.MaxPool2d(2, stride=2)
    assert nn.Embedding(5, 2, -1) == nn.Embedding(5, 2, 4)


@each_row(
    "layer",
    [
        *[nn.Linear(4, 4), nn.Embedding(4, 4), nn.LayerNorm(4)],
        *[nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)],
    ],
)
def test_no_layer_with_variables_stands_twice_and_others_may(layer):
    inner, name, relu = nn.Sequential([layer]), type(layer).__name__, nn.ReLU()
    for layers in ([layer, layer], [layer, nn.Sequential([inner])], [inner, nn.ReLU(), inner]):
        with pytest.raises(ValueError, match=f"layers holds one {name} twice: make two layers"):
            nn.Sequential(layers)
    assert nn.Sequential([relu, relu]).apply({}, rows(4)).shape == (4,)


@each_row("fan_in", [1, 2, 3, 7, 32, 784, 1000])
def test_the_bound_of_the_first_weights_rounds_as_torchs(fan_in):
    _, variables, _, layer_torch = both_nets(lambda n, s: n.Linear(fan_in, 9))
    assert_same_weights(variables, layer_torch)


def test_flax_init_has_the_same_distribution():
    wide = jax.jit(nn.Linear(400, 100).init)(KEY, rows(1, 400))["params"]["weight"]
    wide = np.array(wide)
    assert np.abs(wide).max() <= 1 / 20
    deviation = 1 / 20 / np.sqrt(3)  # of a uniform number within ±1/20
    assert abs(wide.mean()) < 5 * deviation / np.sqrt(wide.size)
    assert abs(wide.std() / deviation - 1) < 0.01


# At .42 and .09 one over 1 - p, rounded in one step or in two, differs.
PROBABILITIES = [0.0, 0.09, 0.42, 1.0]


@each_row(
    "p, dtype",
    [
        *itertools.product(PROBABILITIES, ["float32"]),
        *itertools.product([0.42], ["float16", "bfloat16"]),
    ],
)
def test_dropout_equals_torchs_bit_for_bit(p, dtype):
    """Signed zeros and the rounding of the scale included, forward and backward."""
    x, cotangent = (torch.tensor(rows(40, 11, seed=s)).to(getattr(torch, dtype)) for s in range(2))
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    expected = torch.nn.functional.dropout(leaf, p)
    expected.backward(cotangent)
    layer = nn.Sequential([nn.Dropout(p)])

    @jax.jit
    def run(x, draws, cotangent):
        dropped, pull = jax.vjp(lambda x: layer.apply({}, x, train=True, draws=draws), x)
        return dropped, pull(cotangent)[0]

    x_jax, cotangent_jax = (jnp.asarray(to_numpy(t.float()), dtype) for t in (x, cotangent))
    _, draws = nn.draw(layer, jaxnet.random.manual_seed(5), x_jax)
    dropped, slope = run(x_jax, draws, cotangent_jax)
    assert dropped.dtype == dtype
    assert_same_bits(dropped.astype(jnp.float32), expected.float())
    assert leaf.grad is not None
    assert_same_bits(slope.astype(jnp.float32), leaf.grad.float())


def test_dropout_with_a_key_is_flaxs_way():
    x = jnp.ones((200, 50))
    layer = nn.Dropout(0.25)
    keys = (jax.random.key(i) for i in (0, 1))
    first, second = (layer.apply({}, x, train=True, rngs={"dropout": key}) for key in keys)
    assert not np.array_equal(first, second)
    kept = (first != 0).mean()
    assert abs(kept - 0.75) < 5 * np.sqrt(0.75 * 0.25 / x.size)
    assert_same_bits(layer.apply({}, x), x)


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
    variables = jax.jit(layer.init)(KEY, x)

    def program():
        return jax.jit(lambda x: layer.apply(variables, x)).lower(x).as_text()

    assert said in program()
    with jax.default_matmul_precision("default"):
        assert "HIGHEST" not in program()


def test_other_flax_modules_may_stand_among_the_layers():
    net = nn.Sequential([flax.linen.Dense(4), nn.ReLU()])
    assert jax.jit(net.init_with_output)(KEY, rows(2, 5))[0].shape == (2, 4)
    with pytest.raises(TypeError, match="net must be made of jaxnet.nn modules, not Dense"):
        jaxnet.init(net, jaxnet.random.manual_seed(0))


def test_other_modules_are_told_whether_the_net_trains():
    x = rows(60, 5)
    for layer in (flax.linen.Dropout(0.5), flax.linen.BatchNorm(use_scale=False, use_bias=False)):
        net = nn.Sequential([layer, nn.ReLU()])
        variables = jax.jit(net.init)(KEY, x)
        options = {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
        trained, _ = jax.jit(functools.partial(net.apply, train=True, **options))(variables, x)
        assert not np.array_equal(trained, jax.jit(net.apply)(variables, x))


def test_a_net_of_one_dropout_takes_its_mask_itself():
    _, mask = nn.draw(nn.Dropout(0.5), jaxnet.random.manual_seed(1), X)
    _, expected = jaxnet.random.dropout_mask(jaxnet.random.manual_seed(1), 0.5, X.shape)
    assert_same_bits(mask, expected)
    assert nn.Dropout(0.5).apply({}, X, train=True, draws=mask).shape == X.shape


def test_weights_stay_float32_under_x64():
    with jax.enable_x64(True):
        variables = jax.eval_shape(nn.Linear(5, 3).init, KEY, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@each_row("shape", [(5, 7), (3, 5, 7), (7,)])
def test_the_gradient_in_a_linears_weight_is_the_cotangent_times_x(shape):
    """Its own derivative, of which a CPU computes another form than autodiff's, in both modes."""
    rng = np.random.default_rng(0)
    x, weight, change = (rng.normal(size=s).astype(np.float32) for s in (shape, (4, 7), (4, 7)))
    cotangent = rng.normal(size=(*shape[:-1], 4)).astype(np.float32)

    @jax.jit
    def pull(x, weight, cotangent):
        return jax.vjp(lambda w: product(x, w), weight)[1](cotangent)[0]

    @jax.jit
    def push(x, weight, change):
        return jax.jvp(lambda w: product(x, w), (weight,), (change,))[1]

    expected = cotangent.reshape(-1, 4).T.astype(np.float64) @ x.reshape(-1, 7)
    np.testing.assert_allclose(pull(x, weight, cotangent), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        push(x, weight, change), x @ change.T.astype(np.float64), rtol=1e-5, atol=1e-5
    )


@each_row(
    "make",
    [
        nn.ELU,
        nn.LeakyReLU,
        nn.Softplus,
        lambda number: nn.Softplus(threshold=number),
        lambda number: nn.LayerNorm(5, eps=number, elementwise_affine=False).bind({}),
        lambda number: nn.BatchNorm1d(5, eps=number, affine=False, track_running_stats=False).bind(
            {}
        ),
        lambda number: lambda x: nn.AvgPool2d(1, divisor_override=int(number))(x[None, None]),
        lambda number: lambda x: jaxnet.losses.smooth_l1_loss(x, -x, beta=number),
    ],
)
def test_an_integer_of_any_size_is_a_number(make):
    """JAX takes for numbers those of int32 alone."""
    outputs = (make(2**70)(X), make(2.0**70)(X))
    assert_same_bits(*outputs)
