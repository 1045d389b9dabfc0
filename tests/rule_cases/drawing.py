"""Of `random`: torch's stream is drawn in float32, and ends where torch's ends."""

from tests.rule_cases import Call, fixed, floats, ints, units

X = floats(3, 7)


def drawn(*args, **keywords) -> Call:
    return Call(args, keywords, double=False)


CASES = {
    "native_dropout": [drawn(X, 0.3, True), drawn(X, 0.3, False)],
    "dropout": [
        drawn(X, 0.3, True),
        drawn(X, 0.0, True),
        drawn(X, 1.0, True),
        drawn(X, 0.3, False),
    ],
    "bernoulli.p": [drawn(fixed(X), 0.3), drawn(ints(3, 7), 0.8)],
    "bernoulli": [drawn(fixed(units(3, 7)))],
    "bernoulli.Tensor": [drawn(fixed(X), fixed(units(7)))],
    "rand randn": [drawn([3, 7])],
    "rand_like randn_like": [drawn(fixed(X)), drawn(ints(3, 7), dtype="float32")],
    "uniform": [drawn(fixed(X)), drawn(fixed(X), -2.0, 3.0)],
    "normal_functional": [drawn(fixed(X)), drawn(fixed(X), 2.0, 0.5)],
    "exponential": [drawn(fixed(X)), drawn(fixed(X), 2.0)],
    "randint": [drawn(10, [3, 7])],
    "randint.low": [drawn(-3, 10, [3, 7])],
    "randint_like": [drawn(ints(3, 7), 10)],
    "randint_like.low_dtype": [drawn(fixed(X), 2, 9)],
    "randperm": [drawn(9)],
}
