"""Every kind of number that a net draws, beside torch's, also inside jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
from jaxnet.nn._kinds import fill
from tests.helpers import assert_same_bits, assert_same_state, to_numpy

DRAWS = {
    "keep": (0.3, (5, 7), torch.float32, lambda t: t.bernoulli_(0.3).bool()),
    "uniform": (None, (33,), torch.float32, lambda t: t.uniform_()),
    "normal": (None, (5,), torch.float32, lambda t: t.normal_()),
    "normal, rows": (None, (3, 35), torch.float32, lambda t: t.normal_()),
    "exponential": (2.0, (9,), torch.float32, lambda t: t.exponential_(2.0)),
    "randint": ((-3, 9), (11,), torch.int64, lambda t: t.random_(-3, 9).int()),
    "randperm": (8, (8,), torch.int64, lambda t: torch.randperm(8).int()),
}
WIDE = {
    "uniform": (None, (33,), torch.float64, lambda t: t.uniform_()),
    "normal": (None, (5,), torch.float64, lambda t: t.normal_()),
    "normal, rows": (None, (3, 35), torch.float64, lambda t: t.normal_()),
    "exponential": (2.0, (9,), torch.float64, lambda t: t.exponential_(2.0)),
}


def draw_all(table, generator):
    values = []
    for name, (parameter, shape, kind, _) in table.items():
        dtype = str(kind).removeprefix("torch.")
        dtype = dtype if dtype.startswith("float") else "float32"
        generator, own = fill(generator, name.split(",")[0], parameter, shape, dtype, True)
        values.append(jnp.reshape(own, shape))
    return generator, values


@pytest.mark.parametrize("table", [DRAWS, WIDE], ids=["float32", "float64"])
def test_every_kind_is_torchs(table):
    """Of a chain of draws every bit, and the stream: on the host, compiled, and of two lanes."""
    torch.manual_seed(5)
    expected = [make(torch.empty(shape, dtype=kind)) for _, shape, kind, make in table.values()]
    with jaxnet.precision.use("float64" if table is WIDE else "parity"):
        begun = jaxnet.random.manual_seed(5)
        for draw in (draw_all, jax.jit(draw_all, static_argnums=0)):
            generator, values = draw(Named(table), begun)
            for name, ours, theirs in zip(table, values, expected, strict=True):
                assert_same_bits(ours, theirs, where=name)
            assert_same_state(generator)
        lanes = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), begun)
        _, many = jax.jit(jax.vmap(lambda g: draw_all(table, g)))(lanes)
        for name, ours, theirs in zip(table, many, expected, strict=True):
            assert_same_bits(ours[1], to_numpy(theirs), where=f"{name}, a lane")


class Named(dict):
    """A table that jit tells by its identity."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]
