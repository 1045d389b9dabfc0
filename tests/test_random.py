"""torch's streams, bit for bit, from any position, eager and under jit, scan and vmap."""

import itertools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jaxnet
import jaxnet.random as random
from jaxnet.random._arithmetic import fused_multiply_add
from tests.helpers import assert_same_bits, assert_same_state, each_row, examples
from tests.layers import assert_same_weights

SEEDS = st.integers(-(2**63), 2**64 - 1)
SIZES = st.sampled_from([0, 1, 2, 15, 16, 17, 311, 312, 313, 623, 624, 625, 1300])
# .04, .15 and .42: one over 1 - p, rounded in one step or in two, differs.
PROBABILITIES = st.sampled_from([0.0, 0.04, 0.15, 0.25, 0.42, 0.5, 0.9, 1.0]) | st.floats(0, 1)
few = examples(10)


def at(seed: int, used: int) -> random.Generator:
    """Both streams from a seed, `used` words in; torch's is the global one."""
    torch.manual_seed(seed)
    torch.rand(used)
    return random.uniform(random.manual_seed(seed), (used,))[0]


@few
@given(seed=SEEDS, used=SIZES, size=SIZES)
def test_uniform(seed, used, size):
    generator, values = random.uniform(at(seed, used), (size,), -0.3, 0.7)
    assert_same_bits(values, torch.empty(size).uniform_(-0.3, 0.7))
    assert_same_state(generator)


def test_uniform_never_reaches_high():
    """So narrow that a quarter of the sums round up to the bound."""
    low, high = 1.0, 1.0 + 2.0**-22
    generator, values = random.uniform(at(4, 0), (1000,), low, high)
    assert_same_bits(values, torch.empty(1000).uniform_(low, high))
    assert float(values.max()) < high


def test_uniform_rounds_once_and_the_width_first():
    generator, values = random.uniform(at(0, 0), (100_000,), 0.1, 0.7)
    assert_same_bits(values, torch.empty(100_000).uniform_(0.1, 0.7))


@few
@given(seed=SEEDS, used=SIZES, sizes=st.lists(SIZES, max_size=4), mean=st.floats(-9, 9))
def test_normal(seed, used, sizes, mean):
    """Call after call: the second number of a pair stays for the next short call, whatever lies
    between."""
    generator = at(seed, used)
    for size in sizes:
        generator, values = random.normal(generator, (size,), mean, 0.3)
        assert_same_bits(values, torch.empty(size).normal_(mean, 0.3), where=f"{size} of {sizes}")
        assert_same_state(generator)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("x", "z", "expected"),
    [
        # A hair below the middle of two float32 numbers, where float64 sees the middle itself,
        # and rounding that goes to the even one of the two.
        (2**-24 * (1 + 2**-23), 1 + 2**-23, 1 + 2**-23),
        (2**-24 * (1 + 2**-23), 1.0, 1.0),
        (2**-24 * (1 + 2**-22), 1.0, 1 + 2**-23),  # above it
        (-(2**-24) * (1 + 2**-23), 1 + 2**-22, 1 + 2**-22),
    ],
)
def test_multiplying_and_adding_rounds_once(x, z, expected, sign):
    x, z, expected = (np.float32(sign * value) for value in (x, z, expected))
    assert fused_multiply_add(x, np.float32(1 - 2**-23), z) == expected


def test_normal_of_many():
    """200,003 of them: the logarithms and cosines of that many words, and the row drawn anew."""
    generator, values = random.normal(at(3, 7), (200_003,))
    assert_same_bits(values, torch.randn(200_003))
    assert_same_state(generator)


@few
@given(seed=SEEDS, used=SIZES, size=SIZES, p=PROBABILITIES)
def test_bernoulli(seed, used, size, p):
    generator, values = random.bernoulli(at(seed, used), p, (size,))
    assert_same_bits(values, torch.empty(size).bernoulli_(p).bool())
    assert_same_state(generator)


@few
@given(seed=SEEDS, used=SIZES, size=SIZES, p=PROBABILITIES)
def test_dropout_forward_and_backward(seed, used, size, p):
    """The mask, and what it does to negative numbers, to the scale and to a gradient."""
    generator, keep = random.dropout_mask(at(seed, used), p, (size, 2))
    x, cotangent = np.random.default_rng(seed % 2**32).normal(size=(2, size, 2)).astype(np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    dropped = torch.nn.functional.dropout(leaf, p)
    dropped.backward(torch.tensor(cotangent))
    assert_same_state(generator)
    assert_same_bits(keep, (dropped != 0) | (torch.full_like(leaf, p) == 0))

    def apply(x):
        return jaxnet.nn.Dropout(p).apply({}, x, train=True, draws=keep)

    y, pullback = jax.vjp(jax.jit(apply), jnp.asarray(x))
    assert_same_bits(y, dropped)
    assert_same_bits(pullback(jnp.asarray(cotangent))[0], leaf.grad)


@few
@given(seed=SEEDS, used=SIZES, n=SIZES)
def test_randperm(seed, used, n):
    generator, order = random.randperm(at(seed, used), n)
    assert_same_bits(order, torch.randperm(n, dtype=torch.int32))
    assert_same_state(generator)


@few
@given(
    seed=SEEDS,
    used=SIZES,
    size=SIZES,
    low=st.sampled_from([0, -7, 2**31 - 9, 2**31, -(2**40)]),
    width=st.sampled_from([1, 10, 2**28 - 1, 2**28, 2**31, 2**32, 2**40]) | st.integers(1, 2**62),
)
def test_randint(seed, used, size, low, width):
    """On both sides of 2^28, where torch goes from one word to two, and of what int32 holds."""
    generator, values = random.randint(at(seed, used), low, low + width, (size,))
    assert_same_bits(np.asarray(values, np.int64), torch.randint(low, low + width, (size,)))
    assert_same_state(generator)


def test_randint_over_all_of_int64():
    generator, values = random.randint(at(5, 1), -(2**63), 2**63 - 1, (1000,))
    assert_same_bits(values, torch.randint(-(2**63), 2**63 - 1, (1000,)))
    assert_same_state(generator)


@few
@given(seed=SEEDS, used=SIZES)
def test_random_int64(seed, used):
    generator, value = random.random_int64(at(seed, used))
    assert value == torch.empty((), dtype=torch.int64).random_().item()
    assert_same_state(generator)


def draw_everything(generator):
    """One of each draw that works in a compiled run."""
    generator, keep = random.dropout_mask(generator, 0.3, (7, 9))
    generator, order = random.randperm(generator, 33)
    generator, numbers = random.randint(generator, -5, 2**28 - 6, (3,))
    generator, coins = random.bernoulli(generator, 0.42, (11,))
    return generator, (keep, order, numbers, coins)


def test_draws_are_the_same_inside_a_scan():
    begin = random.manual_seed(8)
    generator, drawn = jax.lax.scan(lambda g, _: draw_everything(g), begin, length=40)
    torch.manual_seed(8)
    for keep, order, numbers, coins in zip(*drawn, strict=True):
        assert_same_bits(keep, torch.nn.functional.dropout(torch.ones(7, 9), 0.3) != 0)
        assert_same_bits(order, torch.randperm(33, dtype=torch.int32))
        assert_same_bits(numbers, torch.randint(-5, 2**28 - 6, (3,)).int())
        assert_same_bits(coins, torch.empty(11).bernoulli_(0.42).bool())
    assert_same_state(generator)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_lane_of_a_vmap_is_the_solo_generator(device):
    solo = [random.uniform(random.manual_seed(s, device), (abs(s),))[0] for s in range(-5, 59)]
    lanes = stack(solo)
    after, drawn = jax.vmap(draw_everything)(lanes)
    for lane, generator in enumerate(solo):
        expected = jax.tree.leaves(draw_everything(generator))
        for mine, its in zip(jax.tree.leaves((after, drawn)), expected, strict=True):
            assert_same_bits(mine[lane], its, where=f"lane {lane}")


def test_only_the_low_32_bits_of_a_seed_reach_the_cpus_stream():
    seeds = (0, 1, 2**32, -1, 2**64 - 1)
    words = [random.manual_seed(seed).key for seed in seeds]
    assert not np.array_equal(words[0], words[1])
    assert_same_bits(words[0], words[2])
    assert_same_bits(words[3], words[4])


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, "one", None, 1.5, "1", True, -1])
def test_seeds_are_taken_and_refused_as_torch_does(seed):
    try:
        torch.manual_seed(seed)
    except (ValueError, TypeError, RuntimeError):
        with pytest.raises((ValueError, TypeError), match="seed must"):
            random.manual_seed(seed)
    else:
        assert_same_state(random.manual_seed(seed))


@few
@given(seed=SEEDS, used=SIZES, normals=st.sampled_from([0, 1, 2, 16]))
def test_state_goes_both_ways(seed, used, normals):
    """torch's bytes make the generator, the generator makes torch's bytes, and both go on alike."""
    torch.manual_seed(seed)
    torch.rand(used)
    torch.randn(normals)
    generator = random.set_state(torch.get_rng_state().numpy())
    assert_same_state(generator)
    generator, values = random.normal(generator, (3,))
    torch.set_rng_state(torch.from_numpy(random.get_state(generator)))
    generator, following = random.normal(generator, (3,))
    assert_same_bits(following, torch.randn(3))
    assert_same_state(random.set_state(random.get_state(generator).tobytes()))


def change(index: int, value: int) -> np.ndarray:
    """A state with one byte changed."""
    state = random.get_state(random.manual_seed(1))
    state[index] = value
    return state


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros(5056, np.uint8), ValueError, "torch.get_rng_state returned"),
        (np.zeros(5055, np.uint8), ValueError, r"shape \(5056,\), not \(5055,\)"),
        (b"", ValueError, r"not \(0,\)"),
        (np.zeros(5056), TypeError, "uint8"),
        (None, TypeError, "uint8"),
        (change(8, 7), ValueError, "torch.get_rng_state returned"),  # left and next disagree
        (change(28, 1), ValueError, "torch.get_rng_state returned"),  # a word of 33 bits
        (change(5040, 2), ValueError, "torch.get_rng_state returned"),
        (change(5052, 1), ValueError, "torch.get_rng_state returned"),
    ],
)
def test_states_that_are_none_are_refused(state, error, message):
    with pytest.raises(error, match=message):
        random.set_state(state)


def stack(generators: list[random.Generator]) -> random.Generator:
    """One generator's leaves beside another's, for vmap."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *generators)


@each_row(
    ("call", "message"),
    [
        (lambda g: random.uniform(g, (-1, 3)), "shape must not have negative sizes"),
        (lambda g: random.normal(g, (-1, 40)), "shape must not have negative sizes"),
        (lambda g: random.bernoulli(g, 0.5, -1), "shape must not have negative sizes"),
        (lambda g: random.dropout_mask(g, 0.5, (-1, 700)), "shape must not have negative sizes"),
        (lambda g: random.randint(g, 0, 9, [-5]), "shape must not have negative sizes"),
        (lambda g: random.xavier_normal(g, (-5, 2)), "shape must not have negative sizes"),
        (lambda g: random.uniform(stack([g, g]), (2,)), r"not \(2,\) of them: use jax.vmap"),
        (lambda g: random.dropout_mask(stack([g, g]), 0.5, (2,)), "use jax.vmap"),
        (lambda g: random.uniform(g, (2,), 1.0, 0.0), "low must not exceed high"),
        (lambda g: random.uniform(g, (2,), 0.0, float("inf")), "low must not exceed high"),
        (lambda g: random.normal(g, (2,), 0.0, -1.0), "std not negative"),
        (lambda g: random.normal(g, (2,), float("nan")), "must be finite"),
        (lambda g: random.bernoulli(g, 1.1, (2,)), "p must be a probability"),
        (lambda g: random.dropout_mask(g, -0.1, (2,)), "p must be a probability"),
        (lambda g: random.dropout_mask(g, float("nan"), (2,)), "p must be a probability"),
        (lambda g: random.randperm(g, -1), "n must lie between"),
        (lambda g: random.randperm(g, 2**32 // 20), "n must lie between"),
        (lambda g: random.randint(g, 3, 3, (2,)), "low must be below high"),
        (lambda g: random.randint(g, 0, 2**63, (2,)), "int64's range"),
        (lambda g: random.kaiming_uniform(g, (2,)), "at least two axes"),
        (lambda g: random.kaiming_normal(g, (2, 2), mode="fan"), 'must be "fan_in" or "fan_out"'),
        (lambda g: random.kaiming_normal(g, (2, 2), nonlinearity="gelu"), "must be one of linear"),
        (lambda g: random.xavier_uniform(g, (2,)), "at least two axes"),
        (lambda g: random.trunc_normal(g, (2,), a=1.0, b=1.0), "a must be below b"),
        (lambda g: random.trunc_normal(g, (2,), std=0.0), "std above 0"),
        (lambda g: random.manual_seed(0, "gpu"), 'device must be "cpu" or "cuda"'),
        (lambda g: random.manual_seed(0, "cuda", 0), "multiprocessors must be an integer"),
        (lambda g: random.manual_seed(0, "cuda", 1, 255), "threads_per_multiprocessor must be"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(random.manual_seed(0))


def test_a_bound_that_is_no_integer_is_refused():
    bounds: Any = [(0.0, 3), (0, 2.5), (False, 3)]
    for low, high in bounds:
        with pytest.raises(TypeError):
            random.randint(random.manual_seed(0), low, high, (2,))


@each_row(
    "call",
    [
        *[lambda g: random.uniform(g, (2,)), lambda g: random.normal(g, (2,))],
        *[lambda g: random.normal(g, (20,)), lambda g: random.random_int64(g)[0]],
        *[lambda g: random.randint(g, 0, 2**28, (2,)), lambda g: random.kaiming_uniform(g, (2, 2))],
        *[lambda g: random.kaiming_normal(g, (2, 2)), lambda g: random.xavier_uniform(g, (2, 2))],
        *[lambda g: random.xavier_normal(g, (2, 2)), lambda g: random.trunc_normal(g, (2, 2))],
        lambda g: random.get_state(g),
    ],
)
def test_host_draws_refuse_tracers(call):
    with pytest.raises(TypeError, match="generator must be concrete"):
        jax.jit(call)(random.manual_seed(0))


def test_seeds_and_states_refuse_tracers():
    with pytest.raises(TypeError, match="seed must be concrete, not traced: for many at once"):
        jax.vmap(random.manual_seed)(jnp.arange(3))
    with pytest.raises(TypeError, match="state must be concrete"):
        jax.jit(random.set_state)(random.get_state(random.manual_seed(0)))


def test_a_shape_may_be_a_list_or_one_size():
    expected = random.uniform(random.manual_seed(0), (6,))[1]
    for shape in (6, [6]):
        assert_same_bits(random.uniform(random.manual_seed(0), shape)[1], expected)


@pytest.mark.parametrize(
    "draw_from", [lambda g: random.normal(g, (2,)), lambda g: random.randint(g, 0, 2, (2,))]
)
def test_a_jax_key_is_no_generator(draw_from):
    with pytest.raises(TypeError):
        draw_from(jax.random.key(0))


# Tensors of 0, 1, 15, 16 and 17 elements too: `normal` changes its ways at 16.
SHAPES = [(3, 5), (32, 784), (4, 3, 3, 3), (1, 1), (4, 4), (17, 1), (5, 3, 2)]
shapes = st.sampled_from([*SHAPES, (0, 3)])


@few
@given(
    seed=SEEDS,
    used=SIZES,
    shape=shapes,
    mode=st.sampled_from(["fan_in", "fan_out"]),
    nonlinearity=st.sampled_from(["leaky_relu", "relu", "tanh", "selu", "linear", "conv2d"]),
    slope=st.sampled_from([0.0, 0.3, 5**0.5]),
)
def test_kaiming(seed, used, shape, mode, nonlinearity, slope):
    arguments = (slope, mode, nonlinearity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of a tensor without elements
        generator, weight = random.kaiming_uniform(at(seed, used), shape, *arguments)
        assert_same_bits(weight, torch.nn.init.kaiming_uniform_(torch.empty(shape), *arguments))
        generator, weight = random.kaiming_normal(generator, shape, *arguments)
        assert_same_bits(weight, torch.nn.init.kaiming_normal_(torch.empty(shape), *arguments))
    assert_same_state(generator)


@few
@given(seed=SEEDS, used=SIZES, shape=shapes, gain=st.sampled_from([1.0, 1.7]))
def test_xavier(seed, used, shape, gain):
    generator, weight = random.xavier_uniform(at(seed, used), shape, gain)
    assert_same_bits(weight, torch.nn.init.xavier_uniform_(torch.empty(shape), gain))
    generator, weight = random.xavier_normal(generator, shape, gain)
    assert_same_bits(weight, torch.nn.init.xavier_normal_(torch.empty(shape), gain))
    assert_same_state(generator)


@few
@given(
    seed=SEEDS,
    used=SIZES,
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    bias=st.booleans(),
)
def test_initial_weights_of_a_net(seed, used, sizes, bias):
    """Layer by layer, in the order in which torch constructs them."""
    generator = at(seed, used)
    pairs = list(itertools.pairwise(sizes))
    net_torch = torch.nn.Sequential(*(torch.nn.Linear(*pair, bias=bias) for pair in pairs))
    net = jaxnet.nn.Sequential([jaxnet.nn.Linear(*pair, bias=bias) for pair in pairs])
    generator, variables = jaxnet.init(net, generator)
    assert_same_weights(variables, net_torch)
    assert_same_state(generator)


@pytest.mark.skipif(
    [int(part) for part in torch.__version__.split(".")[:2]] < [2, 13],
    reason="older torch draws truncated normal numbers by another rule",
)
@pytest.mark.parametrize("shape", SHAPES)
@each_row(
    "arguments",
    [
        (0.0, 1.0, -2.0, 2.0),
        (0.3, 0.02, -2.0, 2.0),
        (0.0, 1.0, 0.0, 1.0),  # a third of the distribution: whole tensors drawn anew
        (0.0, 1.0, 0.5, 0.7),  # little of it: candidates accepted or not
        (0.1, 1.0, -0.1, 0.1),
        (0.0, 1.0, 2.0, 3.0),
        (1.0, 2.0, -9.0, -5.0),  # far off: a warning, in torch too
    ],
)
def test_trunc_normal(shape, arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(5):
            generator, weight = random.trunc_normal(at(seed, 3), shape, *arguments)
            assert_same_bits(weight, torch.nn.init.trunc_normal_(torch.empty(shape), *arguments))
            assert_same_state(generator)
    assert len(caught) == (10 if arguments[3] == -5.0 else 0)


def test_initializers_draw_nothing_for_nothing():
    generator = random.manual_seed(1)
    for fill in (random.kaiming_uniform, random.kaiming_normal, random.xavier_normal):
        after, weight = fill(generator, (0, 3))
        assert weight.shape == (0, 3)
        assert_same_bits(random.get_state(after), random.get_state(generator))
