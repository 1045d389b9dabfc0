"""`jaxnet.random`, what a net draws, and `jaxnet.data`'s batches and sources."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from jaxnet import data, nn, random
from tests.bad_calls import Row, of
from tests.bad_calls import kinds as k
from tests.bad_calls.files import X, Y, fit, generator, net, replaced

R, N, D = "jaxnet.random.", "jaxnet.nn.", "jaxnet.data."


@cache
def two_generators():
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), generator(), generator())


DROPOUT = nn.Sequential([nn.Dropout()])
P = {"p": k.PROBABILITY}
RANGE = [(1, "below high, .* low=1, high=1"), k.INTEGER[0]]
KAIMING = {
    "a": [(k.NAN, "must be a number, not nan"), k.NUMBER[0]],
    "mode": [("fan", "not 'fan'; did you mean 'fan_in'")],
    "nonlinearity": [("gelu", "one of linear, .* not 'gelu'; did you mean")],
    "shape": [((3,), r"at least two axes, \(out, in, ...\), not \(3,\)")],
}
XAVIER = {
    "gain": [*((v, f"finite and at least 0, not {v}") for v in (-1.0, k.NAN)), k.NUMBER[0]],
    "shape": [((3,), r"two axes, .* not \(3,\)")],
}
FLAT, SQUARE = {"shape": (2,)}, {"shape": (2, 2)}
# Each draw with good arguments beside the generator, and what these must not be.
_DRAWS = {
    "bernoulli": (FLAT | {"p": 0.5}, P),
    "dropout_mask": (FLAT | {"p": 0.5}, P),
    "kaiming_normal": (SQUARE, KAIMING),
    "kaiming_uniform": (SQUARE, KAIMING),
    "normal": (
        FLAT,
        {
            "mean": [(k.NAN, "finite.*mean=nan"), k.NUMBER[0]],
            "std": [(-1.0, "not negative.*std=-1.0"), k.NUMBER[1]],
        },
    ),
    "randint": (
        FLAT | {"low": 0, "high": 1},
        {
            "low": RANGE,
            "high": [(2**64, "int64's range: low=0, high=18446744073709551616"), k.INTEGER[1]],
        },
    ),
    "trunc_normal": (
        FLAT,
        {
            "a": [(2.0, "below b, .* a=2.0, b=2.0")],
            "b": k.NUMBER[:1],
            "mean": [(k.NAN, "finite.* mean=nan")],
            "std": [(0.0, "above 0: .* std=0.0")],
        },
    ),
    "uniform": (
        FLAT,
        {
            "low": [
                (2.0, "not exceed high, .* low=2.0, high=1.0"),
                (k.NAN, "low=nan"),
                k.NUMBER[0],
            ],
            "high": [(k.INF, "high=inf"), (np.ones(2), r"not array\(\[1., 1.\]\)", TypeError)],
        },
    ),
    "xavier_normal": (SQUARE, XAVIER),
    "xavier_uniform": (SQUARE, XAVIER),
    "get_state": ({}, {}),
    "random_int64": ({}, {}),
    "randperm": (
        {"n": 3},
        {
            "n": [
                (-1, "between 0 and .* not -1"),
                (2**32 // 20, "between 0 and .* not 214748364"),
                *k.INTEGER,
            ]
        },
    ),
}
_ANYWHERE = ("bernoulli", "dropout_mask", "randint", "randperm")
"""What draws under jit too; what the host makes takes no traced generator."""


def _list_draws():
    for name, (good, bad) in _DRAWS.items():
        draw = partial(getattr(random, name), generator=generator(), **good)
        two = [(two_generators, r"one, not \(2,\) of them")]
        yield from of(R + name, draw, generator=k.GENERATOR, **bad)
        yield from of(R + name, lambda generator, d=draw: d(generator=generator()), generator=two)
        yield from of(R + name, draw, shape=k.SHAPE) if "shape" in good else ()
        if name not in _ANYWHERE:
            yield Row(R + name, "generator", lambda _, d=draw: jax.jit(d)(generator=generator()),
                      "concrete here, not traced", TypeError)  # fmt: skip


def _list_nets():
    for name, steps in (("draw", {}), ("draw_steps", {"steps": 2})):
        draw = partial(getattr(nn, name), net=net(), generator=generator(), x=X, **steps)
        card, half = random.manual_seed(0, "cuda"), X.astype(np.float16)
        yield from of(
            N + name, draw, generator=k.GENERATOR[2:], net=k.MODULE,
            x=[(X[:, :1], r"shape \(..., 2\), not \(4, 1\)")],
        )  # fmt: skip
        yield Row(N + name, "input",
                  lambda _, d=draw, c=card, x=half: d(net=DROPOUT, generator=c, x=x),
                  "dropout '0' has float16 input.*float32 alone", TypeError)  # fmt: skip


def loader(batch_size=1, generator=None, **changes):
    return fit(data=data.DataLoader((X, Y), batch_size, generator=generator), **changes)


def mapped(x=X, y=Y, precision="parity"):
    return data.Mapped((x, y), precision).take(np.array([1, 2]))


ROWS = [
    *_list_draws(),
    *_list_nets(),
    *of(
        R + "manual_seed", partial(random.manual_seed, seed=0),
        seed=[*k.SEED, (-(2**63) - 1, r"between -2\*\*63 and .* not -9223372036854775809")],
        device=[("tpu", '"cpu" or "cuda", not \'tpu\'; did you mean \'cpu\'')],
    ),
    *of(
        R + "manual_seed", partial(random.manual_seed, 0, "cuda"),
        multiprocessors=[(0, "integer of at least 1, not 0")],
        threads_per_multiprocessor=[(8.0, "integer of at least 256, not 8.0")],
    ),
    Row(R + "manual_seed", "seed", lambda _: jax.jit(random.manual_seed)(1), "concrete, not traced",
        TypeError),
    *of(
        R + "set_state", random.set_state,
        state=[
            (b"abc", r"shape \(5056,\), not \(3,\)"),
            (np.zeros(5056), "uint8 numbers or be bytes, not float64", TypeError),
            (np.zeros(5056, np.uint8), "torch.get_rng_state returned: this one is damaged"),
        ],
    ),
    Row(R + "set_state", "state", lambda _: jax.jit(random.set_state)(np.zeros(5056, np.uint8)),
        "concrete, not traced", TypeError),
    *of(N + "draw_steps", lambda steps: nn.draw_steps(net(), generator(), X, steps), steps=[
        k.COUNT[0], k.SIZE[1],
    ]),
    *of(
        D + "make_batching", partial(data.make_batching, num_examples=4, batch_size=None),
        batch_size=k.BATCH, num_examples=[k.COUNT[0], k.SIZE[1]],
        shuffle=[(True, "shuffle=True needs a batch_size")],
        drop_last=[(True, "drop_last=True needs a batch_size")],
    ),
    *of(D + "DataLoader", loader, batch_size=k.BATCH, shuffle=[(True, "the DataLoader's own")]),
    *of(D + "DataLoader", lambda generator: loader(2, generator), generator=k.GENERATOR[2:]),
    Row(D + "DataLoader", "batch_size", lambda _: fit(data=data.DataLoader((X, Y)), batch_size=2),
        "the DataLoader's own"),
    *(
        row
        for name in ("InMemory", "Mapped")
        for row in of(D + name, lambda data, name=name: getattr(jaxnet.data, name)(data), data=[
            k.DATA[0],
            ({"a": X, "b": Y[:3]}, r"same number of rows.*\['a'\]"),
            ((X[:0], Y[:0]), "at least one"),
            ({"a": np.float32(1)}, "at least one"),
            ({"a": X.astype(str)}, "must hold real numbers, not <U32", TypeError),
            ({"a": {"b": "abcd"}}, "must hold real numbers, not a str", TypeError),
        ])
    ),
    *of(D + "Mapped", mapped, precision=k.PRECISION, y=k.TARGETS[:1],
        x=[(replaced(X, (2, 1), k.NAN), "must be finite.* row 2 holds nan")]),
    *of(
        D + "start_epoch",
        lambda generator: data.start_epoch(generator, data.Batching(4, 2, shuffle=True)),
        generator=k.EITHER_GENERATOR,
    ),
    *of(
        D + "random_split", partial(data.random_split, generator=generator(), rows=5, lengths=[5]),
        generator=k.GENERATOR[2:],
        rows=[(2.5, "must be an integer, not 2.5", TypeError), (-1, "at least 0, not -1")],
        lengths=[
            (v, f"sum to the number of rows, 5, or to 1, not {re.escape(repr(v))}", kind)
            for kind, values in (
                (ValueError, ([2, 2], [6, -1], [0.5, 0.6], [1.5, -0.5], [k.NAN, 1], [])),
                (TypeError, (["5"], [True], None)),
            )
            for v in values
        ],
    ),
    *of("jaxnet.init", lambda net: jaxnet.init(net, generator()), net=k.OURS),
    *of("jaxnet.init", lambda generator: jaxnet.init(net(), generator), generator=k.GENERATOR[:1]),
]  # fmt: skip
