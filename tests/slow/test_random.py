"""A thousand million words of torch's stream, and millions of a card's."""

import numpy as np
import torch

from jaxnet import random
from jaxnet.random.mt19937 import draw
from tests import test_philox
from tests.helpers import assert_same_bits, assert_same_state


def test_a_thousand_million_words():
    count, rounds = 10_000_000, 100
    generator = random.manual_seed(-3)
    torch.manual_seed(-3)
    for _ in range(rounds):
        generator, words = draw(generator, count)
        # Two words each; the remainder changes only the largest of 2^64 values.
        pairs = torch.randint(-(2**63), 2**63 - 1, (count // 2,)).numpy().view(np.uint64)
        expected = (pairs + np.uint64(2**63)).view(np.uint32).reshape(-1, 2)[:, ::-1].reshape(-1)
        assert_same_bits(words, expected)
    assert_same_state(generator)


def test_posted_normal_numbers_of_another_card():
    test_philox.test_posted_normal_numbers(*test_philox.POSTED[0])
