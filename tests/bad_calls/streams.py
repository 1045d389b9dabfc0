"""`jaxnet.random`, what a net draws, and `jaxnet.data`'s batches and sources."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

import jaxnet
from jaxnet import data, nn, random
from tests.bad_calls import Row, of_values
from tests.bad_calls.files import X, Y, fit, generator, key, net, replaced

R, N, D = "jaxnet.random.", "jaxnet.nn.", "jaxnet.data."
NAN, INF = float("nan"), float("inf")
NO_KEY = "must come from jaxnet.random.manual_seed, not"


@functools.cache
def two_generators():
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), generator(), generator())


def _draw(name, argument, says, *arguments, kind=ValueError, **options):
    def call(_):
        getattr(random, name)(generator(), *arguments, **options)

    return Row(R + name, argument, call, says, kind)


# Every draw takes a generator; those that the host makes take no traced one.
_DRAWS = {
    "bernoulli": lambda g, shape=(2,): random.bernoulli(g, 0.5, shape),
    "dropout_mask": lambda g, shape=(2,): random.dropout_mask(g, 0.5, shape),
    "kaiming_normal": lambda g, shape=(2, 2): random.kaiming_normal(g, shape),
    "kaiming_uniform": lambda g, shape=(2, 2): random.kaiming_uniform(g, shape),
    "normal": lambda g, shape=(2,): random.normal(g, shape),
    "randint": lambda g, shape=(2,): random.randint(g, 0, 5, shape),
    "trunc_normal": lambda g, shape=(2,): random.trunc_normal(g, shape),
    "uniform": lambda g, shape=(2,): random.uniform(g, shape),
    "xavier_normal": lambda g, shape=(2, 2): random.xavier_normal(g, shape),
    "xavier_uniform": lambda g, shape=(2, 2): random.xavier_uniform(g, shape),
}
_UNSHAPED = {
    "get_state": random.get_state,
    "random_int64": random.random_int64,
    "randperm": lambda g: random.randperm(g, 3),
}
_HOST = set(_DRAWS) - {"bernoulli", "dropout_mask", "randint"} | {"get_state", "random_int64"}


def _generators(name, draw):
    yield Row(R + name, "generator", lambda _: draw(0), f"{NO_KEY} int", TypeError)
    yield Row(R + name, "generator", lambda _: draw(None), f"{NO_KEY} NoneType", TypeError)
    yield Row(R + name, "generator", lambda _: draw(key()), f"{NO_KEY} .*Array; a jax", TypeError)
    yield Row(R + name, "generator", lambda _: draw(two_generators()), r"one, not \(2,\) of them")
    if name in _HOST:
        says = "concrete here, not traced"
        yield Row(R + name, "generator", lambda _: jax.jit(draw)(generator()), says, TypeError)


def _shapes(name, draw):
    says = r"not have negative sizes: \(2, -1\)"
    yield Row(R + name, "shape", lambda _: draw(generator(), (2, -1)), says)
    for shape in ((2**70,), (2**39, 4), (0, 2**63)):
        says = f"at most {2**40} numbers, not {re.escape(repr(shape))}"
        yield Row(R + name, "shape", lambda _, s=shape: draw(generator(), s), says)
    for shape, shown in (
        ((2, 1.5), "1.5"), ("ab", "'a'"), (b"7", "b'7'"), (None, "None"), (True, "True"),
    ):  # fmt: skip
        says = f"must be an integer, not {shown}"
        yield Row(R + name, "shape", lambda _, s=shape: draw(generator(), s), says, TypeError)


def _probabilities(name, argument, call):
    for p in (1.5, -0.1, NAN):
        says = f"probability between 0 and 1, not {p}"
        yield Row(name, argument, lambda _, p=p: call(p), says)
    for p in ("a half", None, np.array([0.1, 0.2])):
        says = f"must be a number, .* not {re.escape(repr(p))}"
        yield Row(name, argument, lambda _, p=p: call(p), says, TypeError)


ROWS = [
    *(row for name, draw in (_DRAWS | _UNSHAPED).items() for row in _generators(name, draw)),
    *(row for name, draw in _DRAWS.items() for row in _shapes(name, draw)),
    *_probabilities(R + "bernoulli", "p", lambda p: random.bernoulli(generator(), p, (2,))),
    *_probabilities(R + "dropout_mask", "p", lambda p: random.dropout_mask(generator(), p, (2,))),
    *of_values(
        R + "manual_seed", "seed", random.manual_seed,
        *(
            (value, f"must be an integer, not {re.escape(repr(value))}", TypeError)
            for value in ("7", b"7", 1.5, True, np.float64(1), NAN, None, 1j, np.array([1, 2]))
        ),
        (2**64, r"between -2\*\*63 and 2\*\*64 - 1, not 18446744073709551616"),
        (-(2**63) - 1, r"between -2\*\*63 and .* not -9223372036854775809"),
    ),
    Row(R + "manual_seed", "seed", lambda _: jax.jit(random.manual_seed)(1), "concrete, not traced",
        TypeError),
    Row(R + "manual_seed", "device", lambda _: random.manual_seed(0, "tpu"),
        '"cpu" or "cuda", not \'tpu\'; did you mean \'cpu\''),
    Row(R + "manual_seed", "multiprocessors", lambda _: random.manual_seed(0, "cuda", 0),
        "integer of at least 1, not 0"),
    Row(R + "manual_seed", "threads_per_multiprocessor",
        lambda _: random.manual_seed(0, "cuda", 1, 8.0), "integer of at least 256, not 8.0"),
    _draw("uniform", "low", "not exceed high, .* low=1.0, high=0.0", 2, 1.0, 0.0),
    _draw("uniform", "low", "low=nan", 2, NAN),
    _draw("uniform", "low", "must be a number, not 'a'", 2, "a", kind=TypeError),
    _draw("uniform", "high", "high=inf", 2, 0.0, INF),
    _draw("uniform", "high", r"must be a number, not array\(\[1., 1.\]\)", 2, 0.0, np.ones(2),
          kind=TypeError),
    _draw("normal", "mean", "finite.*mean=nan", 2, NAN),
    _draw("normal", "mean", "must be a number, not 'a'", 2, "a", kind=TypeError),
    _draw("normal", "std", "not negative.*std=-1.0", 2, 0.0, -1.0),
    _draw("normal", "std", "must be a number, not None", 2, 0.0, None, kind=TypeError),
    _draw("randint", "low", "below high, .* low=2, high=2", 2, 2, (1,)),
    _draw("randint", "low", "must be an integer, not 0.5", 0.5, 2, (1,), kind=TypeError),
    _draw("randint", "high", "must be an integer, not '9'", 0, "9", (1,), kind=TypeError),
    _draw("randint", "high", "int64's range: low=0, high=18446744073709551616", 0, 2**64, (1,)),
    _draw("randperm", "n", "between 0 and .* not -1", -1),
    _draw("randperm", "n", "between 0 and .* not 214748364", 2**32 // 20),
    _draw("randperm", "n", "must be an integer, not 2.0", 2.0, kind=TypeError),
    _draw("randperm", "n", "must be an integer, not True", True, kind=TypeError),
    *(
        row
        for name in ("kaiming_uniform", "kaiming_normal")
        for row in (
            _draw(name, "shape", r"at least two axes, \(out, in, ...\), not \(3,\)", (3,)),
            _draw(name, "mode", "not 'fan'; did you mean 'fan_in'", (1, 2), mode="fan"),
            _draw(name, "nonlinearity", "one of linear, .* not 'gelu'; did you mean", (1, 2),
                  nonlinearity="gelu"),
            _draw(name, "a", "must be a number, not nan", (1, 2), a=NAN),
            _draw(name, "a", "must be a number, not '0'", (1, 2), a="0", kind=TypeError),
        )
    ),
    *(
        row
        for name in ("xavier_uniform", "xavier_normal")
        for row in (
            _draw(name, "shape", r"two axes, .* not \(3,\)", 3),
            _draw(name, "gain", "finite and at least 0, not -1.0", (1, 2), -1.0),
            _draw(name, "gain", "finite and at least 0, not nan", (1, 2), NAN),
            _draw(name, "gain", "must be a number, not '1'", (1, 2), "1", kind=TypeError),
        )
    ),
    _draw("trunc_normal", "a", "below b, .* a=1.0, b=1.0", 2, a=1.0, b=1.0),
    _draw("trunc_normal", "std", "above 0: .* std=0.0", 2, std=0.0),
    _draw("trunc_normal", "mean", "finite.* mean=nan", 2, NAN),
    _draw("trunc_normal", "b", "must be a number, not '2'", 2, b="2", kind=TypeError),
    *of_values(
        R + "set_state", "state", random.set_state,
        (b"abc", r"shape \(5056,\), not \(3,\)"),
        (np.zeros(5056), "uint8 numbers or be bytes, not float64", TypeError),
        (np.zeros(5056, np.uint8), "one that torch.get_rng_state returned: this one is damaged"),
    ),
    Row(R + "set_state", "state", lambda _: jax.jit(random.set_state)(np.zeros(5056, np.uint8)),
        "concrete, not traced", TypeError),
    *(
        row
        for name, draw in (
            ("draw", nn.draw), ("draw_steps", lambda net, g, x: nn.draw_steps(net, g, x, 2))
        )
        for row in (
            Row(N + name, "generator", lambda _, d=draw: d(net(), key(), X), f"{NO_KEY} .*Array",
                TypeError),
            Row(N + name, "net", lambda _, d=draw: d("net", generator(), X),
                "must be a Flax module, not 'net'", TypeError),
            Row(N + name, "net", lambda _, d=draw: d(nn.Linear, generator(), X),
                "must be a Flax module, not .*Linear", TypeError),
            Row(N + name, "x",
                lambda _, d=draw: d(nn.Sequential([nn.Linear(3, 1)]), generator(), X),
                r"shape \(..., 3\), not \(4, 2\)"),
            Row(N + name, "input",
                lambda _, d=draw: d(nn.Sequential([nn.Dropout()]), random.manual_seed(0, "cuda"),
                                    X.astype(np.float16)),
                "dropout '0' has float16 input.*float32 alone", TypeError),
        )
    ),
    Row(N + "draw_steps", "steps", lambda _: nn.draw_steps(net(), generator(), X, 0),
        "integer of at least 1, not 0"),
    Row(N + "draw_steps", "steps", lambda _: nn.draw_steps(net(), generator(), X, 2**31),
        "at most 2147483647, not 2147483648"),
    *(
        Row(D + name, "batch_size", lambda _, v=v, c=call: c(v), says)
        for name, call in (
            ("make_batching", lambda v: data.make_batching(4, v)),
            ("DataLoader", lambda v: fit(data=data.DataLoader((X, Y), batch_size=v))),
        )
        for v, says in (
            *((v, f"integer of at least 1, not {v!r}") for v in (0, -1, 2.0, True, "2")),
            (5, "at most the number of rows, 4, not 5"),
        )
    ),
    Row(D + "make_batching", "shuffle", lambda _: data.make_batching(4, None, shuffle=True),
        "shuffle=True needs a batch_size"),
    Row(D + "make_batching", "drop_last", lambda _: data.make_batching(4, None, drop_last=True),
        "drop_last=True needs a batch_size"),
    Row(D + "make_batching", "num_examples", lambda _: data.make_batching(0, None),
        "integer of at least 1, not 0"),
    Row(D + "make_batching", "num_examples", lambda _: data.make_batching(2**31, 1),
        "at most 2147483647, not 2147483648"),
    Row(D + "DataLoader", "generator",
        lambda _: fit(data=data.DataLoader((X, Y), 2, generator=key())), f"{NO_KEY} .*Array",
        TypeError),
    Row(D + "DataLoader", "batch_size", lambda _: fit(data=data.DataLoader((X, Y)), batch_size=2),
        "the DataLoader's own"),
    Row(D + "DataLoader", "shuffle", lambda _: fit(data=data.DataLoader((X, Y)), shuffle=True),
        "the DataLoader's own"),
    *(
        Row(D + name, "data", lambda _, s=source, v=rows: s(v), says, kind)
        for name, source in (("InMemory", data.InMemory), ("Mapped", data.Mapped))
        for rows, says, kind in (
            ((X, Y[:3]), r"same number of rows.* x \(4, 2\) and y \(3, 1\)", ValueError),
            ({"a": X, "b": Y[:3]}, r"same number of rows.*\['a'\]", ValueError),
            ((X[:0], Y[:0]), "at least one", ValueError),
            ({"a": np.float32(1)}, "at least one", ValueError),
            ({"a": X.astype(str)}, "must hold real numbers, not <U32", TypeError),
            ({"a": {"b": "abcd"}}, "must hold real numbers, not a str", TypeError),
        )
    ),
    Row(D + "Mapped", "precision", lambda _: data.Mapped((X, Y), "double"),
        "one of parity, fast, float64, not 'double'"),
    Row(D + "Mapped", "x",
        lambda _: data.Mapped((replaced(X, (2, 1), NAN), Y)).take(np.array([1, 2])),
        "must be finite.* row 2 holds nan"),
    Row(D + "Mapped", "y",
        lambda _: data.Mapped((X, replaced(Y, 2, INF))).take(np.array([1, 2])),
        "must be finite.* row 2 holds inf"),
    Row(D + "start_epoch", "generator",
        lambda _: data.start_epoch(0, data.Batching(4, 2, shuffle=True)),
        "must be a jaxnet.random.Generator or a jax.random.key, not int", TypeError),
    *(
        Row(D + "random_split", "lengths",
            lambda _, v=v: data.random_split(generator(), 5, v),
            f"sum to the number of rows, 5, or to 1, not {re.escape(repr(v))}", kind)
        for kind, values in (
            (ValueError, ([2, 2], [6, -1], [0.5, 0.6], [1.5, -0.5], [NAN, 1], [])),
            (TypeError, (["5"], [True], None)),
        )
        for v in values
    ),
    Row(D + "random_split", "rows", lambda _: data.random_split(generator(), 2.5, [1.0]),
        "must be an integer, not 2.5", TypeError),
    Row(D + "random_split", "rows", lambda _: data.random_split(generator(), -1, [1.0]),
        "at least 0, not -1"),
    Row(D + "random_split", "generator", lambda _: data.random_split(key(), 5, [5]),
        f"{NO_KEY} .*Array", TypeError),
    Row("jaxnet.init", "net", lambda _: jaxnet.init("net", generator()),
        "made of jaxnet.nn modules, not str", TypeError),
    Row("jaxnet.init", "generator", lambda _: jaxnet.init(net(), 1), f"{NO_KEY} int", TypeError),
]  # fmt: skip
