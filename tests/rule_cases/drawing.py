"""Of `random`: torch's stream is drawn in float32, and ends where torch's ends."""

from tests.rule_cases import Call, fixed, floats, ints, units

X = floats(3, 7)


def drawn(*args, **keywords) -> Call:
    return Call(args, keywords, double=False)


CASES = {
    "native_dropout.default": [drawn(X, 0.3, True), drawn(X, 0.3, False)],
    "dropout.default": [
        drawn(X, 0.3, True),
        drawn(X, 0.0, True),
        drawn(X, 1.0, True),
        drawn(X, 0.3, False),
    ],
    "bernoulli.p": [drawn(fixed(X), 0.3), drawn(ints(3, 7), 0.8)],
    "bernoulli.default": [drawn(fixed(units(3, 7)))],
    "bernoulli.Tensor": [drawn(fixed(X), fixed(units(7)))],
    "rand.default": [drawn([3, 7])],
    "randn.default": [drawn([3, 7])],
    "rand_like.default": [drawn(fixed(X)), drawn(ints(3, 7), dtype="float32")],
    "randn_like.default": [drawn(fixed(X)), drawn(ints(3, 7), dtype="float32")],
    "uniform.default": [drawn(fixed(X)), drawn(fixed(X), -2.0, 3.0)],
    "normal_functional.default": [drawn(fixed(X)), drawn(fixed(X), 2.0, 0.5)],
    "exponential.default": [],
    "randint.default": [drawn(10, [3, 7])],
    "randint.low": [drawn(-3, 10, [3, 7])],
    "randint_like.default": [drawn(ints(3, 7), 10)],
    "randint_like.low_dtype": [drawn(fixed(X), 2, 9)],
    "randperm.default": [drawn(9)],
}
