"""Of `matmul`, `convolutions`, `attention`."""

import numpy as np

from tests.rule_cases import bools, call, fixed, floats

A, B = floats(2, 3, 4), floats(2, 4, 5)
SERIES, IMAGES, VOLUMES = floats(2, 4, 9), floats(2, 4, 6, 7), floats(1, 4, 4, 5, 3)
Q, K, V = floats(2, 4, 3, 6), floats(2, 4, 5, 6, seed=1), floats(2, 4, 5, 3, seed=2)


def _mask() -> np.ndarray:
    mask = bools(3, 5)
    mask[1] = False
    return mask


CASES = {
    "linear": [
        call(floats(2, 3, 4), floats(5, 4), floats(5)),
        call(floats(4), floats(5, 4)),
    ],
    "matmul": [
        call(A, B),
        call(A, floats(4, 5)),
        call(floats(4), floats(4, seed=1)),
        call(floats(3, 4), floats(4)),
        call(floats(3), A),
        call(floats(3, 1, 3, 4), B),
    ],
    "mm": [call(floats(2, 3), floats(3, 4))],
    "bmm": [call(A, B)],
    "mv": [call(floats(2, 3), floats(3))],
    "dot": [call(floats(3), floats(3, seed=1))],
    "vdot": [call(floats(3), floats(3, seed=1))],
    "inner": [
        call(floats(3), floats(3, seed=1)),
        call(floats(2, 3), floats(4, 3)),
        call(floats(2, 3), floats()),
    ],
    "addmm": [
        call(floats(5), floats(3, 4), floats(4, 5)),
        call(floats(3, 5), floats(3, 4), floats(4, 5), beta=0.5, alpha=2),
        call(fixed(np.full((3, 5), np.nan)), floats(3, 4), floats(4, 5), beta=0),
    ],
    "addmv": [call(floats(3), floats(3, 4), floats(4), beta=2)],
    "baddbmm": [
        call(floats(2, 3, 5), A, B, beta=0.5, alpha=2),
        call(floats(1, 3, 5), A, B),
    ],
    "addbmm": [call(floats(3, 5), A, B, beta=0.5, alpha=2)],
    "outer": [call(floats(3), floats(4))],
    "einsum": [
        call("bij,bjk->bik", [A, B]),
        call("i,j", [floats(3), floats(4)]),
        call("bij, bkj -> bik", [A, floats(2, 5, 4)]),
        call("ii->i", [floats(3, 3)]),
        call("...i,i", [A, floats(4)]),
    ],
    "bilinear": [call(floats(2, 3), floats(2, 4), floats(5, 3, 4), floats(5))],
    "tensordot": [
        call(A, floats(3, 4, 5), [1, 2], [0, 1]),
        call(floats(2, 1), floats(3, 4), [1], [0]),
    ],
    "cdist": [
        call(floats(2, 3, 4), floats(2, 5, 4)),
        call(floats(3, 4), floats(5, 4), 1.0),
    ],
    "conv1d": [
        call(SERIES, floats(6, 4, 3), floats(6)),
        call(SERIES, floats(6, 2, 3), None, 2, 1, 2, 2),
        call(SERIES, floats(4, 1, 3), None, 1, 2, 1, 4),
        call(floats(4, 9), floats(2, 4, 1)),
    ],
    "conv1d.padding": [
        call(SERIES, floats(6, 4, 4), None, 1, "same"),
        call(SERIES, floats(6, 4, 3), None, 2, "valid"),
    ],
    "conv2d": [
        call(IMAGES, floats(6, 4, 3, 2), floats(6)),
        call(IMAGES, floats(6, 4, 3, 3), None, [2, 1], [1, 2]),
        call(IMAGES, floats(6, 4, 3, 2), None, 1, 2, [1, 3]),
        call(IMAGES, floats(6, 2, 3, 3), None, 1, 0, 1, 2),
        call(IMAGES, floats(4, 1, 3, 5), floats(4), [2, 1], [1, 2], [2, 1], 4),
        call(IMAGES, floats(8, 1, 3, 3), None, 1, 1, 1, 4),
        call(IMAGES, floats(6, 4, 1, 1), None, 2),
        call(floats(2, 4, 2, 2), floats(6, 4, 3, 3), floats(6), 1, 1),
        call(floats(4, 6, 7), floats(6, 4, 3, 3)),
        call(floats(3, 1, 5, 5), floats(1, 1, 3, 3)),
    ],
    "conv2d.padding": [call(IMAGES, floats(6, 4, 2, 3), None, 1, "same", [1, 2])],
    "conv3d": [
        call(VOLUMES, floats(2, 4, 2, 3, 2), floats(2), [1, 2, 1], [1, 0, 1]),
        call(floats(1, 4, 1, 1, 1), floats(2, 4, 3, 3, 3), None, 1, 1),
        call(VOLUMES, floats(4, 1, 2, 2, 2), None, 1, 0, 1, 4),
    ],
    "conv3d.padding": [call(VOLUMES, floats(2, 4, 3, 2, 1), None, 1, "same")],
    "conv_transpose1d": [
        call(SERIES, floats(4, 3, 4), floats(3), 2, 1, 1),
        call(SERIES, floats(4, 2, 3), None, 2, 1, 1, 2, 2),
    ],
    "conv_transpose2d.input": [
        call(IMAGES, floats(4, 3, 2, 2), floats(3), 2),
        call(IMAGES, floats(4, 3, 4, 3), None, 2, 1, [1, 0]),
        call(IMAGES, floats(4, 2, 3, 3), None, [2, 1], 1, [1, 0], 2, [1, 2]),
        call(floats(2, 4, 1, 1), floats(4, 3, 4, 4)),
        call(floats(4, 6, 7), floats(4, 3, 2, 2), None, 2),
        call(IMAGES, floats(4, 1, 3, 3), None, 2, 1, 1, 4),
    ],
    "conv_transpose3d.input": [
        call(VOLUMES, floats(4, 2, 2, 3, 2), floats(2), [2, 1, 2], 1, [1, 0, 0]),
        call(VOLUMES, floats(4, 2, 2, 3, 2), None, 1, 0, 0, 2),
    ],
    "convolution": [
        call(IMAGES, floats(6, 4, 3, 3), floats(6), [2, 1], [1, 1], [1, 1], False, [0, 0], 1),
        call(IMAGES, floats(4, 3, 3, 3), None, [2, 1], [1, 1], [1, 1], True, [1, 0], 1),
    ],
    "im2col": [
        call(IMAGES, [3, 2], [1, 2], [1, 0], [2, 1]),
        call(floats(4, 5, 5), [2, 2], [1, 1], [0, 0], [1, 1]),
    ],
    "scaled_dot_product_attention": [
        call(Q, K, V, _mask()),
        call(Q, K, V),
        call(Q, K, V, None, 0.0, True),
        call(Q, K, V, floats(3, 5)),
        call(Q, K, V, floats(2, 1, 3, 5), scale=0.3),
        call(Q, K, V, bools(2, 1, 1, 5, seed=3) | True),
        call(floats(2, 4, 3, 6), floats(2, 2, 5, 6), floats(2, 2, 5, 6, seed=1), enable_gqa=True),
        call(floats(3, 6), floats(5, 6), floats(5, 6, seed=1)),
        call(Q, K, V, None, 0.4),
        call(Q, K, V, _mask(), 0.4),
    ],
}
