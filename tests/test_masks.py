"""An epoch's masks drawn at once are those of its steps, drawn in turn."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.nn.draws import cut_masks, draw_ahead, draw_masks, list_drops
from tests.helpers import assert_same_bits


class OfRows(nn.Module):
    """Drops more of a short batch than of a full one, and in another place."""

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        masks = masks or {}
        if len(x) == 4:
            return nn.Dropout(0.5, name="full")(x, train=train, masks=masks.get("full"))
        x = nn.Dropout(0.2, name="short")(x, train=train, masks=masks.get("short"))
        return nn.Dropout(0.5, name="full")(x, train=train, masks=masks.get("full"))


NETS = {
    "of rows": OfRows(),
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

    forwards = [(times, list_drops(net, jnp.ones((count, 6)))) for times, count in ((3, 4), (1, 3))]
    after, (ranks, rest) = jax.jit(lambda g: draw_ahead(g, forwards))(begun)
    cut = [*(cut_masks(forwards, 0, row) for row in ranks), cut_masks(forwards, 1, rest[0])]
    for number, (mine, theirs) in enumerate(zip(cut, masks, strict=True)):
        paths = jax.tree.leaves_with_path(theirs)
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        for (path, mask), same in zip(paths, jax.tree.leaves(mine), strict=True):
            assert_same_bits(same, mask, where=f"step {number}, {path}")
    assert_same_bits(jaxnet.random.get_state(after), jaxnet.random.get_state(generator))
    first, second = (jax.tree.leaves(cut[number])[0] for number in (0, 1))
    assert not np.array_equal(first, second), "every step has its own mask"
