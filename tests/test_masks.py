"""The draws of many steps made at once are those of its steps, drawn in turn."""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.certificate.bounds import SMALL_LOSSES
from jaxnet.nn.draws import list_draws
from jaxnet.train import epoch
from tests.helpers import assert_close, assert_same_bits
from tests.tiny import ADAM, LOSS, NET, X, Y


class OfRows(nn.Module):
    """Drops more of a short batch than of a full one, and in another place."""

    @flax.linen.compact
    def __call__(self, x, train=False, draws=None):
        draws = draws or {}
        if len(x) == 4:
            return nn.Dropout(0.5, name="full")(x, train=train, draws=draws.get("full"))
        x = nn.Dropout(0.2, name="short")(x, train=train, draws=draws.get("short"))
        return nn.Dropout(0.5, name="full")(x, train=train, draws=draws.get("full"))


INNER = nn.Sequential([nn.Linear(6, 5), nn.Dropout(0.0), nn.Dropout(1.0), nn.Dropout(0.15)])
NETS = {
    "of rows": OfRows(),
    "one": nn.Dropout(0.3),
    "two alike": nn.Sequential([nn.Dropout(0.5), nn.Linear(6, 3), nn.Dropout(0.5)]),
    "three": nn.Sequential([nn.Dropout(0.9), INNER, nn.Dropout(0.5)]),
}


@pytest.mark.parametrize("name", ["of rows", "three"])
def test_one_draw_is_many(name):
    """Each mask is what `dropout_mask` gives in its turn, and so is the stream afterwards."""
    net, shapes = NETS[name], ((3, 4), (1, 3))
    begun = generator = jaxnet.random.manual_seed(7)
    expected = []
    for steps, count in shapes:
        drops = list_draws(net, jnp.ones((count, 6)))
        for _ in range(steps):
            masks = {}
            for drop in drops:
                drawn = jaxnet.random.dropout_mask(generator, 1.0 - drop.parameter, drop.shape)
                generator, masks[drop.path] = drawn
            expected.append(masks)

    after, found = begun, []
    for steps, count in shapes:
        draw = jax.jit(lambda g, x, n=steps: nn.draw_steps(net, g, x, n))
        after, draws = draw(after, jnp.ones((count, 6)))
        found += [jax.tree.map(lambda values, n=n: values[n], draws) for n in range(steps)]
    in_turn = begun
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        paths = [(tuple(key.key for key in path), m) for path, m in jax.tree.leaves_with_path(mine)]
        assert {path for path, _ in paths} == set(theirs)
        for path, mask in paths:
            assert_same_bits(mask, theirs[path], where=f"step {number}, {path}")
        in_turn, one = nn.draw(net, in_turn, jnp.ones((4 if number < 3 else 3, 6)))
        jax.tree.map(assert_same_bits, one, mine)
    for ended in (after, in_turn):
        assert_same_bits(jaxnet.random.get_state(ended), jaxnet.random.get_state(generator))
    first, second = (jax.tree.leaves(found[number])[0] for number in (0, 1))
    assert not np.array_equal(first, second), "every step has its own mask"


def test_a_run_draws_the_same_whatever_memory_its_draws_may_take(monkeypatch):
    """An epoch of five steps and a short one: ahead at once, one, two at a time.

    Some processors round the floats otherwise, in programs of other lengths.
    """

    def fit():
        jaxnet.cache.clear()  # a limit is no part of what tells programs apart
        options: dict[str, Any] = dict(epochs=2, seed=1, batch_size=8, shuffle=True)
        return jaxnet.fit(NET, (X, Y), loss=LOSS, optimizer=ADAM, **options)

    state, history = fit()
    needs = 8 * 8  # booleans of a step
    try:
        for limit in (1, 2 * needs + 1):
            monkeypatch.setattr(epoch, "DRAWN", limit)
            other, found = fit()
            assert_close(found.losses, history.losses, SMALL_LOSSES, where=f"{limit} bytes")
            jax.tree.map(assert_same_bits, other.generator, state.generator)
    finally:
        monkeypatch.undo()
        jaxnet.cache.clear()
