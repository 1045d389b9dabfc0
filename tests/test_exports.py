"""A trained net as a program of JAX's for any batch size, in Orbax's files and Flax's bytes."""

from typing import Any

import flax.serialization
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.certificate.bounds import REDUCTION
from jaxnet.train import TrainState, start
from tests.helpers import assert_close, assert_same_bits
from tests.test_ecosystem import IMAGES

LAYERS = nn.Sequential(
    [
        *[nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.LeakyReLU()],
        *[nn.MaxPool2d(2, padding=1), nn.AvgPool2d(2, stride=1, padding=1)],
        *[nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 6)],
        *[nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 1)],
    ]
)
PICTURES = np.moveaxis(IMAGES, 3, 1)


@pytest.fixture(scope="module")
def trained() -> TrainState:
    """As after a run: no leaf is what a fresh state has."""
    generator, variables = jaxnet.init(LAYERS, jaxnet.random.manual_seed(0))
    state = start(jaxnet.optim.adam(1e-2), variables, generator)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) + jnp.ones_like(leaf), state)


def _export(function: Any, *arguments: Any) -> jax.export.Exported:
    """Written and read again, as another process would."""
    data = jax.export.export(jax.jit(function))(*arguments).serialize()
    return jax.export.deserialize(data)


def _as_shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def test_a_trained_net_is_exported_for_batches_of_any_size(trained):
    """With its weights inside, through `predict`, and with weights as an input, through `apply`."""
    rows = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("rows"), 1, 6, 6), jnp.float32)
    variables = {"params": trained.params, **trained.model_state}
    inside = _export(lambda x: jaxnet.predict(LAYERS, trained, x), rows)
    outside = _export(LAYERS.apply, _as_shapes(variables), rows)
    for count in (1, 24):
        expected = jaxnet.predict(LAYERS, trained, PICTURES[:count])
        assert_close(inside.call(PICTURES[:count]), expected, REDUCTION)
    assert_close(outside.call(variables, PICTURES), expected, REDUCTION)


def test_a_state_passes_through_orbax_and_flaxs_serialization(trained, tmp_path):
    empty = jax.tree.map(jnp.zeros_like, trained)
    packed = flax.serialization.to_bytes(trained)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", trained)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", empty)
    for found in (restored, flax.serialization.from_bytes(empty, packed)):
        assert isinstance(found, TrainState)
        jax.tree.map(assert_same_bits, found, trained)
