"""torch's streams, bit for bit, from any position, eager and under jit, scan and vmap."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jaxnet.random as random
from jaxnet.random._arithmetic import fused_multiply_add
from tests.helpers import assert_same_bits, assert_same_state, each_row, examples

SEEDS = st.integers(-(2**63), 2**64 - 1)
SIZES = st.sampled_from([0, 1, 2, 15, 16, 17, 312, 623, 624, 625, 1300])
# .04, .15 and .42: one over 1 - p, rounded in one step or in two, differs.
PROBABILITIES = st.sampled_from([0.0, 0.04, 0.15, 0.25, 0.42, 0.5, 0.9, 1.0]) | st.floats(0, 1)
# On both sides of 2^28, where torch goes from one word to two, and of what int32 holds.
LOWS = st.sampled_from([0, -7, 2**31 - 9, 2**31, -(2**40)])
WIDTHS = st.sampled_from([1, 10, 2**28 - 1, 2**28, 2**31, 2**32, 2**40]) | st.integers(1, 2**62)
# Tensors of 0, 1, 15, 16 and 17 elements too: `normal` changes its ways at 16.
SHAPES = [(3, 5), (32, 784), (4, 3, 3, 3), (1, 1), (4, 4), (17, 1), (5, 3, 2)]
OF_WEIGHTS = st.sampled_from([*SHAPES, (0, 3)])
MODES = st.sampled_from(["fan_in", "fan_out"])
SLOPES = st.sampled_from([0.0, 0.3, 5**0.5])
KINDS = st.sampled_from(["leaky_relu", "relu", "tanh", "selu", "linear", "conv2d"])


def at(seed: int, used: int) -> random.Generator:
    """Both streams from a seed, `used` words in; torch's is the global one."""
    torch.manual_seed(seed)
    torch.rand(used)
    return random.uniform(random.manual_seed(seed), (used,))[0]


def initializer(name: str, *arguments):
    """An initializer's arguments, and its function in either library."""
    fill = getattr(torch.nn.init, f"{name}_")
    own = getattr(random, name)
    return st.tuples(OF_WEIGHTS, *arguments), own, lambda shape, *a: fill(torch.empty(shape), *a)


CALLS: dict[str, Any] = {
    "uniform": (
        st.tuples(SIZES),
        lambda g, n: random.uniform(g, (n,), -0.3, 0.7),
        lambda n: torch.empty(n).uniform_(-0.3, 0.7),
    ),
    "normal": (
        st.tuples(SIZES, st.floats(-9, 9)),
        lambda g, n, mean: random.normal(g, (n,), mean, 0.3),
        lambda n, mean: torch.empty(n).normal_(mean, 0.3),
    ),
    "bernoulli": (
        st.tuples(SIZES, PROBABILITIES),
        lambda g, n, p: random.bernoulli(g, p, (n,)),
        lambda n, p: torch.empty(n).bernoulli_(p).bool(),
    ),
    "dropout_mask": (
        st.tuples(SIZES, PROBABILITIES),
        lambda g, n, p: random.dropout_mask(g, p, (n, 2)),
        lambda n, p: torch.nn.functional.dropout(torch.ones(n, 2), p) != 0,
    ),
    "randperm": (st.tuples(SIZES), random.randperm, lambda n: torch.randperm(n).int()),
    "randint": (
        st.tuples(SIZES, LOWS, WIDTHS),
        lambda g, n, low, width: random.randint(g, low, low + width, (n,)),
        lambda n, low, width: torch.randint(low, low + width, (n,)),
    ),
    "random_int64": (
        st.just(()),
        random.random_int64,
        lambda: torch.empty((), dtype=torch.int64).random_(),
    ),
    "kaiming_uniform": initializer("kaiming_uniform", SLOPES, MODES, KINDS),
    "kaiming_normal": initializer("kaiming_normal", SLOPES, MODES, KINDS),
    "xavier_uniform": initializer("xavier_uniform", st.sampled_from([1.0, 1.7])),
    "xavier_normal": initializer("xavier_normal", st.sampled_from([1.0, 1.7])),
}


@examples(15, derandomize=True)
@given(
    seed=SEEDS,
    used=SIZES,
    calls=st.lists(
        st.one_of(*(st.tuples(st.just(name), call[0]) for name, call in CALLS.items())), max_size=6
    ),
)
def test_any_draws_in_any_order(seed, used, calls):
    """Call after call, and the state after each: the second normal number of a pair, for one, stays
    for the next short call, whatever lies between."""
    generator = at(seed, used)
    for name, arguments in calls:
        _, draw, draw_torch = CALLS[name]
        with warnings.catch_warnings(action="ignore"):  # torch's, of a tensor without elements
            expected = draw_torch(*arguments)
            generator, values = draw(generator, *arguments)
        values = np.asarray(values)
        values = values.astype(np.int64) if expected.dtype == torch.int64 else values
        assert_same_bits(values, expected, where=f"{name} {arguments} of {calls}")
        assert_same_state(generator)


@each_row("seed, count, low, high", [(4, 1000, 1.0, 1.0 + 2.0**-22), (0, 100_000, 0.1, 0.7)])
def test_uniform_rounds_once_and_never_reaches_high(seed, count, low, high):
    """Also so narrow that a quarter of the sums round up to the bound."""
    _, values = random.uniform(at(seed, 0), (count,), low, high)
    assert_same_bits(values, torch.empty(count).uniform_(low, high))
    assert float(values.max()) < np.float32(high)


@each_row(
    "x, z, expected",
    [
        # A hair below the middle of two float32 numbers, where float64 sees the middle itself,
        # and rounding that goes to the even one of the two.
        (2**-24 * (1 + 2**-23), 1 + 2**-23, 1 + 2**-23),
        (2**-24 * (1 + 2**-23), 1.0, 1.0),
        (2**-24 * (1 + 2**-22), 1.0, 1 + 2**-23),  # above it
        (-(2**-24) * (1 + 2**-23), 1 + 2**-22, 1 + 2**-22),
    ],
)
def test_multiplying_and_adding_rounds_once(x, z, expected):
    for sign in (1, -1):
        x, z, expected = (np.float32(sign * value) for value in (x, z, expected))
        assert fused_multiply_add(x, np.float32(1 - 2**-23), z) == expected


def test_normal_of_many():
    """200,003 of them: the logarithms and cosines of that many words, and the row drawn anew."""
    generator, values = random.normal(at(3, 7), (200_003,))
    assert_same_bits(values, torch.randn(200_003))
    assert_same_state(generator)


def test_randint_over_all_of_int64():
    generator, values = random.randint(at(5, 1), -(2**63), 2**63 - 1, (1000,))
    assert_same_bits(values, torch.randint(-(2**63), 2**63 - 1, (1000,)))
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
    used = (0, 1, 5, 620, 624, 2000)
    solo = [random.uniform(random.manual_seed(-n, device), (n,))[0] for n in used]
    after, drawn = jax.jit(jax.vmap(draw_everything))(stack(solo))
    draw_one = jax.jit(draw_everything)
    for lane, generator in enumerate(solo):
        expected = jax.tree.leaves(draw_one(generator))
        for mine, its in zip(jax.tree.leaves((after, drawn)), expected, strict=True):
            assert_same_bits(mine[lane], its, where=f"lane {lane}")


@each_row(
    "seed", [2**64, -(2**63) - 1, "one", None, -1, 2**64 - 1, np.uint64(2**64 - 1), np.array(3)]
)
def test_seeds_are_taken_and_rejected_as_torch_does(seed):
    try:
        torch.manual_seed(seed)
    except (ValueError, TypeError, RuntimeError):
        with pytest.raises((ValueError, TypeError), match="seed must"):
            random.manual_seed(seed)
    else:
        assert_same_state(random.manual_seed(seed))


@examples(5)
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


@each_row("index, value", [(8, 7), (28, 1), (5040, 2), (5052, 1)])
def test_a_damaged_state_is_rejected(index, value):
    """left and next disagree, a word of 33 bits, flags that are none."""
    state = random.get_state(random.manual_seed(1))
    state[index] = value
    with pytest.raises(ValueError, match="torch.get_rng_state returned"):
        random.set_state(state)


def stack(generators: list[random.Generator]) -> random.Generator:
    """One generator's leaves beside another's, for vmap."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *generators)


def test_a_shape_may_be_a_list_or_one_size():
    expected = random.uniform(random.manual_seed(0), (6,))[1]
    for shape in (6, [6]):
        assert_same_bits(random.uniform(random.manual_seed(0), shape)[1], expected)


@pytest.mark.skipif(
    [int(part) for part in torch.__version__.split(".")[:2]] < [2, 13],
    reason="older torch draws truncated normal numbers by another rule",
)
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
def test_trunc_normal(arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed, shape in enumerate(SHAPES):
            generator, weight = random.trunc_normal(at(seed, 3), shape, *arguments)
            assert_same_bits(weight, torch.nn.init.trunc_normal_(torch.empty(shape), *arguments))
            assert_same_state(generator)
    assert len(caught) == (2 * len(SHAPES) if arguments[3] == -5.0 else 0)
