"""torch's CUDA masks: the generator's published answers, what others' cards gave, and a card.

Without a card, what is known of torch's own output is what people have posted; a test says where.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jaxnet.random as random
from jaxnet.random._philox import draw_words, philox
from jaxnet.random.distributions import first_word_not_below
from tests.helpers import assert_same_bits, examples

A100, H100 = {"multiprocessors": 108}, {"multiprocessors": 132}

PI = "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0"
# kat_vectors of the Random123 distribution, philox4x32-10: counter, key, words.
ANSWERS = [
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (PI[:35], PI[36:], "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def from_hex(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS)
def test_known_answers_of_philox(counter, key, words):
    parts: Any = tuple(jnp.asarray(word)[None] for word in from_hex(counter))
    assert_same_bits(jnp.concatenate(philox(from_hex(key), parts)), from_hex(words))


def to_unit(words: Any) -> np.ndarray:
    """Numbers in (0, 1], as torch makes them of words."""
    return np.asarray(words).astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)


def draw_unit(generator: random.Generator, count: int) -> tuple[random.Generator, np.ndarray]:
    """Numbers in (0, 1] as `torch.rand(count, device="cuda")` makes them."""
    assert generator.cuda is not None
    stream, words = draw_words(generator.cuda, generator.seed, count, 1)
    return generator._replace(cuda=stream), to_unit(words)


def test_posted_uniform_numbers():
    """`torch.manual_seed(0)`, then `torch.rand(10, device="cuda")` twice, widely posted."""
    generator, first = draw_unit(random.manual_seed(0, "cuda"), 10)
    _, second = draw_unit(generator, 10)
    posted = [0.3990, 0.5167, 0.0249, 0.9401, 0.9459, 0.7967, 0.4150, 0.8203, 0.2290, 0.9096]
    np.testing.assert_allclose(first, posted, atol=5.1e-5, rtol=0)
    posted = [0.9722, 0.7910, 0.4690, 0.3300, 0.3345, 0.3783, 0.7640, 0.6405, 0.1103, 0.3594]
    np.testing.assert_allclose(second, posted, atol=5.1e-5, rtol=0)


POSTED = [
    # github.com/pytorch/pytorch/issues/143086: the same seed on two cards.
    (H100, 1, 49 * 12 * 112 * 144, 3, [-0.2963, 2.6764, -0.1408, -0.6970, -0.7780, 0.3267]),
    (A100, 1, 49 * 12 * 112 * 144, 3, [-0.2963, 2.6764, -0.1408, 0.1549, -0.6797, -0.1656]),
    # github.com/pytorch/pytorch/issues/79496
    (H100, 10, 3, 3, [-0.1029, 1.6810, -0.2708]),
]
"""The first is drawn in `tests/slow`: nine million numbers of one card are enough here."""


@pytest.mark.parametrize(("card", "seed", "count", "ends", "posted"), POSTED[1:])
def test_posted_normal_numbers(card, seed, count, ends, posted):
    """Box and Muller in float64 here: enough for the four places posted, to see whose words."""
    generator = random.manual_seed(seed, "cuda", **card)
    assert generator.cuda is not None
    words = np.asarray(draw_words(generator.cuda, generator.seed, count, 1)[1])
    threads = generator.cuda.threads(count)
    values = []
    for index in np.r_[0:ends, max(ends, count - ends) : count]:
        turn, rest = divmod(int(index), 4 * threads)
        lane, thread = divmod(rest, threads)
        block = philox_in_python(seed, turn, thread)
        assert words[index] == block[lane]
        pair = lane - lane % 2
        radius, angle = (word * 2.0**-32 + 2.0**-33 for word in block[pair : pair + 2])
        turned = (math.sin, math.cos)[lane % 2](2 * math.pi * angle)
        values.append(math.sqrt(-2 * math.log(radius)) * turned)
    np.testing.assert_allclose(values, posted, atol=6e-5, rtol=0)


def test_posted_mask_of_an_rtx_4080_super():
    """github.com/intel/torch-xpu-ops/issues/2926: the first and the last zeros of a mask."""
    card = random.manual_seed(1, "cuda", multiprocessors=80, threads_per_multiprocessor=1536)
    _, keep = random.dropout_mask(card, 0.1, (512 * 4 * 1024,))
    dropped = np.flatnonzero(~np.asarray(keep))
    assert dropped[:3].tolist() == [8, 14, 20]
    assert dropped[-3:].tolist() == [2097121, 2097140, 2097151]


@pytest.mark.parametrize(("multiprocessors", "total"), [(56, 999826.0), (13, 999100.0)])
def test_posted_sums_of_a_p100_and_a_k80(multiprocessors, total):
    """github.com/pytorch/pytorch/issues/25690, of 2019, when a million elements, too, went through
    the kernel that today serves odd counts: the sum of what Dropout(0.5) makes of ones."""
    generator = random.manual_seed(0, "cuda", multiprocessors=multiprocessors)
    _, values = random.bernoulli(generator, 0.5, (1000, 1000))
    assert 2.0 * np.asarray(values).sum() == total


def emulate_dropout(seed: int, block: int, count: int, p: float, threads: int) -> np.ndarray:
    """One thread after another, as the source of torch's kernels reads, with 64-bit integers."""
    vector = next(v for v in (4, 2, 1) if count % v == 0)
    keep = np.zeros(count, bool)
    for thread in range(threads):
        turn = 0
        start, stride, span = (
            (thread * vector, vector, threads * vector) if vector > 1 else (thread, 4, 4 * threads)
        )
        for begin in range(start, count, span):
            words = philox_in_python(seed, block + turn, thread)
            for lane in range(stride):
                index = begin + lane if vector > 1 else begin + lane * threads
                if index < count:
                    unit = np.float32(words[lane]) * np.float32(2**-32) + np.float32(2**-33)
                    keep[index] = unit < np.float32(1 - p)
            turn += 1
    return keep


def philox_in_python(seed: int, block: int, subsequence: int) -> list[int]:
    low = 2**32 - 1
    key = [seed & low, seed >> 32]
    words = [block & low, block >> 32, subsequence & low, subsequence >> 32]
    for _ in range(10):
        left, right = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
        words = [right >> 32 ^ words[1] ^ key[0], right & low, left >> 32 ^ words[3] ^ key[1]]
        words.append(left & low)
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return words


@examples(4)
@given(
    seed=st.integers(0, 2**64 - 1),
    counts=st.lists(st.sampled_from([1, 2, 4, 6, 255, 256, 514, 1025, 2052, 3074]), max_size=3),
    p=st.floats(0.01, 0.99),
    block=st.sampled_from([0, 2**32 - 2, 2**40]),
)
def test_masks_against_threads_one_by_one(seed, counts, p, block):
    """On a card with room for two blocks of threads, so that threads take several turns, and where
    the counter goes from one word into the next."""
    generator = random.manual_seed(seed, "cuda", multiprocessors=2, threads_per_multiprocessor=300)
    assert generator.cuda is not None
    blocks = np.array([block % 2**32, block >> 32], np.uint32)
    stream = jax.tree.unflatten(jax.tree.structure(generator.cuda), [blocks])
    generator = generator._replace(cuda=stream)
    for count in counts:
        threads = min(512, -(-count // 256) * 256)
        generator, keep = random.dropout_mask(generator, p, (count,))
        assert_same_bits(keep, emulate_dropout(seed, block, count, p, threads))
        block += (count - 1) // (threads * 4) + 1
        assert generator.cuda is not None
        low, high = (int(word) for word in generator.cuda.blocks)
        assert high << 32 | low == block


@pytest.mark.parametrize("p", [0.0, 2**-33, 2**-32, 3 * 2**-33, 0.1, 0.5, 1 - 0.9, 1 - 1e-9, 1.0])
def test_which_words_are_below_a_probability(p):
    """Half of the words for 1/2; and at the edge, where float32 rounds the words together."""
    first = first_word_not_below(p)
    near = np.clip(first + np.arange(-300, 300), 0, 2**32 - 1).astype(np.uint32)
    assert_same_bits(near < np.uint32(first), to_unit(near) < np.float32(p))


def test_only_masks_come_from_the_cards_stream():
    """Weights, orders and numbers are those of the CPU's stream, which masks leave alone."""
    cpu, cuda = random.manual_seed(3), random.manual_seed(3, "cuda")
    cuda, keep = random.dropout_mask(cuda, 0.5, (400,))
    for draw in (
        lambda g: random.uniform(g, (5,)),
        lambda g: random.normal(g, (5,)),
        lambda g: random.randperm(g, 5),
        lambda g: random.randint(g, 0, 9, (5,)),
        lambda g: random.kaiming_normal(g, (5, 4)),
    ):
        cpu, expected = draw(cpu)
        cuda, values = draw(cuda)
        assert_same_bits(values, expected)
    assert_same_bits(random.get_state(cuda), random.get_state(cpu))
    assert not np.array_equal(keep, random.dropout_mask(random.manual_seed(3), 0.5, (400,))[1])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_dropout_draws_nothing(p):
    generator = random.manual_seed(3, "cuda")
    after, keep = random.dropout_mask(generator, p, (6,))
    assert after is generator and bool((keep == (p == 0)).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    "shape",
    [
        *[(12665, 32), (16, 32), (9, 32), (33, 7), (5, 2), (1,)],
        # Several turns of every thread: an H100 starts 270,336 of them.
        *[(1_300_001,), (1_300_002,), (1_300_004,)],
    ],
)
def test_masks_of_the_card_here(shape, record_property):
    """100 consecutive calls against torch on this card, and the offset after each."""
    card = torch.cuda.get_device_properties(0)
    record_property("card", f"{card.name}, {card.multi_processor_count} multiprocessors")
    torch.manual_seed(2**40 + 1)
    counts = card.multi_processor_count, card.max_threads_per_multi_processor
    generator = random.manual_seed(2**40 + 1, "cuda", *counts)
    x = torch.ones(shape, device="cuda")
    for call in range(100):
        p = (0.9, 0.5, 0.04)[call % 3]
        generator, keep = random.dropout_mask(generator, p, shape)
        dropped = torch.nn.functional.dropout(x, p)
        assert_same_bits(keep, dropped != 0, where=f"call {call} on {card.name}")
        assert generator.cuda is not None
        offset = int.from_bytes(torch.cuda.get_rng_state().numpy()[8:].tobytes(), "little")
        low, high = (int(word) for word in generator.cuda.blocks)
        assert 4 * (high << 32 | low) == offset, f"after call {call}"
