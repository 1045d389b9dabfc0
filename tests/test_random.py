"""torch's streams, bit for bit, from any position, eager and under jit, scan and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxnet.random as random
from tests.helpers import assert_same_bits

SEEDS = st.integers(-(2**63), 2**64 - 1)
SIZES = st.sampled_from([0, 1, 2, 15, 16, 17, 311, 312, 313, 623, 624, 625, 1300])
PROBABILITIES = st.sampled_from([0.0, 0.04, 0.15, 0.25, 0.42, 0.5, 0.9, 1.0]) | st.floats(0, 1)
few = settings(max_examples=30, deadline=None)


def at(seed: int, used: int) -> random.Generator:
    """Both streams from a seed, `used` words in; torch's is the global one."""
    torch.manual_seed(seed)
    torch.rand(used)
    return random.uniform(random.manual_seed(seed), (used,))[0]


def assert_same_position(generator: random.Generator) -> None:
    """The next words agree."""
    _, following = random.uniform(generator, (3,))
    assert_same_bits(following, torch.rand(3), where="the stream afterwards")


@few
@given(seed=SEEDS, used=SIZES, size=SIZES)
def test_uniform(seed, used, size):
    generator = at(seed, used)
    generator, values = random.uniform(generator, (size,), -0.3, 0.7)
    assert_same_bits(values, torch.empty(size).uniform_(-0.3, 0.7))
    assert_same_position(generator)


def test_uniform_rounds_once_and_the_width_first():
    generator, values = random.uniform(random.manual_seed(0), (100_000,), 0.1, 0.7)
    torch.manual_seed(0)
    assert_same_bits(values, torch.empty(100_000).uniform_(0.1, 0.7))


@few
@given(seed=SEEDS, used=SIZES, size=SIZES, p=PROBABILITIES)
def test_bernoulli(seed, used, size, p):
    generator = at(seed, used)
    generator, values = random.bernoulli(generator, p, (size,))
    assert_same_bits(values, torch.empty(size).bernoulli_(p).bool())
    assert_same_position(generator)


@few
@given(seed=SEEDS, used=SIZES, size=SIZES, p=PROBABILITIES)
def test_dropout_mask(seed, used, size, p):
    generator = at(seed, used)
    generator, keep = random.dropout_mask(generator, p, (size, 2))
    dropped = torch.nn.functional.dropout(torch.ones(size, 2), p)
    assert_same_bits(keep, dropped != 0)
    assert_same_position(generator)


@few
@given(seed=SEEDS, used=SIZES, n=SIZES)
def test_randperm(seed, used, n):
    generator = at(seed, used)
    generator, order = random.randperm(generator, n)
    assert_same_bits(order, torch.randperm(n, dtype=torch.int32))
    assert_same_position(generator)


def test_draws_are_the_same_inside_a_scan():
    def body(generator, _):
        generator, keep = random.dropout_mask(generator, 0.3, (7, 9))
        generator, order = random.randperm(generator, 33)
        return generator, (keep, order)

    generator, (masks, orders) = jax.lax.scan(body, random.manual_seed(8), length=40)
    torch.manual_seed(8)
    for keep, order in zip(masks, orders, strict=True):
        assert_same_bits(keep, torch.nn.functional.dropout(torch.ones(7, 9), 0.3) != 0)
        assert_same_bits(order, torch.randperm(33, dtype=torch.int32))
    assert_same_position(generator)


def test_each_lane_of_a_vmap_is_the_solo_generator():
    seeds = range(-5, 59)
    solo = [random.uniform(random.manual_seed(s), (abs(s),))[0] for s in seeds]
    lanes = jax.tree.map(lambda *leaves: jnp.stack(leaves), *solo)
    after, masks = jax.vmap(lambda g: random.dropout_mask(g, 0.42, (30,)))(lanes)
    _, orders = jax.vmap(lambda g: random.randperm(g, 20))(after)
    for lane, generator in enumerate(solo):
        generator, keep = random.dropout_mask(generator, 0.42, (30,))
        assert_same_bits(masks[lane], keep)
        assert_same_bits(orders[lane], random.randperm(generator, 20)[1])


def test_two_seeds_differ_and_only_the_low_32_bits_count():
    words = [random.manual_seed(seed).key for seed in (0, 1, 2**32, -1, 2**64 - 1)]
    assert not np.array_equal(words[0], words[1])
    assert_same_bits(words[0], words[2])
    assert_same_bits(words[3], words[4])


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, "one", None, 1.5, "1", True])
def test_seeds_are_taken_and_refused_as_torch_does(seed):
    try:
        torch.manual_seed(seed)
    except (ValueError, TypeError, RuntimeError):
        with pytest.raises((ValueError, TypeError), match="seed must"):
            random.manual_seed(seed)
    else:
        assert_same_position(random.manual_seed(seed))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: random.uniform(g, (2,), 1.0, 0.0), "low must not exceed high"),
        (lambda g: random.uniform(g, (2,), 0.0, float("inf")), "low must not exceed high"),
        (lambda g: random.bernoulli(g, 1.1, (2,)), "p must be a probability"),
        (lambda g: random.dropout_mask(g, -0.1, (2,)), "p must be a probability"),
        (lambda g: random.dropout_mask(g, float("nan"), (2,)), "p must be a probability"),
        (lambda g: random.randperm(g, -1), "n must lie between"),
        (lambda g: random.randperm(g, 2**32 // 20), "n must lie between"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(random.manual_seed(0))


def test_host_draws_refuse_tracers():
    with pytest.raises(TypeError, match="generator must be concrete"):
        jax.jit(lambda g: random.uniform(g, (2,)))(random.manual_seed(0))
