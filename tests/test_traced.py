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
    "relu": (jax.nn.relu, "forward, reverse"),
    "log-sum-exp": (lambda x: x * jax.nn.logsumexp(x, 1, keepdims=True), "forward, reverse"),
    "jit in jit": (jax.jit(lambda x: jnp.sin(x) * jax.jit(jnp.cos)(x)), "forward, reverse"),
    "scan": (scanned, "forward, reverse"),
    "scan from the end": (partial(scanned, reverse=True), "forward, reverse"),
    "remat in a scan": (
        lambda x: lax.scan(jax.checkpoint(step), jnp.zeros(4), x)[1],
        "forward, reverse",
    ),
    "custom vjp in a scan": (lambda x: lax.scan(lambda c, r: (c, negate(r)), 0.0, x)[1], "reverse"),
    "cond": (lambda x: lax.cond(x[0, 1] > 0, jnp.sin, jnp.cos, x), "forward, reverse"),
    "while": (loop, "forward"),
    "vmap": (jax.vmap(lambda row: negate(row) / row.sum()), "reverse"),
    "a constant": (lambda x: x * COTANGENT + jnp.arange(4.0)[None], "forward, reverse"),
    "what is not used": (lambda x: (jnp.log(-1 - x**2), jnp.sin(x))[1], "forward, reverse"),
}


def evaluate(function: Any, mode: str) -> Any:
    """Values, those of rows in a `vmap`, and derivatives in the directions that there are."""

    def run(x):
        found = [function(x), jax.vmap(function)(x[None])[0]]
        if "reverse" in mode:
            found.append(jax.vjp(function, x)[1](COTANGENT)[0])
        return [*found, jax.jvp(function, (x,), (COTANGENT,))[1]] if "forward" in mode else found

    return run


@each_row("name, row", FUNCTIONS.items())
def test_values_and_derivatives_are_the_functions_own(name, row):
    function, mode = row
    traced = Traced(function, X)
    every = range(len(traced.values))

    @jax.jit  # all in one program: each would take longer to compile than to run
    def run(x):
        plain = evaluate(lambda x: traced((x,))[0], mode)(x)
        watched = evaluate(lambda x: traced((x,), capture=every)[0], mode)(x)
        seen = []
        traced.record((x,), lambda *both: seen.append(both))
        *values, arrays = zip(*seen, strict=True)
        indices.extend(value.index for value in values[0])
        return evaluate(function, mode)(x), plain, watched, traced((x,), None, every)[1], arrays

    indices: list[int] = []
    expected, plain, watched, captured, arrays = run(X)
    jax.tree.map(assert_close, plain, expected)
    jax.tree.map(assert_close, watched, expected)
    assert [value.index for value in traced.values] == [*every] == [*captured]
    for value in traced.values:
        array = captured[value.index]
        assert (array.shape, array.dtype) == (value.shape, value.dtype)
        assert (value.index in indices) is (array.dtype == np.float32 and array.size > 1)
    jax.tree.map(assert_same_bits, arrays, tuple(captured[index] for index in indices))


def test_values_are_seen_without_jit_in_the_order_of_execution():
    seen = []
    outputs = Traced(scanned, X).record((X,), lambda *both: seen.append(both))
    assert_close(outputs, scanned(X))
    steps = [(value.path, array) for value, array in seen if value.primitive == "tanh"]
    assert [path for path, _ in steps] == ["[0]", "[1]", "[2]"]
    assert_close(steps[1][1], np.tanh(np.tanh(X[0]) + X[1]))
    assert [value.index for value, _ in seen] == sorted(value.index for value, _ in seen)


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
        dense = [v.index for v in traced.values if v.path.endswith("/fc") and v.primitive == "add"]
        run = lambda p, keep: traced((p, X, KEY), [*keep], dense)  # noqa: E731
        jax.eval_shape(jax.grad(lambda p: run(p, keep)[0].sum()), params)
    total = lambda p, keep: ((both := run(p, keep))[0].sum(), both)  # noqa: E731
    grads, (outputs, captured) = jax.jit(jax.grad(total, has_aux=True))(params, keep)
    places = ["Net/first", "Net[0]/rest", "Net[1]/rest"]
    assert [traced.values[index].path for index in dense] == [f"{place}/fc" for place in places]
    found = [(draw.kind, draw.p, draw.shape, draw.value.path) for draw in traced.draws]
    assert found == [("bernoulli", 0.75, (3, 4), f"{place}/Dropout_0") for place in places]
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
    assert (draw.kind, draw.p) == (("uniform", None) if uniform else ("bernoulli", 0.75))
    assert not traced.hidden and traced.values[draw.value.index] is draw.value
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


def keep(x, key, rate: Any = 0.5):
    return x * jax.random.bernoulli(key, 1 - rate, x.shape)


def keep_in_scan(x, key):
    p = jnp.float32(0.25) * 2
    return lax.scan(lambda c, row: (c, row * jax.random.bernoulli(key, p, (4,))), 0.0, x)[1]


PROBABILITIES = {
    "a rate that is an argument of jit": (lambda x, key: jax.jit(keep)(x, key, 0.5), [0.5]),
    "a rate that is computed before a scan": (keep_in_scan, [0.5, 0.5, 0.5]),
    "a rate of the input": (lambda x, key: keep(x, key, x.sum()), [None]),
    "a rate of each row": (lambda x, key: keep(x, key, jnp.full((3, 1), 0.5)), [None]),
    "no draw": (lambda x, key: _normal(x), []),
    "a draw that nothing reads": (lambda x, key: (keep(x, key), x + 1)[1], []),
}


@each_row("name, row", PROBABILITIES.items())
def test_a_probability_is_known_where_it_is_a_constant(name, row):
    function, expected = row
    assert [draw.p for draw in Traced(function, X, KEY).draws] == expected


def test_paths_are_the_scopes_without_their_transformations():
    layer = jax.named_scope("layer")(lambda x: jax.jit(jax.named_scope("inner")(jnp.sin))(x))
    traced = Traced(jax.vmap(jax.named_scope("net")(jax.checkpoint(layer))), X)
    assert [(v.path, v.primitive) for v in traced.values] == [("net/layer/inner", "sin")]
    (plain,) = Traced(FUNCTIONS["what is not used"][0], X).values
    assert (plain.path, plain.primitive) == ("", "sin")


def test_draws_that_cannot_be_listed_are_named():
    draw = lambda x, key: x * jax.random.bernoulli(key, 0.5, x.shape)  # noqa: E731
    long = UNROLLED + 1

    def function(x, key):
        with jax.named_scope("net"):
            y = lax.cond(x.sum() > 0, draw, lambda x, key: x, x, key)
            y = lax.fori_loop(0, jnp.int32(x[0, 0]), lambda _, y: draw(y, key), y)
            return lax.scan(lambda y, _: (draw(y, key), None), draw(y, key), length=long)[0]

    traced = Traced(function, X, KEY)
    assert traced.hidden == ("net/cond", "net/while", "net/scan") and len(traced.draws) == 1
    assert not Traced(lambda x: lax.scan(step, x[0], jnp.ones((long, 4)))[0], X).hidden


def test_scans_stay_scans_where_nothing_inside_is_asked_for():
    traced = Traced(lambda x: scanned(jax.checkpoint(jnp.sin)(x)), X)
    names = lambda capture: str(jax.make_jaxpr(lambda x: traced((x,), capture=capture))(X))  # noqa: E731
    (scan,) = [v for v in traced.values if v.primitive == "scan" and len(v.shape) == 2]
    inside = [v for v in traced.values if v.path == "[1]"]
    assert "scan[" in names([scan.index]) and "remat" in names([scan.index])
    assert "scan[" not in names([inside[0].index]) and "remat" in names([inside[0].index])
    assert "remat" not in names([traced.values[0].index])


@each_row("message, call", [
    ("args must have the structure", lambda t: t((X,))),
    (r"args must be as traced, float32\[3,4\], not float32\[4\]", lambda t: t((X[0], KEY))),
    (r"draws must be 1, one for each, not 2", lambda t: t((X, KEY), [None, None])),
    (r"draws\[0\] must have shape \(3, 4\), not \(4,\)",
     lambda t: t.record((X, KEY), print, [X[0]])),
    (r"capture must be of \d+ values, not 99", lambda t: t((X, KEY), capture=[0, 99])),
])  # fmt: skip
def test_what_does_not_fit_is_rejected(message, call):
    traced = Traced(DROPOUTS["linen"], X, KEY)
    with pytest.raises(ValueError, match=message):
        call(traced)
