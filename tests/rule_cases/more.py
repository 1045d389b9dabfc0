"""Of `sampling`, `scattering`, `complexes`, and what was added to other rooms."""

import numpy as np

from tests.rule_cases import array, call, fixed, floats, ints, units, whole

IMAGES, GRID = floats(2, 3, 4, 5), floats(2, 3, 3, 2, seed=1)
INDEX = ints(3, 4, low=0, high=3)
TIES = whole(2, 3, 6, 7)
C = floats(2, 3) + 1j * floats(2, 3, seed=1)
C2 = floats(5, 6) + 1j * floats(5, 6, seed=1)

CASES = {
    "_weight_norm": [
        call(floats(4, 3, 2), floats(4, 1, 1), 0),
        call(floats(4, 3), floats(1, 3), 1),
    ],
    "_weight_norm_interface": [call(floats(4, 3, 2), floats(4, 1, 1), 0)],
    "grid_sampler": [
        call(IMAGES, GRID, mode, padding, align)
        for mode in (0, 1)
        for padding in (0, 1, 2)
        for align in (True, False)
    ],
    "grid_sampler_2d": [call(IMAGES, GRID, 0, 0, False)],
    "affine_grid_generator": [
        call(floats(2, 2, 3), [2, 3, 4, 5], align) for align in (True, False)
    ],
    "_upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec": [
        *(call(floats(2, 3, 9, 8), [4, 11], align, None) for align in (True, False)),
        call(floats(2, 3, 9, 8), None, False, [0.4, 1.7]),
    ],
    "col2im": [
        call(floats(2, 12, 24), [5, 5], [2, 2], [1, 1], [0, 1], [1, 1]),
        call(floats(12, 4), [4, 5], [2, 2], [2, 1], [1, 0], [2, 2]),
    ],
    "max_pool2d_with_indices": [
        call(TIES, [2, 2]),
        call(TIES, [3, 2], [2, 1], [1, 0], [1, 2], True),
    ],
    "max_pool1d_with_indices": [
        call(whole(2, 3, 9), [3]),
        call(floats(2, 3, 9), [2], [1], [1], [2]),
    ],
    "max_pool3d_with_indices": [call(floats(1, 2, 4, 5, 4), [2, 3, 2], [1, 2, 2], [1, 1, 0])],
    "max_unpool2d": [
        call(floats(1, 2, 2, 2), np.array([[[[0, 3], [9, 14]], [[5, 2], [8, 15]]]]), [4, 4]),
        # Windows that overlap give one value several times; of others torch's threads take any.
        call(np.array([[[[0.5, 0.5], [-1.2, 0.5]]]]), np.array([[[[5, 5], [9, 5]]]]), [4, 4]),
    ],
    "scatter_reduce.two": [
        *(
            call(floats(3, 4), 0, INDEX, floats(3, 4, seed=1), reduce, include_self=own)
            for reduce in ("amax", "amin", "sum", "mean")
            for own in (True, False)
        ),
        call(floats(3, 4), 0, INDEX, floats(3, 4, seed=1), "prod"),
        call(whole(3, 4), 0, INDEX, whole(3, 4, seed=1), "prod", include_self=False),
        call(whole(3, 4), 0, INDEX, whole(3, 4, seed=1), "amax"),
    ],
    "cummax": [call(whole(3, 5), 1), call(floats(4), 0)],
    "cummin": [call(whole(3, 5), 1), call(floats(4), 0)],
    "isin.Tensor_Tensor": [
        call(ints(9), np.array([1, 2])),
        call(ints(9), np.array([1, 2]), invert=True),
    ],
    "cross": [
        call(floats(2, 3), floats(2, 3, seed=1)),
        call(floats(3, 2), floats(3, 2, seed=1), 0),
    ],
    "linalg_cross": [call(floats(2, 3), floats(2, 3, seed=1), dim=-1)],
    "multinomial": [
        call(fixed([[0.1, 0.2, 0.7], [1.0, 2.0, 0.5]]), 6, True)._replace(double=False)
    ],
    "angle": [call(C), call(fixed(array(-1.0, 0.0, 2.0)))],
    "real": [call(C), call(floats(3))],
    "imag": [call(C)],
    "_conj conj_physical": [call(C)],
    "conj": [call(C), call(floats(3))],
    "view_as_complex": [call(floats(3, 2))],
    "view_as_real": [call(C)],
    "complex": [call(floats(3), floats(3, seed=1))],
    "polar": [call(units(3), floats(3, seed=1))],
    **{
        f"fft_{name}": [call(x), call(x, 4, 0, "ortho"), call(x, 8, -1, "forward")]
        for name, x in {"fft": C2, "ifft": C2, "rfft": C2.real, "irfft": C2}.items()
    },
    **{
        f"fft_{name}2": [call(x), call(x, [4, 6], [1, 0], "ortho"), call(x, None, [0])]
        for name, x in {"fft": C2, "ifft": C2, "rfft": C2.real, "irfft": C2}.items()
    },
    **{
        f"fft_{name}n": [call(x), call(x, None, [0], "ortho")]
        for name, x in {"fft": C2, "ifft": C2, "rfft": C2.real, "irfft": C2}.items()
    },
    "fft_fftshift": [call(C2), call(floats(5), [0])],
    "fft_ifftshift": [call(C2), call(floats(5), [0])],
    "fft_fftfreq": [call(5), call(4, 0.5)],
    "fft_rfftfreq": [call(5), call(4, 0.5)],
}
