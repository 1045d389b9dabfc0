"""An epoch's masks drawn at once are those of its steps, drawn in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.masks import cut_masks, draw_ahead, draw_masks, list_drops
from tests.helpers import assert_same_bits

NETS = {
    "one": nn.Dropout(0.3),
    "two alike": nn.Sequential([nn.Dropout(0.5), nn.Linear(6, 3), nn.Dropout(0.5)]),
    "three": nn.Sequential(
        [
            nn.Dropout(0.9),
            nn.Sequential([nn.Linear(6, 5), nn.Dropout(0.0), nn.Dropout(1.0), nn.Dropout(0.15)]),
            nn.Dropout(0.5),
        ]
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_one_draw_is_many(name):
    net, rows = NETS[name], (4, 4, 4, 3)
    begun = generator = jaxnet.random.manual_seed(7)
    masks = []
    for count in rows:
        generator, mask = draw_masks(net, generator, jnp.ones((count, 6)))
        masks.append(mask)

    full, last = (list_drops(net, jnp.ones((count, 6))) for count in (4, 3))
    after, (ranks, rest) = jax.jit(lambda g: draw_ahead(g, [(3, full), (1, last)]))(begun)
    cut = [*(cut_masks(full, row) for row in ranks), cut_masks(last, rest[0])]
    for number, (mine, theirs) in enumerate(zip(cut, masks, strict=True)):
        paths = jax.tree.leaves_with_path(theirs)
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        for (path, mask), same in zip(paths, jax.tree.leaves(mine), strict=True):
            assert_same_bits(same, mask, where=f"step {number}, {path}")
    assert_same_bits(jaxnet.random.get_state(after), jaxnet.random.get_state(generator))
    first, second = (jax.tree.leaves(cut[number])[0] for number in (0, 1))
    assert not np.array_equal(first, second), "every step has its own mask"
