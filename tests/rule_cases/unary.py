"""Of `functions` and `activations`."""

import numpy as np

from tests.rule_cases import array, bools, call, fixed, floats, ints, units, whole

ANY = [call(array(-9.0, -1.0, -0.1, 0.0, 0.1, 1.0, 9.0)), call(floats(2, 3))]
ZERO = [call(array(-3.0, -1.0, 0.0, 1.0, 3.0)), call(floats(2, 3))]
FAR = [*ANY, call(array(-100.0, -30.0, 30.0, 100.0))]
POSITIVE = [call(array(1e-3, 0.5, 1.0, 20.0)), call(ints(5, low=1))]
INSIDE = [call(units(7) * 1.8 - 0.9)]
HALVES = [call(array(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.7)), call(ints(4))]
NAN = call(fixed([np.nan, np.inf, -np.inf, 1.0, 0.0, -0.0]))

CASES = {
    "exp exp2 expm1 sin cos atan asinh erf erfc sinc": [*ANY, call(ints(5))],
    "tanh sigmoid special_expit": [*FAR, call(ints(5))],
    "tan sinh cosh": [call(floats(5)), call(ints(5))],
    "log log2 log10 log1p rsqrt": POSITIVE,
    "sqrt": [*POSITIVE, call(array(0.0, 4.0))],
    "reciprocal": [*POSITIVE, call(floats(3))],
    "asin acos atanh erfinv": INSIDE,
    "acosh": [call(units(5) + 1.0)],
    "lgamma": POSITIVE,
    # torch's derivative of it is off by 1e-9, in float64 too.
    "digamma": [*POSITIVE, call(array(-8.7, -0.3, 0.3))._replace(double=False)],
    "neg positive square": [*ZERO, call(ints(5))],
    "sign": [*ZERO, call(ints(5))],
    "sgn": [*ZERO, call(ints(5))],
    "abs": [*ZERO, call(ints(5))],
    "isnan isinf isfinite signbit": [NAN],
    "floor ceil trunc round": HALVES,
    "round.decimals": [call(floats(5), decimals=2)],
    "frac": [call(floats(5))],
    "logit": [call(units(5)), call(array(0.0, 0.1, 0.5, 0.95, 1.0), 0.1)],
    "nan_to_num": [
        call(array(np.nan, np.inf, -np.inf, 1.0)),
        call(ints(3)),
        call(array(np.nan, np.inf, -np.inf, 1.0), 1.0, 2.0, 3.0),
    ],
    "detach alias alias_copy lift_fresh_copy lift clone contiguous resolve_conj resolve_neg": [
        call(floats(2, 3)),
        call(ints(3)),
    ],
    "_to_copy": [
        call(floats(3), dtype="int64"),
        call(ints(3), dtype="float32"),
        call(whole(5), dtype="bool"),
        call(bools(3), dtype="int64"),
        call(floats(3), dtype="float32"),
        call(floats(3), dtype="float16"),
    ],
    "to.dtype": [call(floats(3), "int64"), call(ints(3), "float32")],
    "to.dtype_layout": [call(floats(3), dtype="float32")],
    "to.device": [call(ints(3), "cpu", "float32")],
    "to.other": [call(ints(3), fixed(floats(1)))],
    "type_as": [call(ints(3), fixed(floats(1))), call(floats(3), ints(1))],
    "copy": [
        call(fixed(floats(2, 3)), fixed(floats(3))),
        call(ints(2, 3), fixed(floats(3))),
    ],
    "fill.Scalar": [call(floats(2, 3), 2.5), call(ints(3), 2)],
    "fill.Tensor": [call(floats(2, 3), floats())],
    "zero": [call(floats(2, 3))],
    "softmax.int": [
        call(floats(2, 3, 4), 1),
        call(floats(3, 4), -1),
        call(array(1e3, 1e3, -1e3), 0),
        call(fixed(floats(3)), 0, "float32"),
        call(floats(), 0),
    ],
    "_softmax": [call(floats(2, 3), -1, False)],
    "_safe_softmax": [call(array([0.1, 0.4], [-np.inf, -np.inf], [-np.inf, 1.0]), -1)],
    "log_softmax.int": [
        call(floats(2, 3, 4), 1),
        call(array(1e3, 1e3, -1e3), 0),
        call(floats(), 0),
    ],
    "_log_softmax": [call(floats(2, 3), -1, False)],
    "relu": [*ZERO, call(ints(5))],
    "gelu": [*FAR, *(call(*c.args, approximate="tanh") for c in FAR)],
    "silu": FAR,
    "mish": FAR,
    "log_sigmoid": FAR,
    "log_sigmoid_forward": FAR,
    "softplus": [*FAR, call(floats(7), 2.0, 1.0), call(floats(7), 0.5, 0.0)],
    "elu": [*ANY, call(floats(7), 1.5), call(floats(7), 1.5, 2.0, 0.5)],
    "selu": ANY,
    "celu": [*ANY, call(floats(7), 0.5)],
    "leaky_relu": [*ZERO, call(floats(7), 0.3), call(whole(7), -0.2)],
    "rrelu": [call(floats(7)), call(floats(7), 0.1, 0.5)],
    "prelu": [
        call(whole(2, 3, 4), array(0.3, -0.2, 0.1)),
        call(whole(5), array(0.3)),
        call(whole(4, 3), array(0.3, 0.2, 0.1)),
    ],
    "_prelu_kernel": [call(whole(2, 3), floats(1, 3)), call(whole(2, 3), floats(2, 3))],
    "hardtanh": [*ZERO, call(whole(9), -2, 1), call(floats(9), -0.5, 0.3)],
    "relu6": [call(array(-1.0, 0.0, 3.0, 6.0, 7.0))],
    "hardsigmoid": [call(array(-4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0))],
    "hardswish": [call(array(-4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0)), call(floats(9) * 3)],
    "threshold": [call(whole(9), 0.0, 7.0), call(whole(9), 1, -1)],
    "hardshrink": [call(array(-1.0, -0.5, 0.0, 0.5, 1.0)), call(floats(9), 0.2)],
    "softshrink": [call(array(-1.0, -0.5, 0.0, 0.5, 1.0)), call(floats(9), 0.2)],
    "glu": [call(floats(3, 4)), call(floats(4, 3), 0)],
}
