"""What torch's random stream costs in a compiled run, against the alternatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

import jaxnet
from benchmarks.timing import clock, interleave, median_ratio
from jaxnet import nn
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import HIDDEN, PIXELS

SHAPE = (12665, 32)  # the activations that the lecture's `dropout` drops
MASKS = 20
SEED = 1


def compare_masks(rounds: int) -> list[dict[str, Any]]:
    """A mask of `dropout`, as one of 20: jaxnet's and JAX's own inside a compiled loop, where a
    run draws them, and torch's `F.dropout` call after call."""
    return [row for p in (0.9, 0.5) for row in _compare_masks_of(p, rounds)]


def _repeat(draw: Callable[[Any], tuple[Any, jax.Array]]) -> Callable[[Any], Any]:
    """`MASKS` draws as one program, in which each mask is used."""

    def step(carry, _):
        source, parity = carry
        source, keep = draw(source)
        return (source, parity ^ keep), None

    return jax.jit(lambda source: lax.scan(step, (source, jnp.zeros(SHAPE, bool)), length=MASKS)[0])


def _compare_masks_of(p: float, rounds: int) -> list[dict[str, Any]]:
    generator = jax.tree.map(jnp.asarray, jaxnet.random.manual_seed(SEED))
    key, ones = jax.random.key(SEED), torch.ones(SHAPE)

    def draw_jax(key):
        key, subkey = jax.random.split(key)
        return key, jax.random.bernoulli(subkey, 1 - p, SHAPE)

    def parity_of_torch():
        parity = torch.zeros(SHAPE, dtype=torch.bool)
        for _ in range(MASKS):
            parity ^= torch.nn.functional.dropout(ones, p) != 0
        return parity

    def drop_torch():
        for _ in range(MASKS):
            torch.nn.functional.dropout(ones, p)

    ours = _repeat(lambda generator: jaxnet.random.dropout_mask(generator, p, SHAPE))
    theirs = _repeat(draw_jax)
    torch.manual_seed(SEED)
    equal = np.array_equal(ours(generator)[1], parity_of_torch())
    calls: dict[str, Callable[[], Any]] = {
        "jaxnet": lambda: jax.block_until_ready(ours(generator)),
        "jax.random.bernoulli": lambda: jax.block_until_ready(theirs(key)),
        "torch F.dropout": drop_torch,
    }
    seconds = interleave(
        {name: lambda call=call: clock(call) / MASKS for name, call in calls.items()}, rounds
    )
    return [
        make_row(f"mask, p={p:.1f}", seconds, "jaxnet", other, agree=bool(equal))
        for other in ("jax.random.bernoulli", "torch F.dropout")
    ]


def compare_random_steps(data: Dataset, rounds: int) -> list[dict[str, Any]]:
    """A batch-16 step of `minibatch` with Dropout(0.5) on torch's stream, and with none."""
    x, y = jnp.asarray(data.images), jnp.asarray(data.labels[:, None].astype(np.float32))
    optimizer = jaxnet.optim.sgd()

    def fit(*between: nn.Module) -> Callable[[], Any]:
        net = nn.Sequential(
            [nn.Linear(PIXELS, HIDDEN), *between, nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid()]
        )
        loss = jaxnet.losses.binary_cross_entropy
        options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "seed": SEED}
        return lambda: jaxnet.fit(net, (x, y), loss=loss, optimizer=optimizer, **options)

    steps = -(-len(x) // 16)
    contestants = {"with": fit(nn.Dropout(0.5)), "none": fit()}
    state, _ = contestants["with"]()
    torch.manual_seed(SEED)
    torch.rand(PIXELS * HIDDEN + HIDDEN + HIDDEN + 1 + 2 + 2 * len(x) * HIDDEN)
    agree = np.array_equal(jaxnet.random.get_state(state.generator), torch.get_rng_state())
    seconds = interleave(
        {name: lambda run=run: run()[1].run_seconds / steps for name, run in contestants.items()},
        rounds,
    )
    return [make_row("step with Dropout(0.5)", seconds, "with", "none", agree=agree)]


def make_row(
    what: str, seconds: dict[str, list[float]], ours: str, other: str, *, agree: bool
) -> dict[str, Any]:
    """One row: two contestants, and the median of their rounds' own ratios."""
    return {
        "what": what,
        "against": other,
        "agree": agree,
        "seconds": seconds[ours],
        "seconds_other": seconds[other],
        "ratio": median_ratio(seconds[ours], seconds[other]),
    }
