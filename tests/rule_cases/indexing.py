"""Of `indexing`."""

import numpy as np

from tests.rule_cases import bools, call, fixed, floats, ints

X = floats(4, 3, 5)
ROWS = np.array([2, 0, 2, -1])  # one twice
PLACES = ints(2, 3, 4, low=0, high=3)
ONE = np.array(0)

CASES = {
    "index.Tensor": [
        call(X, [ROWS]),
        call(X, [None, np.array([[0, 1], [1, 2]])]),
        call(X, [ROWS, np.array([0, 1, 2, 0])]),
        call(X, [ROWS, None, np.array([0, 1, 2, 0])]),
        call(X, [np.array([[0], [3]]), None, np.array([0, 1, 4])]),
        call(X, [ONE]),
    ],
    "_unsafe_index.Tensor": [call(X, [None, None, ROWS])],
    "index_put": [
        call(X, [ROWS], floats(4, 3, 5, seed=1)),
        call(X, [ROWS], floats(4, 3, 5, seed=1), True),
        call(X, [None, np.array([0, 2])], floats(4, 2, 5)),
        call(X, [ROWS, ROWS * 0], floats()),
        call(X, [bools(4, 3)], floats()),
        call(ints(5), [np.array([1, 3])], ints(2)),
        call(X, [bools(4)], floats(), True),
    ],
    "_unsafe_index_put": [call(X, [ROWS], floats(4, 3, 5, seed=1), True)],
    "index_select": [call(X, 1, np.array([2, 0, 2])), call(X, -1, ONE)],
    "take": [call(X, np.array([[0, 7], [59, 7]]))],
    "gather": [
        call(X, 1, ints(4, 2, 5, low=0, high=3)),
        call(X, 0, ints(2, 3, 4, low=0, high=4)),
        call(floats(3), 0, np.array([2, 2, 0])),
        call(floats(), 0, ONE),
    ],
    "take_along_dim": [call(X, ints(4, 2, 5, low=0, high=3), 1), call(X, np.array([3, 3]))],
    "scatter.src": [
        call(X, 0, ints(2, 3, 4, low=0, high=4), floats(2, 3, 4)),
        call(X, 0, ints(2, 3, 4, low=0, high=4), fixed(floats(2, 3, 5))),
        call(floats(3), 0, np.array([0, 0, 2]), floats(3, seed=1)),
        call(floats(), 0, ONE, floats(seed=1)),
    ],
    "scatter.value": [call(X, 1, PLACES, 2.5), call(ints(5), 0, np.array([1, 3]), 7)],
    "scatter_add": [
        call(X, 0, ints(2, 3, 4, low=0, high=4), floats(2, 3, 4)),
        call(floats(3), 0, np.array([0, 0, 2]), floats(3, seed=1)),
    ],
    "index_add": [
        call(X, 1, np.array([2, 2]), floats(4, 2, 5)),
        call(X, -1, np.array([0]), floats(4, 3, 1), alpha=0.5),
    ],
    "index_copy": [call(X, 1, np.array([2, 0]), floats(4, 2, 5))],
    "index_fill.int_Scalar": [call(X, 1, np.array([2, 0]), 1.5)],
    "index_fill.int_Tensor": [call(X, 1, np.array([2, 0, 2]), floats())],
    "masked_scatter": [
        call(floats(3, 4), bools(3, 4), floats(12)),
        call(floats(3, 4), bools(4), floats(20)),
    ],
    "embedding": [
        call(floats(5, 3), np.array([0, 1, 1, 4]), 1),
        call(floats(5, 3), np.array([[0, 4], [4, 1]])),
        call(floats(5, 3), np.array([0, 1, 1, 4]), -1, True),
        call(floats(5, 3), np.array([0, 1, 1, 4]), 4, True),
    ],
    "bincount": [
        call(np.array([1, 1, 3])),
        call(np.array([1, 1, 3]), None, 6),
        call(np.array([1, 1, 3]), fixed(floats(3))),
    ],
}
