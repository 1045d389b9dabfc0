"""Pools: the largest or the mean of each window, over one, two and three axes."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.nn._windows import Windows, average, average_bins, largest
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten
from jaxnet.program.rules.convolutions import for_each_axis
from jaxnet.program.rules.indexing import overwrite


def _windows(x, count, kernel, stride, padding, dilation, ceil_mode):
    kernel = for_each_axis(kernel, count)
    stride = for_each_axis(stride, count) if stride != [] and stride != () else kernel
    rest = (for_each_axis(padding, count), for_each_axis(dilation, count))
    axes = zip(x.shape[x.ndim - count :], kernel, stride, *rest, strict=True)
    return [Windows(*axis, ceil_mode) for axis in axes]


def _max_pool(axes, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """Of equal elements the first gets the gradient."""
    return largest(x, _windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode))


def _max_pool_with_indices(axes, x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
    """The largest of each window and its place in the flat image."""
    windows = _windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    return largest(x, windows), _places_of_largest(x, _places(x, axes), windows)


def _places(x, axes):
    """Of every element its place in the flat image."""
    shape = x.shape[x.ndim - axes :]
    return jnp.broadcast_to(jnp.arange(math.prod(shape)).reshape(shape), x.shape)


def _places_of_largest(x, order, windows):
    """By the same comparisons as `largest`, of the places beside the values."""
    for axis, along in reversed(list(enumerate(windows, x.ndim - len(windows)))):
        starts = along.starts()[:, None] + np.arange(along.kernel) * along.dilation
        inside = (starts >= 0) & (starts < along.size)
        taken, orders = (
            jnp.take(values, np.clip(starts, 0, along.size - 1), axis) for values in (x, order)
        )
        shape = (*starts.shape, *(1,) * (x.ndim - 1 - axis))
        taken = jnp.where(inside.reshape(shape), taken, -jnp.inf)
        chosen = jnp.argmax(taken, axis + 1, keepdims=True)
        x, order = (
            jnp.squeeze(jnp.take_along_axis(values, chosen, axis + 1), axis + 1)
            for values in (taken, orders)
        )
    return order


def _avg_pool(
    axes, x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    windows = _windows(x, axes, kernel_size, stride, padding, 1, ceil_mode)
    return narrow(average(widen(x), windows, count_include_pad, divisor_override), x)


def _adaptive_avg_pool(axes, x, output_size):
    return narrow(average_bins(widen(x), for_each_axis(output_size, axes)), x)


def _adaptive_max_pool(axes, x, output_size):
    """The largest of each bin and its place in the flat image."""
    sizes, order = for_each_axis(output_size, axes), _places(x, axes)
    for axis in range(x.ndim - 1, x.ndim - 1 - axes, -1):
        size, count = x.shape[axis], sizes[axis - x.ndim + axes]
        bins = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        kept = [_first_largest(x, order, axis, *ends) for ends in bins]
        x, order = (jnp.concatenate(parts, axis) for parts in zip(*kept, strict=True))
    return x, order


def _first_largest(x, order, axis, start, end):
    part, orders = (lax.slice_in_dim(values, start, end, axis=axis) for values in (x, order))
    place = jnp.argmax(part, axis, keepdims=True)
    return tuple(jnp.take_along_axis(values, place, axis) for values in (part, orders))


for _axes in (2, 1, 3):
    for _name, _function in {
        "max_pool{}d": _max_pool,
        "max_pool{}d_with_indices": _max_pool_with_indices,
        "avg_pool{}d": _avg_pool,
        "adaptive_avg_pool{}d": _adaptive_avg_pool,
        "adaptive_max_pool{}d": _adaptive_max_pool,
    }.items():
        aten(_name.format(_axes))(functools.partial(_function, _axes))
    if _axes > 1:
        aten(f"_adaptive_avg_pool{_axes}d")(functools.partial(_adaptive_avg_pool, _axes))


@aten("max_unpool2d")
def max_unpool2d(x, indices, output_size):
    """Zeros, but for the largest of each window at its place."""
    lead, size = x.shape[:-2], math.prod(output_size)
    flat, places = x.reshape(math.prod(lead), -1), indices.reshape(math.prod(lead), -1)
    images = jnp.broadcast_to(jnp.arange(flat.shape[0])[:, None], places.shape)
    y = overwrite(jnp.zeros((flat.shape[0], size), x.dtype), (images, places), flat)
    return y.reshape(*lead, *output_size)
