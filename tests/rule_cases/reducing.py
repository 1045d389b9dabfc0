"""Of `reductions` and `sorting`."""

import math

import numpy as np

from tests.rule_cases import array, bools, call, fixed, floats, ints, units, whole

X, TIES = floats(2, 3, 4), whole(3, 4, 2)
NO_DIM = [call(floats(2, 3))]
DIMS = [call(X, [1]), call(X, [-1, 0], True), call(X, [], False), call(X, None)]
ONE_DIM = [call(TIES, 1), call(TIES, -1, True), call(ints(3, 4), 0)]
ZEROS = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 2.0]])

CASES = {
    "sum": [*NO_DIM, call(ints(3, 4)), call(bools(5)), call(ints(3), dtype="float32")],
    "sum.dim_IntList": [*DIMS, call(bools(3, 4), [0]), call(X, [1], dtype="float32")],
    "mean": [*NO_DIM, call(ints(3), dtype="float32")],
    "mean.dim": [*DIMS, call(ints(2, 3), [1], dtype="float32")],
    "prod": [
        *NO_DIM,
        call(array(0.0, 2.0, 3.0)),
        call(array(0.0, 0.0, 3.0)),
        call(ints(4)),
    ],
    "prod.dim_int": [call(X, 1), call(X, -1, True), call(ZEROS, 1), call(bools(2, 3), 1)],
    "cumsum": [call(X, 1), call(ints(3, 4), -1), call(bools(5), 0), call(floats(), 0)],
    "cumprod": [call(X, 1), call(array(2.0, 0.0, 3.0, 0.0, 4.0), 0), call(ints(4), 0)],
    "logcumsumexp": [call(X, 1), call(floats(), 0)],
    "logsumexp": [call(X, [1]), call(X, [0, 2], True), call(array(1e3, 1e3), [0])],
    "amax": [call(TIES), call(TIES, [1]), call(TIES, [0, -1], True), call(ints(3, 4), [0])],
    "amin": [call(TIES), call(TIES, [1]), call(TIES, [0, -1], True)],
    "aminmax": [
        call(floats(3, 4)),
        call(floats(3, 4), dim=1),
        call(floats(3, 4), dim=0, keepdim=True),
    ],
    "max": [call(TIES), call(ints(5)), call(fixed([1.0, np.nan]))],
    "min": [call(TIES)],
    "max.dim": [*ONE_DIM, call(floats(), 0), call(array(1.0, np.nan, 3.0), 0)],
    "min.dim": [*ONE_DIM, call(floats(), 0)],
    "argmax argmin": [
        call(fixed(TIES)),
        call(fixed(TIES), 1),
        call(ints(3, 4), -1, True),
        call(floats()),
    ],
    "any all": [call(bools(5)), call(ints(4)), call(fixed(whole(4)))],
    "any.dim all.dim": [call(bools(3, 4), 1), call(fixed(whole(3, 4)), -1, True)],
    "any.dims all.dims": [call(bools(3, 4), [0, 1]), call(bools(3, 4), None, True)],
    "count_nonzero": [call(ints(9)), call(bools(3, 4), 1)],
    "count_nonzero.dim_IntList": [call(fixed(whole(3, 4)), [0])],
    "var.correction std.correction var_mean.correction std_mean.correction": [
        call(X, [1], correction=0.5),
        call(X, [0, 2], keepdim=True),
        call(X),
        call(X, [1], correction=0),
    ],
    "var.dim std.dim": [call(X, [1]), call(X, [0, 2], False, True)],
    "var": [call(X), call(X, False)],
    "std": [call(X), call(X, False), call(array(2.0, 2.0, 2.0))],
    "linalg_vector_norm": [
        *(call(ZEROS, p, [1]) for p in (2, 1, 0, 3, 0.5, 1.5, math.inf, -math.inf)),
        *(call(X, p) for p in (2, 3.0, -1.0)),
        call(X, 2, [0, 2], True),
        call(X, 2, dtype="float64"),
    ],
    "norm.Scalar": [call(X), call(X, 1)],
    "norm.ScalarOpt_dim": [call(X, 2, [1]), call(X, None, [-1], True), call(ZEROS, 2, [1])],
    "norm.ScalarOpt_dtype": [call(X, 2, dtype="float64")],
    "norm.ScalarOpt_dim_dtype": [call(X, 2, [1], False, dtype="float64")],
    "linalg_norm": [call(X), call(X, 1, [1]), call(X, None, [0, 1], True)],
    "trace": [call(floats(3, 4)), call(ints(3, 3))],
    "dist": [
        call(floats(3, 4), floats(3, 4, seed=1)),
        call(floats(3), floats(3, seed=1), 1),
    ],
    "median.dim": [call(X, 1), call(floats(5, 4), -1, True), call(floats(), 0)],
    "median": [call(X), call(floats(5))],
    "sort": [call(X, 1), call(floats(5), -1, True), call(ints(4)), call(floats())],
    "sort.stable": [call(TIES, stable=True, dim=1), call(TIES, stable=True, descending=True)],
    "argsort": [call(fixed(X), 1), call(fixed(X), 1, True)],
    "topk": [
        call(X, 2),
        call(X, 2, 1, False),
        call(X, 3, 0 - 1, True, True),
        call(floats(), 1),
    ],
    "searchsorted.Tensor": [
        call(fixed([1.0, 2.0, 2.0, 3.0]), fixed(units(2, 3) * 4)),
        call(np.array([1, 2, 2, 3]), np.array([0, 2, 3]), right=True),
        call(np.array([1, 2, 2, 3]), np.array([0, 2, 3]), side="right"),
        call(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[0, 2], [5, 9]])),
        call(np.array([3, 1, 2]), np.array([0, 2]), sorter=np.array([1, 2, 0])),
    ],
    "bucketize.Tensor": [
        call(np.array([0, 2, 3]), np.array([1, 2, 2, 3])),
        call(fixed(units(5)), fixed([0.2, 0.6]), right=True),
    ],
    "diff": [call(X), call(X, 2, 1), call(floats(3), 1, 0, floats(1), floats(2))],
}
