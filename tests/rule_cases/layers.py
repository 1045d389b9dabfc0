"""Of `pools`, `norms`, `recurrent`, `resizing`."""

import numpy as np

from tests.rule_cases import array, call, fixed, floats, units, whole

IMAGES, TIES, SERIES = floats(2, 3, 6, 7), whole(2, 3, 6, 7), floats(2, 3, 9)
VOLUMES = floats(1, 2, 4, 5, 4)
W, B = floats(3), floats(3, seed=1)
MEAN, VARIANCE = fixed(floats(3, seed=2)), fixed(units(3))
X = floats(4, 3, 5)


def _weights(
    gates: int,
    layers: int,
    directions: int,
    sizes: tuple[int, int],
    biases: bool = True,
    projection: int = 0,
) -> list[np.ndarray]:
    """Of a recurrent net whose inputs and states have these sizes."""
    inputs, hidden = sizes
    outputs, found = projection or hidden, []
    for layer in range(layers):
        for direction in range(directions):
            seed = 10 * layer + direction
            width = outputs * directions if layer else inputs
            found += [
                floats(gates * hidden, width, seed=seed),
                floats(gates * hidden, outputs, seed=seed + 1),
            ]
            found += [floats(gates * hidden, seed=seed + i) for i in (2, 3)] if biases else []
            found += [floats(projection, hidden, seed=seed + 4)] if projection else []
    return found


def _recurrent(gates: int, cells: int) -> list:
    """One layer; both directions of two, the batch first; dropout between three, without biases."""

    def states(layers, batch, hidden=2):
        parts = [floats(layers, batch, hidden, seed=i) for i in range(cells)]
        return parts if cells > 1 else parts[0]

    x = floats(4, 2, 3)
    return [
        call(x, states(1, 2), _weights(gates, 1, 1, (3, 2)), True, 1, 0.0, True, False, False),
        call(x, states(4, 4), _weights(gates, 2, 2, (3, 2)), True, 2, 0.0, False, True, True),
        call(
            x, states(3, 4), _weights(gates, 3, 1, (3, 2), False), False, 3, 0.4, True, False, True
        ),
    ]


def _cell(gates: int) -> tuple:
    return (
        floats(gates * 2, 3),
        floats(gates * 2, 2),
        floats(gates * 2),
        floats(gates * 2, seed=1),
    )


RESIZED = (
    (2, "bilinear2d", IMAGES, ([5, 13], [9, 4])),
    (1, "linear1d", SERIES, ([5], [13])),
    (3, "trilinear3d", VOLUMES, ([3, 7, 4], [6, 4, 5])),
)
"""Axes, the name of the linear one, images, and sizes."""

CASES = {
    "max_pool2d": [
        call(TIES, [2, 2]),
        call(TIES, 3, 2, 1),
        call(IMAGES, [3, 2], [2, 1], [1, 0], [1, 2], True),
        call(floats(3, 6, 7), [2]),
        call(array([[[0.0, -np.inf], [np.nan, 1.0]]]), [2, 2], [1, 1], [1, 1]),
    ],
    "max_pool1d": [call(whole(2, 3, 9), [3]), call(SERIES, [2], [1], [1], [2])],
    "max_pool3d": [call(VOLUMES, [2, 3, 2], [1, 2, 2], [1, 1, 0], 1, True)],
    "avg_pool2d": [
        call(IMAGES, [2, 2]),
        call(IMAGES, [3, 2], [2, 1], [1, 0], True),
        call(IMAGES, 3, 2, 1, True, False),
        call(IMAGES, [3, 3], [], [1, 1], False, True, 5),
        call(floats(3, 6, 7), [2]),
    ],
    "avg_pool1d": [call(SERIES, [3]), call(SERIES, [2], [3], [1], True, False)],
    "avg_pool3d": [call(VOLUMES, [2, 3, 2], [1, 2, 2], [1, 1, 0], True, False)],
    "adaptive_avg_pool2d": [
        call(IMAGES, [1, 1]),
        call(IMAGES, [4, 3]),
        call(floats(3, 6, 7), [8, 2]),
    ],
    "adaptive_avg_pool1d": [call(SERIES, [4]), call(SERIES, [3])],
    "_adaptive_avg_pool2d": [call(IMAGES, [4, 3])],
    "adaptive_avg_pool3d _adaptive_avg_pool3d": [call(VOLUMES, [3, 2, 1])],
    "adaptive_max_pool2d": [call(TIES, [4, 3]), call(floats(3, 6, 7), [8, 2])],
    "adaptive_max_pool1d": [call(whole(2, 3, 9), [4])],
    "adaptive_max_pool3d": [call(whole(1, 2, 4, 5, 4), [3, 2, 1])],
    "layer_norm": [
        call(X, [5], floats(5), floats(5, seed=1)),
        call(X, [3, 5]),
        call(X, [5], floats(5), None, 1e-3),
        call(X * 1e-3 + 1, [5]),
    ],
    "native_layer_norm": [call(X, [5], floats(5), floats(5, seed=1), 1e-5)],
    "rms_norm": [call(X, [5], floats(5)), call(X, [3, 5], None, 1e-3)],
    "_fused_rms_norm": [call(X, [5], floats(5), 1e-5), call(X, [5], floats(5), None)],
    "group_norm": [
        call(floats(2, 6, 4), 3, floats(6), floats(6, seed=1)),
        call(floats(2, 6, 2, 3), 2),
    ],
    "native_group_norm": [call(floats(2, 6, 4), floats(6), floats(6, seed=1), 2, 6, 4, 3, 1e-5)],
    "instance_norm": [
        call(IMAGES, W, B, None, None, True, 0.1, 1e-5, True),
        call(SERIES, None, None, None, None, True, 0.1, 1e-5, True),
        call(IMAGES, W, B, MEAN, VARIANCE, False, 0.1, 1e-5, True),
    ],
    "batch_norm": [
        call(X, W, B, MEAN, VARIANCE, False, 0.1, 1e-5, True),
        call(X, W, B, None, None, True, 0.1, 1e-5, True),
    ],
    "_native_batch_norm_legit_functional": [
        call(X, W, B, MEAN, VARIANCE, True, 0.1, 1e-5),
        call(IMAGES, None, None, MEAN, VARIANCE, True, 0.3, 1e-3),
    ],
    "_native_batch_norm_legit.no_stats": [call(X, W, B, True, 0.1, 1e-5)],
    "_native_batch_norm_legit_no_training": [
        call(X, W, B, MEAN, VARIANCE, 0.1, 1e-5),
        call(IMAGES, None, None, MEAN, VARIANCE, 0.1, 1e-3),
    ],
    "lstm.input": [
        *_recurrent(4, 2),
        call(
            floats(4, 2, 3),
            [floats(1, 2, 2), floats(1, 2, 3)],
            _weights(4, 1, 1, (3, 3), True, 2),
            True,
            1,
            0.0,
            True,
            False,
            False,
        ),
    ],
    "gru.input": _recurrent(3, 1),
    "rnn_tanh.input": _recurrent(1, 1),
    "rnn_relu.input": _recurrent(1, 1),
    "lstm_cell": [call(floats(2, 3), [floats(2, 2), floats(2, 2, seed=1)], *_cell(4))],
    **{
        f"{name}": [call(floats(2, 3), floats(2, 2), *_cell(gates))]
        for name, gates in {"gru_cell": 3, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}.items()
    },
    **{
        f"upsample_nearest{n}d.vec _upsample_nearest_exact{n}d.vec": [
            *(call(x, size, None) for size in sizes),
            call(x, None, [1.7] * n),
            call(x, None, [0.6] * n),
        ]
        for n, _, x, sizes in RESIZED
    },
    **{
        f"upsample_nearest{n}d _upsample_nearest_exact{n}d": call(x, sizes[-1], *[None] * n)
        for n, _, x, sizes in RESIZED
    },
    **{
        f"upsample_{name}.vec": [
            *(call(x, size, align, None) for size in sizes for align in (True, False)),
            call(x, None, False, [1.7] * n),
            call(x, None, True, [2.0] * n),
        ]
        for n, name, x, sizes in RESIZED
    },
    **{
        f"upsample_{name}": [call(x, sizes[-1], False, *[s] * n) for s in (None, 1.3)]
        for n, name, x, sizes in RESIZED
    },
    "upsample_bicubic2d": [
        call(IMAGES, [5, 13], True),
        call(IMAGES, [5, 13], False, 0.9, 1.8),
    ],
    "upsample_bicubic2d.vec": [
        *(call(IMAGES, size, align, None) for size in ([5, 13], [9, 4]) for align in (True, False)),
        call(IMAGES, None, False, [1.7, 0.6]),
    ],
}
