"""Of `shapes`, `joining`, `padding`, `creation`."""

import numpy as np

from tests.rule_cases import Call, bools, call, fixed, floats, ints

X = floats(2, 3, 4)
THREE = [floats(2, 3), floats(2, 3, seed=1), floats(2, 3, seed=2)]
SIZES = [call(X, [2, 12]), call(X, [-1]), call(floats(2, 0, 3), [0, 6])]
PADS = [call(floats(2, 3, 4), [1, 2]), call(floats(2, 3, 4), [2, 0]), call(floats(3, 4), [3, 3])]
PADS_2D = [call(floats(2, 3, 4, 5), [1, 2, 3, 0]), call(floats(3, 4, 5), [0, 2, 1, 1])]
PADS_3D = [call(floats(1, 2, 3, 3, 4), [1, 2, 0, 1, 2, 0])]


def creating(*args, **keywords) -> Call:
    """What torch gives in float64 wherever floats are made, unless a dtype is named."""
    return Call(args, keywords)


CASES = {
    "view.default": SIZES,
    "view_copy.default": [call(fixed(X), [2, 12])],
    "reshape.default": SIZES,
    "_unsafe_view.default": [call(X, [2, 12])],
    "_reshape_copy.default": [call(fixed(X), [6, 4])],
    "_reshape_alias.default": [call(X, [2, 12], [12, 1])],
    "view_as.default": [call(X, fixed(floats(6, 4)))],
    "reshape_as.default": [call(X, fixed(floats(6, 4)))],
    "permute.default": [call(X, [2, 0, 1]), call(X, [-1, 0, -2])],
    "permute_copy.default": [call(fixed(X), [2, 0, 1])],
    "transpose.int": [call(X, 0, -1), call(floats(), 0, 0)],
    "transpose_copy.int": [call(fixed(X), 0, 1)],
    **{name: [call(floats(2, 3))] for name in ("t.default", "numpy_T.default", "mT.default")},
    "t_copy.default": [call(fixed(floats(2, 3)))],
    "adjoint.default": [call(X)],
    **{f"{name}.int": [call(X, 0, -1)] for name in ("movedim",)},
    **{f"{name}.intlist": [call(X, [0, 2], [1, 0])] for name in ("movedim",)},
    "unsqueeze.default": [call(X, 1), call(X, -1)],
    "unsqueeze_copy.default": [call(fixed(X), 1)],
    "squeeze.default": [call(floats(2, 1, 3, 1))],
    "squeeze.dim": [call(floats(2, 1, 3), 1), call(X, 1), call(floats(), 0)],
    "squeeze.dims": [call(floats(2, 1, 3, 1), [1, 0]), call(floats(2, 1, 1), [-1, 1])],
    "squeeze_copy.dim": [call(fixed(floats(2, 1, 3)), 1)],
    "expand.default": [call(floats(3, 1), [2, -1, 4]), call(floats(2, 1), [2, 5])],
    "expand_copy.default": [call(fixed(floats(3, 1)), [2, 3, 4])],
    "broadcast_to.default": [call(floats(3, 1), [2, 3, 4])],
    "expand_as.default": [call(floats(3, 1), fixed(floats(2, 3, 4)))],
    "flatten.using_ints": [call(X), call(X, 1), call(X, 0, 1), call(floats())],
    "ravel.default": [call(X)],
    "unflatten.int": [call(X, 2, [2, -1]), call(X, -1, [2, 2])],
    "slice.Tensor": [
        call(X, 1, 1, 2**63 - 1),
        call(X, -1, 0, 4, 2),
        call(X, 2, -3, -1),
        call(X, 0, 5, 9),
        call(X),
        call(X, 1, None, -1),
    ],
    "slice_copy.Tensor": [call(fixed(X), 1, 1, 3)],
    "slice_scatter.default": [
        call(X, floats(2, 2, 4), 1, 1, 2**63 - 1),
        call(X, floats(2, 3, 2), 2, 0, 4, 2),
    ],
    "select.int": [call(X, 1, 0), call(X, -1, -1)],
    "select_copy.int": [call(fixed(X), 1, 0)],
    "select_scatter.default": [call(X, floats(2, 4), 1, -1)],
    "narrow.default": [call(X, 1, 1, 2), call(X, -1, -3, 2)],
    "repeat.default": [call(floats(2, 3), [2, 1, 3]), call(floats(2, 3), [2, 2])],
    "tile.default": [call(X, [2]), call(floats(3), [2, 2])],
    "repeat_interleave.self_int": [call(X, 2, 1), call(X, 3)],
    "roll.default": [call(X, [1]), call(X, [1, -2], [0, 2]), call(X, [1], [1])],
    "flip.default": [call(X, [0, -1])],
    "fliplr.default": [call(X)],
    "flipud.default": [call(X)],
    "rot90.default": [call(X), call(X, 2, [1, 2]), call(X, -1, [0, 2])],
    "tril.default": [call(floats(3, 4)), call(X, -1)],
    "triu.default": [call(floats(3, 4)), call(X, 1)],
    "diagonal.default": [call(X), call(X, 1, 1, 2), call(floats(3, 4), -1)],
    "diag_embed.default": [call(floats(2, 3)), call(floats(2, 3), 1), call(floats(2, 3), -1, 0, 2)],
    "unfold.default": [call(X, 2, 2, 1), call(X, 1, 3, 2), call(floats(7), 0, 3, 2)],
    "pixel_shuffle.default": [call(floats(2, 8, 2, 3), 2)],
    "pixel_unshuffle.default": [call(floats(2, 2, 4, 6), 2)],
    "channel_shuffle.default": [call(floats(2, 6, 2), 3)],
    "native_channel_shuffle.default": [call(fixed(floats(2, 6, 2)), 3)],
    "view.dtype": [Call((np.array([1, -2], np.int32), "float32"), {})],
    "split.Tensor": [call(X, 2, 1), call(X, 4, -1)],
    "split_copy.Tensor": [call(fixed(X), 2, 1)],
    "split_with_sizes.default": [call(X, [1, 2], 1), call(floats(4), [1, 0, 3])],
    "split.sizes": [call(X, [1, 2], 1)],
    "split_with_sizes_copy.default": [call(fixed(X), [1, 2], 1)],
    "chunk.default": [call(X, 2, 1), call(X, 5, -1)],
    "tensor_split.sections": [call(X, 2, 1), call(X, 3, -1)],
    "tensor_split.indices": [call(X, [1, 3], 2)],
    "unbind.int": [call(X), call(X, -1)],
    "unbind_copy.int": [call(fixed(X), 1)],
    "cat.default": [
        call(THREE),
        call(THREE, 1),
        call([floats(0), floats(2, 3)], -1),
        call([floats(2), ints(3)]),
    ],
    "stack.default": [call(THREE), call(THREE, -1), call([floats(2), ints(2)])],
    "hstack.default": [call(THREE), call([floats(2), floats(3)])],
    "vstack.default": [call(THREE)],
    "dstack.default": [call(THREE)],
    "column_stack.default": [call([floats(3), floats(3, 2)])],
    "meshgrid.default": [call([floats(2), floats(3)])],
    "meshgrid.indexing": [call([floats(2), floats(3)], indexing="xy")],
    "broadcast_tensors.default": [call([floats(2, 1), floats(3)])],
    "pad.default": [
        call(X, [1, 2]),
        call(X, [1, 2, 0, 1], "constant", 1.5),
        call(X, [-1, 2, 0, -1]),
        *(call(floats(1, 2, 4), [2, 1], mode) for mode in ("reflect", "replicate", "circular")),
        *(
            call(floats(1, 2, 3, 4), [2, 1, 0, 2], mode)
            for mode in ("reflect", "replicate", "circular")
        ),
        call(bools(2, 3), [1, 0]),
        call(ints(3), [1, 1], "constant", 7.0),
    ],
    "constant_pad_nd.default": [call(X, [1, 2]), call(X, [1, 2, 0, -1], 1.5)],
    "reflection_pad1d.default": PADS,
    "replication_pad1d.default": PADS,
    "reflection_pad2d.default": PADS_2D,
    "replication_pad2d.default": PADS_2D,
    "reflection_pad3d.default": PADS_3D,
    "replication_pad3d.default": PADS_3D,
    **{
        f"{name}.default": [creating([2, 3], dtype="int64"), creating([2])]
        for name in ("zeros", "ones")
    },
    **{
        f"new_{name}.default": [
            call(fixed(X), [2]),
            call(ints(3), [2, 2]),
            call(ints(3), [2], dtype="bool"),
        ]
        for name in ("zeros", "ones")
    },
    **{
        f"{name}_like.default": [call(fixed(X)), call(X, dtype="int64")]
        for name in ("zeros", "ones")
    },
    **{
        name: Call((*args,), {}, values=False)
        for name, args in {
            "empty.memory_format": [[2, 3]],
            "new_empty.default": [fixed(X), [2]],
            "empty_like.default": [fixed(X)],
            "empty_strided.default": [[2, 3], [3, 1]],
            "empty_permuted.default": [[2, 3], [1, 0]],
            "new_empty_strided.default": [fixed(X), [2, 3], [3, 1]],
        }.items()
    },
    "full.default": [creating([2, 3], 1.5), creating([2], 3), creating([2], True, dtype="bool")],
    "new_full.default": [call(fixed(X), [2], 1.5), call(ints(2), [2], 3)],
    "full_like.default": [call(fixed(X), 1.5), call(ints(2), 2.5, dtype="float32")],
    "scalar_tensor.default": [creating(1.5), creating(3, dtype="int64")],
    "arange.default": [creating(5), creating(2.5), creating(4, dtype="float32")],
    "arange.start": [creating(2, 7), creating(-1.5, 2)],
    "arange.start_step": [
        creating(2, 9, 3),
        creating(0, 1, 0.3),
        creating(5, 0, -2),
        creating(0, 1, 0.1, dtype="float32"),
    ],
    "linspace.default": [
        creating(0, 1, 7),
        creating(-1, 1, 4, dtype="float64"),
        creating(2, 3, 1),
        creating(0, 9, 4, dtype="int64"),
    ],
    "eye.default": [creating(3)],
    "eye.m": [creating(2, 4, dtype="float64")],
    "tril_indices.default": [creating(3, 4), creating(3, 3, -1)],
    "triu_indices.default": [creating(3, 4), creating(3, 3, 1)],
    "one_hot.default": [call(ints(2, 3, low=0, high=4), 5)],
    "hann_window.default": [creating(6)],
    "hann_window.periodic": [creating(6, False), creating(5, True, dtype="float64")],
}
