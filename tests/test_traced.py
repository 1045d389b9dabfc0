"""A jaxpr that is evaluated equation by equation is the function that was traced."""

import contextlib
from functools import partial
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from tests.helpers import assert_close, assert_same_bits, each_row
from torchref.traced import UNROLLED, Traced

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
X[0, 0] = 0.0
COTANGENT = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
KEY = jax.random.key(0)


@jax.custom_vjp
def negate(x):
    """Whose gradient is turned around."""
    return jnp.sin(x) * 2


negate.defvjp(lambda x: (negate(x), None), lambda _, grad: (-grad,))


def step(carry, x):
    carry = jnp.tanh(carry + x)
    return carry, 2 * carry


def loop(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1]


def scanned(x, reverse=False):
    last, rows = lax.scan(step, jnp.zeros(4), x, reverse=reverse)
    return rows * last[None]


FUNCTIONS = {
    "relu": jax.nn.relu,
    "scan": scanned,
    "scan from the end": partial(scanned, reverse=True),
    "remat in a scan": lambda x: lax.scan(jax.checkpoint(step), jnp.zeros(4), x)[1],
    "custom vjp in a scan": lambda x: lax.scan(lambda c, r: (c, negate(r)), 0.0, x)[1],
    "cond": lambda x: lax.cond(x[0, 1] > 0, jnp.sin, jnp.cos, x),
    "while": lambda x: x * loop(lax.stop_gradient(x)),
    "vmap": jax.vmap(lambda row: negate(row) / row.sum()),
    "a constant": lambda x: x * COTANGENT + jnp.arange(4.0)[None],
    "what is not used": lambda x: (jnp.log(-1 - x**2), jnp.sin(x))[1],
}


def evaluate(function: Any, x: Any) -> Any:
    """The value, and its gradient contracted with a random cotangent."""
    outputs, pullback = jax.vjp(function, x)
    return outputs, pullback(COTANGENT)


@each_row("name, function", FUNCTIONS.items())
def test_values_and_gradients_are_the_functions_own(name, function):
    traced = Traced(function, X)
    every = range(len(traced.values))

    @jax.jit  # all in one program: each would take longer to compile than to run
    def run(x):
        plain = evaluate(lambda x: traced((x,))[0], x)
        watched = evaluate(lambda x: traced((x,), capture=every)[0], x)
        return evaluate(function, x), plain, watched, traced((x,), None, every)[1]

    expected, plain, watched, captured = run(X)
    jax.tree.map(assert_close, plain, expected)
    jax.tree.map(assert_close, watched, expected)
    assert [value.index for value in traced.values] == [*every] == [*captured]
    for value in traced.values:
        array = captured[value.index]
        assert (array.shape, array.dtype) == (value.shape, value.dtype)


def test_the_steps_of_a_scan_are_captured_in_the_order_of_execution():
    traced = Traced(scanned, X)
    steps = [value.index for value in traced.values if value.primitive == "tanh"]
    outputs, captured = traced((X,), capture=steps)
    assert_close(outputs, scanned(X))
    assert len(steps) == 3 and steps == sorted(steps)
    assert_close(captured[steps[1]], np.tanh(np.tanh(X[0]) + X[1]))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return nn.Dropout(0.25, deterministic=False)(nn.relu(nn.Dense(4, name="fc")(x))), None


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = nn.remat(Block)(name="first")(x)
        scan = nn.scan(Block, {"params": 0}, split_rngs={"params": True, "dropout": True}, length=2)
        return nn.Dense(2, name="out")(scan(name="rest")(x, None)[0])


def test_a_linen_net_with_remat_and_scan_is_seen_inside():
    see_inside(contextlib.nullcontext())


def see_inside(leaks):
    """`leaks` is a context that may look for tracers that leak; it takes ten times as long."""
    shapes = jax.eval_shape(Net().init, {"params": KEY, "dropout": KEY}, X)
    random = np.random.default_rng(4)
    params = jax.tree.map(lambda s: random.normal(size=s.shape).astype(np.float32), shapes)
    call = lambda params, x, key: Net().apply(params, x, rngs={"dropout": key})  # noqa: E731
    keep = np.random.default_rng(2).random((3, 3, 4)) < 0.75
    with leaks:
        traced = Traced(call, params, X, KEY)
        dense = [v.index for v in traced.values if (v.primitive, v.shape) == ("add", (3, 4))]
        run = lambda p, keep: traced((p, X, KEY), [*keep], dense)  # noqa: E731
        jax.eval_shape(jax.grad(lambda p: run(p, keep)[0].sum()), params)
    total = lambda p, keep: ((both := run(p, keep))[0].sum(), both)  # noqa: E731
    grads, (outputs, captured) = jax.jit(jax.grad(total, has_aux=True))(params, keep)
    assert [(draw.kind, draw.shape) for draw in traced.draws] == 3 * [("bernoulli", (3, 4))]
    weights: Any = params["params"]
    y, layers = X, [weights["first"]["fc"]]
    layers += [jax.tree.map(lambda leaf, n=n: leaf[n], weights["rest"]["fc"]) for n in (0, 1)]
    for layer, mask, index in zip(layers, keep, dense, strict=True):
        y = y @ layer["kernel"] + layer["bias"][None]
        assert_close(captured[index], y)
        y = np.where(mask, np.maximum(y, 0) / 0.75, 0)
    assert_close(outputs, y @ weights["out"]["kernel"] + weights["out"]["bias"][None])
    assert_close(grads["params"]["out"]["kernel"], np.repeat(y.sum(0)[:, None], 2, 1))


def drop_linen(x, key):
    return nn.Dropout(0.25, deterministic=False).apply({}, x, rngs={"dropout": key})


def drop_equinox(x, key):
    return eqx.nn.Dropout(0.25)(x, key=key)


drop_custom = jax.custom_jvp(drop_linen)
drop_custom.defjvp(lambda primals, tangents: (drop_linen(*primals), 0 * tangents[0]))
DROPOUTS = {
    "linen": drop_linen,
    "nnx": lambda x, key: nnx.Dropout(0.25, deterministic=False, rngs=nnx.Rngs(key))(x),
    "equinox": lambda x, key: jax.vmap(drop_equinox)(x, jax.random.split(key, 3)),
    "equinox with one key": lambda x, key: jax.vmap(partial(drop_equinox, key=key))(x),
    "uniform numbers": lambda x, key: jnp.where(
        jax.random.uniform(key, x.shape) < 0.75, x / 0.75, 0),
    "in a custom derivative": drop_custom,
}  # fmt: skip


@each_row("name, dropout", DROPOUTS.items())
def test_the_masks_of_a_dropout_are_put_in(name, dropout):
    traced = Traced(dropout, X, KEY)
    (draw,) = traced.draws
    uniform, one = "uniform" in name, "one key" in name
    assert draw.kind == ("uniform" if uniform else "bernoulli")
    assert traced.values[draw.value.index] is draw.value
    mask = np.random.default_rng(3).random(draw.shape) < 0.5

    @jax.jit
    def run(x, given):
        outputs, pullback = jax.vjp(lambda x: traced((x, KEY), [given])[0], x)
        return outputs, pullback(COTANGENT)[0], traced((x, KEY))[0], dropout(x, KEY)

    expected = np.where(np.broadcast_to(mask, X.shape), X / np.float32(0.75), 0)
    given = np.where(mask, 0.5, 0.9) if uniform else mask.astype(np.int8)
    assert draw.shape == (X.shape[1:] if one else X.shape)
    outputs, grad, drawn, own = run(X, given)
    assert_close(outputs, expected)
    assert_close(grad, np.where(np.broadcast_to(mask, X.shape), COTANGENT / np.float32(0.75), 0))
    assert_same_bits(drawn, own)


KINDS = {
    "normal": lambda key: jax.random.normal(key, (2, 3)),
    "uniform": lambda key: jax.random.uniform(key, (2, 3)),
    "randint": lambda key: jax.random.randint(key, (2, 3), 0, 9),
    "gumbel": lambda key: jax.random.categorical(key, jnp.ones((2, 3))),
    "truncated_normal": lambda key: jax.random.truncated_normal(key, -1, 1, (2, 3)),
    "gamma": lambda key: jax.random.gamma(key, 2.0, (2, 3)),
    "bits": lambda key: jax.random.permutation(key, 6),
    "bernoulli": lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (2, 3)),
}


@each_row("kind, function", KINDS.items())
def test_what_is_drawn_is_named_and_replaced(kind, function):
    traced = Traced(function, KEY)
    (draw,) = traced.draws
    assert draw.kind == kind and draw.shape == ((6,) if kind == "bits" else (2, 3))
    if kind in ("randint", "bits"):
        outputs, captured = traced((KEY,), capture=[draw.value.index])
        assert_same_bits(outputs, function(KEY))
        other, drawn = jax.random.key(9), [*captured.values()]
        assert_same_bits(traced((other,), drawn)[0], outputs)


@jax.jit
def _normal(x):  # as one of JAX's is called
    return x / 2


def test_what_draws_nothing_or_is_not_read_is_no_draw():
    assert not Traced(_normal, X).draws
    draw = lambda x, key: x * jax.random.bernoulli(key, 0.5, x.shape)  # noqa: E731
    assert not Traced(lambda x, key: (draw(x, key), x + 1)[1], X, KEY).draws

    def function(x, key):
        """Draws in a `cond`, and in a scan that is not unrolled."""
        y = lax.cond(x.sum() > 0, draw, lambda x, key: x, x, key)
        return lax.scan(lambda y, _: (draw(y, key), None), draw(y, key), length=UNROLLED + 1)[0]

    assert len(Traced(function, X, KEY).draws) == 1


def test_scans_stay_scans_where_nothing_inside_is_asked_for():
    traced = Traced(lambda x: scanned(jax.checkpoint(jnp.sin)(x)), X)
    names = lambda capture: str(jax.make_jaxpr(lambda x: traced((x,), capture=capture))(X))  # noqa: E731
    (scan,) = [v for v in traced.values if v.primitive == "scan" and len(v.shape) == 2]
    inside = [v for v in traced.values if v.primitive == "tanh"]
    assert "scan[" in names([scan.index]) and "remat" in names([scan.index])
    assert "scan[" not in names([inside[0].index]) and "remat" in names([inside[0].index])
    assert "remat" not in names([traced.values[0].index])


def test_arguments_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match=r"as traced, float32\[3,4\], not float32\[4\]"):
        Traced(DROPOUTS["linen"], X, KEY)((X[0], KEY))
