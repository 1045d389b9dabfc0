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


@examples(5)
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


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_persistent_workers_have_one_base_seed(shuffle, own):
    """torch's sampler, epoch after epoch; `tests/integration` holds it against torch's workers."""
    batching = make_batching(50, 16, shuffle, own=own, persistent_workers=True)
    torch.manual_seed(3)
    its_own = torch.Generator().manual_seed(3) if own else None
    numbers: Any = range(50)
    sampler = torch.utils.data.SequentialSampler(numbers)
    if shuffle:
        sampler = torch.utils.data.RandomSampler(numbers, generator=its_own)
    torch.empty((), dtype=torch.int64).random_(generator=its_own)
    generator = random.manual_seed(3)
    for epoch in range(3):
        generator, order = jax.jit(start_epoch, static_argnums=1)(generator, batching, epoch == 0)
        assert list(sampler) == (list(range(50)) if order is None else order.tolist())
        state = torch.get_rng_state() if its_own is None else its_own.get_state()
        assert_same_bits(random.get_state(generator), state)


@examples(5)
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


def test_a_full_batch_draws_nothing():
    generator = random.manual_seed(7)
    after, order = start_epoch(generator, Batching(9, None, shuffle=False))
    assert order is None and after is generator


def test_a_jax_key_is_used_only_to_shuffle():
    """To the same order where x64 is on."""
    key = jax.random.key(0)
    after, order = start_epoch(key, Batching(9, 2, shuffle=False))
    assert order is None and after is key
    after, order = start_epoch(key, Batching(9, 2, shuffle=True))
    assert sorted(np.array(order)) == list(range(9)) and after != key
    with use("float64"):
        assert_same_bits(start_epoch(key, Batching(9, 2, shuffle=True))[1], order)
