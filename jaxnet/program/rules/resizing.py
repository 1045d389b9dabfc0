"""Images in another size: nearest, linear and cubic."""

import math

import jax.numpy as jnp
import numpy as np

from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten, tabulate


def output_sizes(x, output_size, scale_factors):
    """The size that each axis gets, and the factor that says where its elements come from."""
    if output_size is not None:
        factors = scale_factors or (None,) * len(output_size)
        return list(zip(output_size, factors, strict=False))
    return [
        (math.floor(size * factor), factor)
        for size, factor in zip(x.shape[2:], scale_factors, strict=True)
    ]


def _ratio(size, count, factor, dtype, align_corners=False):
    """Elements of the input for each of the output, in the type that torch computes it in."""
    if align_corners:
        return dtype.type(size - 1) / dtype.type(count - 1) if count > 1 else dtype.type(0)
    if factor is not None and factor > 0:
        return dtype.type(1.0 / factor)
    return dtype.type(size) / dtype.type(count)


def _nearest(x, output_size, scale_factors, shift):
    for axis, (count, factor) in enumerate(output_sizes(x, output_size, scale_factors), 2):
        size, single = x.shape[axis], np.dtype(np.float32)
        at = (np.arange(count, dtype=single) + single.type(shift)) * _ratio(
            size, count, factor, single
        )
        x = jnp.take(x, np.minimum(np.floor(at).astype(int), size - 1), axis)
    return x


def _blend(x, axis, parts):
    """The sum of elements along an axis, each with a weight of its own."""
    terms = []
    for places, weights in parts:
        shape = (-1, *(1,) * (x.ndim - 1 - axis))
        taken = jnp.take(x, places, axis)
        weights = jnp.broadcast_to(weights.astype(x.dtype).reshape(shape), taken.shape)
        terms.append(taken * weights)
    return sum(terms[1:], terms[0])


def _sources(size, count, factor, dtype, align_corners):
    """Where the output's elements lie in the input."""
    ratio, order = _ratio(size, count, factor, dtype, align_corners), np.arange(count, dtype=dtype)
    half = dtype.type(0.5)
    return order * ratio if align_corners else (order + half) * ratio - half


def _linear(x, output_size, align_corners, scale_factors=None):
    y = widen(x)
    for axis, (count, factor) in enumerate(output_sizes(x, output_size, scale_factors), 2):
        size = y.shape[axis]
        at = np.maximum(_sources(size, count, factor, np.dtype(y.dtype), align_corners), 0)
        low = np.minimum(at.astype(int), size - 1)
        share = np.clip(at - low, 0, 1)
        y = _blend(y, axis, [(low, 1 - share), (np.minimum(low + 1, size - 1), share)])
    return narrow(y, x)


def _cubic_weights(t):
    """Of the elements at -1, 0, 1 and 2, t behind 0: Keys' cubic with a = -0.75."""
    a = -0.75

    def near(u):
        return ((a + 2) * u - (a + 3)) * u * u + 1

    def far(u):
        return ((a * u - 5 * a) * u + 8 * a) * u - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


@aten("upsample_bicubic2d.vec")
def bicubic(x, output_size, align_corners, scale_factors):
    """Beyond its rim an image goes on with the rim."""
    y = widen(x)
    for axis, (count, factor) in reversed(
        [*enumerate(output_sizes(x, output_size, scale_factors), 2)]
    ):
        size = y.shape[axis]
        at = _sources(size, count, factor, np.dtype(y.dtype), align_corners)
        low = np.floor(at).astype(int)
        weights = _cubic_weights(at - low)
        places = (np.clip(low + offset, 0, size - 1) for offset in (-1, 0, 1, 2))
        y = _blend(y, axis, zip(places, weights, strict=True))
    return narrow(y, x)


tabulate({
    "upsample_bicubic2d": lambda x, output_size, align_corners, scales_h=None, scales_w=None: (
        bicubic(x, output_size, align_corners, (scales_h, scales_w))
    ),
    "upsample_bilinear2d.vec upsample_linear1d.vec upsample_trilinear3d.vec": (
        lambda x, output_size, align_corners, scale_factors: (
            _linear(x, output_size, align_corners, scale_factors)
        )
    ),
    "upsample_bilinear2d upsample_linear1d upsample_trilinear3d": (
        lambda x, output_size, align_corners, *scales: (
            _linear(x, output_size, align_corners, scales)
        )
    ),
})  # fmt: skip

for _name, _shift in {"upsample_nearest": 0.0, "_upsample_nearest_exact": 0.5}.items():
    aten(f"{_name}2d.vec {_name}1d.vec {_name}3d.vec")(
        lambda x, output_size, scale_factors, shift=_shift: _nearest(
            x, output_size, scale_factors, shift
        )
    )
    aten(f"{_name}2d {_name}1d {_name}3d")(
        lambda x, output_size, *scales, shift=_shift: _nearest(x, output_size, scales, shift)
    )
