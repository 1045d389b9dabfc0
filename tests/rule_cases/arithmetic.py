"""Of `elementwise`."""

import numpy as np

from tests.rule_cases import array, bools, call, fixed, floats, ints, units, whole

PAIRS = [call(floats(2, 3), floats(3)), call(floats(2, 1), floats(1, 3, seed=1))]
SCALARS = [call(floats(2, 3), 1.7), call(floats(2, 3), 2)]
EQUAL = [call(whole(3, 4), whole(4, seed=1)), call(ints(3, 4), ints(4))]
MIXED = [call(ints(2, 3), floats(3)), call(ints(3), fixed(1.5)), call(bools(3), ints(3))]
ONE = floats()

CASES = {
    "add.Tensor": [
        *PAIRS,
        *MIXED,
        call(floats(3), floats(3, seed=1), alpha=0.3),
        call(floats(2), ONE),
        call(bools(3), bools(3, seed=1)),
        call(ints(3), 2.5),
    ],
    "add.Scalar": [*SCALARS, call(floats(2), 3, 2)],
    "sub.Tensor": [
        *PAIRS,
        call(ints(2, 3), floats(3)),
        call(floats(2), floats(2, seed=1), alpha=2),
    ],
    "sub.Scalar": SCALARS,
    "rsub.Scalar": [*SCALARS, call(floats(2), 3.0, 2)],
    "rsub.Tensor": [*PAIRS, call(floats(2), floats(2, seed=1), alpha=2)],
    "mul.Tensor": [*PAIRS, *MIXED, call(floats(2), ONE), call(ONE, floats(2))],
    "mul.Scalar": SCALARS,
    "div.Tensor": [
        *PAIRS,
        call(ints(3), ints(3, low=1)),
        call(floats(3), ints(3, low=1)),
        call(array(1.0, -1.0, 0.0), fixed([0.0, 0.0, 0.0])),
    ],
    "div.Scalar": [*SCALARS, call(ints(3), 2)],
    "div.Tensor_mode": [
        *(call(ints(9), np.array([3, -2, 4] * 3), rounding_mode=m) for m in ("floor", "trunc")),
        *(call(floats(9), fixed(floats(9, seed=1)), rounding_mode=m) for m in ("floor", "trunc")),
        call(floats(3), floats(3, seed=1), rounding_mode=None),
        call(ints(3), ints(3, low=1), rounding_mode=None),
    ],
    "div.Scalar_mode": [
        call(ints(9), m, rounding_mode=r) for m in (3, -3) for r in ("floor", "trunc")
    ],
    "floor_divide.default": [
        call(ints(9), np.array([3, -2, 4] * 3)),
        call(fixed(floats(9)), fixed(floats(9, seed=1))),
    ],
    "floor_divide.Scalar": [call(ints(9), 3), call(ints(9), -3)],
    "remainder.Tensor": [
        call(ints(9), np.array([3, -2, 4] * 3)),
        call(floats(9), floats(9, seed=1)),
    ],
    "remainder.Scalar": [call(ints(9), 3), call(ints(9), -3), call(floats(9), 0.7)],
    "remainder.Scalar_Tensor": [call(7, np.array([3, -2, 4]))],
    "fmod.Tensor": [
        call(ints(9), np.array([3, -2, 4] * 3)),
        call(floats(9), fixed(floats(9, seed=1))),
    ],
    "fmod.Scalar": [call(ints(9), 3), call(ints(9), -3), call(floats(9), 0.7)],
    **{
        f"{name}.Tensor": [*EQUAL, call(ints(3), fixed(whole(3))), call(ints(2, 3), fixed(1.0))]
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    },
    **{
        f"{name}.Scalar": [call(whole(3, 4), 1), call(ints(5), 0.5)]
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    },
    **{
        f"{prefix}{name}{end}.Tensor": [
            call(ints(5), ints(5, seed=1)),
            call(bools(4), bools(4, seed=1)),
        ]
        for name in ("and", "or", "xor")
        for prefix, end in (("bitwise_", ""), ("__", "__"))
    },
    **{
        f"{prefix}{name}{end}.Scalar": [call(ints(5), 6), call(bools(4), True)]
        for name in ("and", "or", "xor")
        for prefix, end in (("bitwise_", ""), ("__", "__"))
    },
    **{
        f"logical_{name}.default": [
            call(bools(4), bools(4, seed=1)),
            call(ints(9), fixed(whole(9))),
        ]
        for name in ("and", "or", "xor")
    },
    "logical_not.default": [call(bools(4)), call(ints(9)), call(whole(9))],
    "bitwise_not.default": [call(bools(4)), call(ints(9))],
    **{
        name: [call(ints(5, low=0), ints(5, low=0))]
        for name in (
            "bitwise_left_shift.Tensor",
            "bitwise_right_shift.Tensor",
            "__lshift__.Tensor",
            "__rshift__.Tensor",
        )
    },
    **{
        name: [call(ints(5), 2)]
        for name in (
            "bitwise_left_shift.Tensor_Scalar",
            "bitwise_right_shift.Tensor_Scalar",
            "__lshift__.Scalar",
            "__rshift__.Scalar",
        )
    },
    **{
        name: [*EQUAL, *PAIRS, call(array(np.nan, 1.0), array(1.0, np.nan))]
        for name in ("maximum.default", "max.other", "minimum.default", "min.other")
    },
    **{
        name: [call(array(np.nan, 1.0, 2.0), array(1.0, np.nan, 2.0)), *PAIRS]
        for name in ("fmax.default", "fmin.default")
    },
    **{
        name: [
            call(whole(4, 5), -1, 1),
            call(whole(9), -1.0),
            call(whole(9), None, 1),
            call(whole(9), 1, -1),
            call(floats(9), -0.5, 0.5),
            call(ints(9), -2, 2),
            call(array(np.nan, 1.0), -0.5, 0.5),
            call(ints(9), 0.5),
        ]
        for name in ("clamp.default",)
    },
    **{
        name: [
            call(floats(4, 5), floats(5, seed=1), floats(5, seed=2)),
            call(floats(4, 5), floats(5, seed=1)),
            call(floats(4, 5), None, floats(4, 5, seed=1)),
            call(whole(4, 5), whole(5, seed=1)),
        ]
        for name in ("clamp.Tensor",)
    },
    "clamp_min.default": [call(whole(9), -1), call(floats(9), 0.3)],
    "clamp_max.default": [call(whole(9), 1), call(floats(9), 0.3)],
    "clamp_min.Tensor": [call(floats(9), floats(9, seed=1))],
    "clamp_max.Tensor": [call(floats(9), floats(9, seed=1))],
    "where.self": [
        call(bools(2, 3), floats(3), floats(2, 1)),
        call(bools(3), ints(3), floats(3)),
        call(bools(3), floats(3), ONE),
    ],
    "where.ScalarSelf": [call(bools(2, 3), 2.0, floats(3))],
    "where.ScalarOther": [call(bools(2, 3), floats(3), 2.0), call(bools(3), ints(3), 2)],
    "where.Scalar": [call(bools(2, 3), 1.0, 0.0)],
    "masked_fill.Scalar": [call(floats(2, 3), bools(3), -np.inf), call(ints(3), bools(3), 2)],
    "masked_fill.Tensor": [call(floats(2, 3), bools(2, 1), ONE)],
    "lerp.Scalar": [
        call(floats(3), floats(3, seed=1), 0.3),
        call(floats(3), floats(3, seed=1), 0.8),
    ],
    "lerp.Tensor": [call(floats(2, 3), floats(2, 3, seed=1), units(2, 3))],
    "addcmul.default": [call(floats(2, 3), floats(3), floats(2, 1), value=0.5)],
    "addcdiv.default": [call(floats(2, 3), floats(3), units(2, 1), value=0.5)],
    "pow.Tensor_Scalar": [
        *(call(array(-2.0, -0.5, 0.0, 0.5, 3.0), p) for p in (3, 0, 1, 2, 2.0, -1, -2)),
        *(call(array(0.0, 0.5, 3.0), p) for p in (0.5, -0.5, 1.5, 2.3, 0.0)),
        *(call(ints(9), p) for p in (0, 2, 3)),
        call(ints(9), 2.0),
    ],
    "pow.Tensor_Tensor": [
        call(array(0.0, 0.0, 0.0, 0.7), array(0.0, 0.5, 2.0, -1.3)),
        call(units(5), floats(5)),
        call(array(0.0, 2.0), array(0.0, 2.0)),
        call(ints(6), np.array([0, 1, 2, 3, 5, 7])),
        call(floats(3), np.array([2, 3, 0])),
    ],
    "pow.Scalar": [call(2.0, floats(5)), call(2, ints(5, low=0)), call(0.0, array(1.0, 2.0))],
    **{
        name: [
            call(floats(5), floats(5, seed=1)),
            call(array(0.0, 0.0, 1.0), array(0.0, -1.0, 0.0)),
        ]
        for name in ("atan2.default",)
    },
    "hypot.default": [call(floats(5), floats(5, seed=1))],
    "logaddexp.default": [
        call(floats(5), floats(5, seed=1)),
        call(array(1e3, -1e3), array(1e3, 0.0)),
    ],
    "xlogy.Tensor": [call(units(5), units(5, seed=1)), call(array(0.0, 1.0), array(2.0, 3.0))],
    "xlogy.Scalar_Other": [call(units(5), 2.0)],
    "xlogy.Scalar_Self": [call(2.0, units(5))],
    "isclose.default": [call(whole(9), whole(9, seed=1)), call(array(1.0), array(1.0 + 1e-9))],
}
