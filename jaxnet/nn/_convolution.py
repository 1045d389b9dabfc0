"""Convolutions: the plain one of XLA's, and the forms that a CPU computes faster.

XLA on a CPU swaps kernel and image where the kernel is the larger of the two, and then computes
with a naive loop: a product with patches does the same in a hundredth of the time. Depthwise
convolutions, of one input channel each, are a few shifted products there.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxnet.nn.base import precision

MOST_SHIFTS = 128
"""The elements of a kernel that are summed one by one: each is a few operations to compile."""


class Geometry(NamedTuple):
    """How a kernel moves over an image, one entry for each axis."""

    strides: Sequence[int]
    around: Sequence[tuple[int, int]]
    """Elements of 0 in front and behind."""
    dilations: Sequence[int]


def surround(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[Any]:
    """Elements in front of and behind each axis; "same" keeps its size, the odd one behind."""
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        spans = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(pad, pad) for pad in padding]


def cross_correlate(
    x: Any,
    weight: Any,
    geometry: Geometry,
    groups: int = 1,
    spread: Sequence[int] | None = None,
) -> Array:
    """x (N, C, ...) with weight (O, C / groups, ...): y at i sums weight at k times x at i + k.

    `spread` puts its elements so far apart, with zeros between.
    """
    axes = "DHW"[5 - x.ndim :]
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=tuple(geometry.strides),
        padding=tuple(geometry.around),
        lhs_dilation=spread,
        rhs_dilation=tuple(geometry.dilations),
        dimension_numbers=(f"NC{axes}", f"OI{axes}", f"NC{axes}"),
        feature_group_count=groups,
        precision=precision(),
    )


def convolve(x: Any, weight: Any, geometry: Geometry, groups: int = 1) -> Array:
    """`cross_correlate` in the form that is fast on a CPU; sums run in another order."""
    kernel, image = math.prod(weight.shape[2:]), math.prod(x.shape[2:])
    if x.size and weight.size:
        if groups == x.shape[1] == weight.shape[0] and groups > 1 and kernel <= MOST_SHIFTS:
            return _sum_shifted(x, weight, geometry)
        if groups == 1 and (kernel >= image or kernel == 1):
            return _multiply_patches(x, weight, geometry)
    return cross_correlate(x, weight, geometry, groups)


def convolve_transposed(
    x: Any, weight: Any, geometry: Geometry, extra: Sequence[int], groups: int = 1
) -> Array:
    """The transpose of `cross_correlate` in x: x (N, C, ...), weight (C, O / groups, ...).

    `extra` elements are added behind.
    """
    kernel = weight.shape[2:]
    if groups == 1 and x.size:
        return _transpose_patches(x, weight, geometry, extra)
    inputs, outputs = weight.shape[:2]
    weight = jnp.flip(weight, tuple(range(2, weight.ndim)))
    weight = weight.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    weight = weight.reshape(groups * outputs, inputs // groups, *kernel)
    around = [
        (dilation * (k - 1) - front, dilation * (k - 1) - behind + more)
        for dilation, k, (front, behind), more in zip(
            geometry.dilations, kernel, geometry.around, extra, strict=True
        )
    ]
    turned = Geometry((1,) * len(kernel), around, geometry.dilations)
    return cross_correlate(x, weight, turned, groups, tuple(geometry.strides))


def _transpose_patches(x, weight, geometry, extra):
    whole = [
        (size - 1) * stride - sum(pads) + dilation * (k - 1) + 1 + more
        for size, stride, pads, dilation, k, more in zip(
            x.shape[2:], *geometry, weight.shape[2:], extra, strict=True
        )
    ]
    images = jnp.zeros((x.shape[0], weight.shape[1], *whole), x.dtype)
    _, pullback = jax.vjp(lambda images: _multiply_patches(images, weight, geometry), images)
    return pullback(x)[0]


def shifts(x: Any, kernel: Sequence[int], geometry: Geometry) -> Iterator[Array]:
    """What each element of the kernel meets: slices of the padded image, in the kernel's order."""
    pads = [(0, 0, 0), (0, 0, 0), *((*pads, 0) for pads in geometry.around)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    strides, dilations = geometry.strides, geometry.dilations
    counts = [
        (size - dilation * (k - 1) - 1) // stride + 1
        for size, dilation, k, stride in zip(x.shape[2:], dilations, kernel, strides, strict=True)
    ]
    for offset in itertools.product(*map(range, kernel)):
        first = [i * dilation for i, dilation in zip(offset, dilations, strict=True)]
        last = [i + (n - 1) * s + 1 for i, n, s in zip(first, counts, strides, strict=True)]
        yield lax.slice(x, (0, 0, *first), (*x.shape[:2], *last), (1, 1, *strides))


def _multiply_patches(x, weight, geometry):
    outputs, channels, *kernel = weight.shape
    parts = list(shifts(x, kernel, geometry))
    patches = jnp.stack(parts, 2) if len(parts) > 1 else parts[0]
    patches = patches.reshape(x.shape[0], channels * len(parts), -1)
    matrix = weight.reshape(outputs, -1)
    y = jnp.einsum("ok,nkp->nop", matrix, patches, precision=precision())
    return y.reshape(x.shape[0], outputs, *parts[0].shape[2:])


def _sum_shifted(x, weight, geometry):
    terms = []
    factors = weight.reshape(weight.shape[0], -1).T
    across = (1, -1, *(1,) * (x.ndim - 2))
    for part, factor in zip(shifts(x, weight.shape[2:], geometry), factors, strict=True):
        terms.append(part * jnp.broadcast_to(factor.reshape(across), part.shape))
    return sum(terms[1:], terms[0])
