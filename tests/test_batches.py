"""The loader's order and its draws, against torch's DataLoader."""

from typing import Any

import jax
import numpy as np
import pytest
import torch

import jaxnet.random as random
from jaxnet.batches import Batching, start_epoch
from tests.helpers import assert_same_bits


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(50, 16), (48, 16), (5, 5), (1, 1), (700, 3)])
def test_three_epochs_with_draws_between(rows, size, shuffle):
    """Orders agree, and so does the stream that dropout draws from in between."""
    torch.manual_seed(7)
    numbers: Any = torch.arange(rows)
    loader = torch.utils.data.DataLoader(numbers, batch_size=size, shuffle=shuffle)
    generator = random.manual_seed(7)
    for _ in range(3):
        batches = list(loader)
        generator, order = start_epoch(generator, Batching(rows, size, shuffle))
        order = np.arange(rows, dtype=np.int32) if order is None else order
        assert_same_bits(order, torch.cat(batches).to(torch.int32))
        assert len(batches) == Batching(rows, size, shuffle).steps
        generator, values = random.uniform(generator, (5,))
        assert_same_bits(values, torch.rand(5))


def test_a_full_batch_draws_nothing():
    generator = random.manual_seed(7)
    after, order = start_epoch(generator, Batching(9, None, shuffle=False))
    assert order is None and after is generator


def test_a_jax_key_is_used_only_to_shuffle():
    key = jax.random.key(0)
    after, order = start_epoch(key, Batching(9, 2, shuffle=False))
    assert order is None and after is key
    after, order = start_epoch(key, Batching(9, 2, shuffle=True))
    assert sorted(np.array(order)) == list(range(9))
    assert after != key
