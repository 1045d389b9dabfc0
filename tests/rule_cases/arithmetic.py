"""Of `elementwise`."""

import numpy as np

from tests.rule_cases import array, bools, call, fixed, floats, ints, units, whole

PAIRS = [call(floats(2, 3), floats(3)), call(floats(2, 1), floats(1, 3, seed=1))]
SCALARS = [call(floats(2, 3), 1.7), call(floats(2, 3), 2)]
EQUAL = [call(whole(3, 4), whole(4, seed=1)), call(ints(3, 4), ints(4))]
MIXED = [call(ints(2, 3), floats(3)), call(ints(3), fixed(1.5)), call(bools(3), ints(3))]
BITS = [call(ints(5), ints(5, seed=1)), call(bools(4), bools(4, seed=1))]
BITS_AND_ONE = [call(ints(5), 6), call(bools(4), True)]
SHIFTS, SHIFTS_BY_2 = [call(ints(5, low=0), ints(5, low=0))], [call(ints(5), 2)]
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
    "floor_divide": [
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
    "eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor": [
        *EQUAL,
        call(ints(3), fixed(whole(3))),
        call(ints(2, 3), fixed(1.0)),
    ],
    "eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar": [
        call(whole(3, 4), 1),
        call(ints(5), 0.5),
    ],
    "bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor": BITS,
    "__and__.Tensor __or__.Tensor __xor__.Tensor": BITS,
    "bitwise_and.Scalar bitwise_or.Scalar bitwise_xor.Scalar": BITS_AND_ONE,
    "__and__.Scalar __or__.Scalar __xor__.Scalar": BITS_AND_ONE,
    "logical_and logical_or logical_xor": [
        call(bools(4), bools(4, seed=1)),
        call(ints(9), fixed(whole(9))),
    ],
    "logical_not": [call(bools(4)), call(ints(9)), call(whole(9))],
    "bitwise_not": [call(bools(4)), call(ints(9))],
    "bitwise_left_shift.Tensor bitwise_right_shift.Tensor": SHIFTS,
    "__lshift__.Tensor __rshift__.Tensor": SHIFTS,
    "bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor_Scalar": SHIFTS_BY_2,
    "__lshift__.Scalar __rshift__.Scalar": SHIFTS_BY_2,
    "maximum max.other minimum min.other": [
        *EQUAL,
        *PAIRS,
        call(array(np.nan, 1.0), array(1.0, np.nan)),
    ],
    "fmax fmin": [call(array(np.nan, 1.0, 2.0), array(1.0, np.nan, 2.0)), *PAIRS],
    "clamp": [
        call(whole(4, 5), -1, 1),
        call(whole(9), -1.0),
        call(whole(9), None, 1),
        call(whole(9), 1, -1),
        call(floats(9), -0.5, 0.5),
        call(ints(9), -2, 2),
        call(array(np.nan, 1.0), -0.5, 0.5),
        call(ints(9), 0.5),
    ],
    "clamp.Tensor": [
        call(floats(4, 5), floats(5, seed=1), floats(5, seed=2)),
        call(floats(4, 5), floats(5, seed=1)),
        call(floats(4, 5), None, floats(4, 5, seed=1)),
        call(whole(4, 5), whole(5, seed=1)),
    ],
    "clamp_min": [call(whole(9), -1), call(floats(9), 0.3)],
    "clamp_max": [call(whole(9), 1), call(floats(9), 0.3)],
    "clamp_min.Tensor clamp_max.Tensor": [call(floats(9), floats(9, seed=1))],
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
    "addcmul": [call(floats(2, 3), floats(3), floats(2, 1), value=0.5)],
    "addcdiv": [call(floats(2, 3), floats(3), units(2, 1), value=0.5)],
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
    "atan2": [
        call(floats(5), floats(5, seed=1)),
        call(array(0.0, 0.0, 1.0), array(0.0, -1.0, 0.0)),
    ],
    "hypot": [call(floats(5), floats(5, seed=1))],
    "logaddexp": [
        call(floats(5), floats(5, seed=1)),
        call(array(1e3, -1e3), array(1e3, 0.0)),
    ],
    "xlogy.Tensor": [call(units(5), units(5, seed=1)), call(array(0.0, 1.0), array(2.0, 3.0))],
    "xlogy.Scalar_Other": [call(units(5), 2.0)],
    "xlogy.Scalar_Self": [call(2.0, units(5))],
    "isclose": [call(whole(9), whole(9, seed=1)), call(array(1.0), array(1.0 + 1e-9))],
}
