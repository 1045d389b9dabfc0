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
    **{
        f"{name}.default": [*ANY, call(ints(5))]
        for name in ("exp", "exp2", "expm1", "sin", "cos", "atan", "asinh", "erf", "erfc", "sinc")
    },
    **{f"{name}.default": [*FAR, call(ints(5))] for name in ("tanh", "sigmoid", "special_expit")},
    **{f"{name}.default": [call(floats(5)), call(ints(5))] for name in ("tan", "sinh", "cosh")},
    **{f"{name}.default": POSITIVE for name in ("log", "log2", "log10", "log1p", "rsqrt")},
    "sqrt.default": [*POSITIVE, call(array(0.0, 4.0))],
    "reciprocal.default": [*POSITIVE, call(floats(3))],
    **{f"{name}.default": INSIDE for name in ("asin", "acos", "atanh", "erfinv")},
    "acosh.default": [call(units(5) + 1.0)],
    "lgamma.default": POSITIVE,
    "digamma.default": [*POSITIVE, call(array(-8.7, -0.3, 0.3))],
    **{f"{name}.default": [*ZERO, call(ints(5))] for name in ("neg", "positive", "square")},
    "sign.default": [*ZERO, call(ints(5))],
    "sgn.default": [*ZERO, call(ints(5))],
    "abs.default": [*ZERO, call(ints(5))],
    **{f"{name}.default": [NAN] for name in ("isnan", "isinf", "isfinite", "signbit")},
    **{f"{name}.default": HALVES for name in ("floor", "ceil", "trunc", "round")},
    "round.decimals": [call(floats(5), decimals=2)],
    "frac.default": [call(floats(5))],
    "logit.default": [call(units(5)), call(array(0.0, 0.1, 0.5, 0.95, 1.0), 0.1)],
    "nan_to_num.default": [
        call(array(np.nan, np.inf, -np.inf, 1.0)),
        call(ints(3)),
        call(array(np.nan, np.inf, -np.inf, 1.0), 1.0, 2.0, 3.0),
    ],
    **{
        f"{name}.default": [call(floats(2, 3)), call(ints(3))]
        for name in (
            "detach",
            "alias",
            "alias_copy",
            "lift_fresh_copy",
            "lift",
            "clone",
            "contiguous",
            "resolve_conj",
            "resolve_neg",
        )
    },
    "_to_copy.default": [
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
    "type_as.default": [call(ints(3), fixed(floats(1))), call(floats(3), ints(1))],
    "copy.default": [
        call(fixed(floats(2, 3)), fixed(floats(3))),
        call(ints(2, 3), fixed(floats(3))),
    ],
    "fill.Scalar": [call(floats(2, 3), 2.5), call(ints(3), 2)],
    "fill.Tensor": [call(floats(2, 3), floats())],
    "zero.default": [call(floats(2, 3))],
    "softmax.int": [
        call(floats(2, 3, 4), 1),
        call(floats(3, 4), -1),
        call(array(1e3, 1e3, -1e3), 0),
        call(fixed(floats(3)), 0, "float32"),
        call(floats(), 0),
    ],
    "_softmax.default": [call(floats(2, 3), -1, False)],
    "_safe_softmax.default": [call(array([0.1, 0.4], [-np.inf, -np.inf], [-np.inf, 1.0]), -1)],
    "log_softmax.int": [
        call(floats(2, 3, 4), 1),
        call(array(1e3, 1e3, -1e3), 0),
        call(floats(), 0),
    ],
    "_log_softmax.default": [call(floats(2, 3), -1, False)],
    "relu.default": [*ZERO, call(ints(5))],
    "gelu.default": [*FAR, *(call(*c.args, approximate="tanh") for c in FAR)],
    "silu.default": FAR,
    "mish.default": FAR,
    "log_sigmoid.default": FAR,
    "log_sigmoid_forward.default": FAR,
    "softplus.default": [*FAR, call(floats(7), 2.0, 1.0), call(floats(7), 0.5, 0.0)],
    "elu.default": [*ANY, call(floats(7), 1.5), call(floats(7), 1.5, 2.0, 0.5)],
    "selu.default": ANY,
    "celu.default": [*ANY, call(floats(7), 0.5)],
    "leaky_relu.default": [*ZERO, call(floats(7), 0.3), call(whole(7), -0.2)],
    "rrelu.default": [call(floats(7)), call(floats(7), 0.1, 0.5)],
    **{
        name: [
            call(whole(2, 3, 4), array(0.3, -0.2, 0.1)),
            call(whole(5), array(0.3)),
            call(whole(4, 3), array(0.3, 0.2, 0.1)),
        ]
        for name in ("prelu.default",)
    },
    "_prelu_kernel.default": [call(whole(2, 3), floats(1, 3)), call(whole(2, 3), floats(2, 3))],
    "hardtanh.default": [*ZERO, call(whole(9), -2, 1), call(floats(9), -0.5, 0.3)],
    "relu6.default": [call(array(-1.0, 0.0, 3.0, 6.0, 7.0))],
    "hardsigmoid.default": [call(array(-4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0))],
    "hardswish.default": [call(array(-4.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0)), call(floats(9) * 3)],
    "threshold.default": [call(whole(9), 0.0, 7.0), call(whole(9), 1, -1)],
    "hardshrink.default": [call(array(-1.0, -0.5, 0.0, 0.5, 1.0)), call(floats(9), 0.2)],
    "softshrink.default": [call(array(-1.0, -0.5, 0.0, 0.5, 1.0)), call(floats(9), 0.2)],
    "glu.default": [call(floats(3, 4)), call(floats(4, 3), 0)],
}
