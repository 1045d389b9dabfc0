"""The loader's order and its draws, against torch's DataLoader."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jaxnet.random as random
from jaxnet.data.loader import Batching, make_batching, random_split, start_epoch
from jaxnet.precision import use
from tests.helpers import assert_same_bits, assert_same_state, examples


@examples(10)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    rows=st.sampled_from([1, 2, 5, 48, 50, 700]),
    size=st.sampled_from([1, 3, 5, 16, 50]),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    own=st.booleans(),
)
def test_three_epochs_with_draws_between(seed, rows, size, shuffle, drop_last, own):
    """Orders agree, and so do both streams, the run's and the loader's own, at every epoch."""
    batching = make_batching(rows, min(rows, size), shuffle, drop_last, own)
    generator, its_own = random.manual_seed(seed), random.manual_seed(7)
    torch.manual_seed(seed)
    its_own_torch = torch.Generator()
    its_own_torch.set_state(torch.from_numpy(random.get_state(its_own)))
    numbers: Any = torch.arange(rows)
    options = {"shuffle": shuffle, "drop_last": drop_last}
    options["generator"] = its_own_torch if own else None
    loader = torch.utils.data.DataLoader(numbers, batch_size=batching.size, **options)
    for _ in range(3):
        batches = list(loader)
        if own:
            its_own, order = start_epoch(its_own, batching)
        else:
            generator, order = start_epoch(generator, batching)
        order = np.arange(rows, dtype=np.int32) if order is None else np.asarray(order)
        taken = order[: batching.full * batching.size + batching.left]
        assert_same_bits(taken, torch.cat([*batches, torch.tensor([])]).to(torch.int32))
        assert len(batches) == batching.steps
        generator, values = random.uniform(generator, (5,))
        assert_same_bits(values, torch.rand(5))
        assert_same_state(generator)
        assert_same_bits(random.get_state(its_own), its_own_torch.get_state())


@examples(10)
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    case=st.sampled_from(
        [(10, [3, 7]), (10, [0.3, 0.3, 0.4]), (11, [0.5, 0.5]), (1, [1]), (5, [5]), (7, [0.9, 0.1])]
    ),
)
def test_random_split(seed, case):
    rows, lengths = case
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of an empty part
        expected = torch.utils.data.random_split(range(rows), lengths)  # type: ignore[arg-type]
    generator, parts = random_split(random.manual_seed(seed), rows, lengths)
    assert [part.tolist() for part in parts] == [list(subset.indices) for subset in expected]
    assert_same_state(generator)


@pytest.mark.parametrize(
    "lengths", [[3, 3], [0.5, 0.4], [-1, 11], [5.0, 5.0], [], [0.5, 0.5, 0.5, -0.5]]
)
def test_lengths_that_do_not_split_are_rejected(lengths):
    with pytest.raises(ValueError, match="lengths must sum to the number of rows, 10"):
        random_split(random.manual_seed(0), 10, lengths)


def test_a_full_batch_draws_nothing():
    generator = random.manual_seed(7)
    after, order = start_epoch(generator, Batching(9, None, shuffle=False))
    assert order is None and after is generator


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, None, True), "shuffle=True needs a batch_size"),
        ((5, None, False, True), "drop_last=True needs a batch_size"),
        ((5, 6), "batch_size must be at most the number of rows, 5, not 6"),
        ((5, 0), "batch_size must be an integer of at least 1, not 0"),
    ],
)
def test_batchings_that_do_not_fit_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_batching(*arguments)


def test_a_jax_keys_order_is_the_same_where_x64_is_on():
    batching = Batching(9, 2, shuffle=True)
    _, order = start_epoch(jax.random.key(0), batching)
    with use("float64"):
        assert_same_bits(start_epoch(jax.random.key(0), batching)[1], order)


def test_a_jax_key_is_used_only_to_shuffle():
    key = jax.random.key(0)
    after, order = start_epoch(key, Batching(9, 2, shuffle=False))
    assert order is None and after is key
    after, order = start_epoch(key, Batching(9, 2, shuffle=True))
    assert sorted(np.array(order)) == list(range(9))
    assert after != key
