"""Pools: the largest or the mean of each window, over one, two and three axes."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.nn._windows import Windows, average, average_bins, largest
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import rule
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
    sizes = for_each_axis(output_size, axes)
    shape = x.shape[x.ndim - axes :]
    order = jnp.arange(math.prod(shape)).reshape(shape)
    order = jnp.broadcast_to(order, x.shape)
    for axis in range(x.ndim - 1, x.ndim - 1 - axes, -1):
        size, count = x.shape[axis], sizes[axis - x.ndim + axes]
        kept = [_first_largest(x, order, axis, i * size // count, -(-(i + 1) * size // count))
                for i in range(count)]  # fmt: skip
        x, order = (jnp.concatenate(parts, axis) for parts in zip(*kept, strict=True))
    return x, order


def _first_largest(x, order, axis, start, end):
    part = lax.slice_in_dim(x, start, end, axis=axis)
    place = jnp.argmax(part, axis, keepdims=True)
    orders = lax.slice_in_dim(order, start, end, axis=axis)
    return tuple(jnp.take_along_axis(values, place, axis) for values in (part, orders))


for _axes in (1, 2, 3):
    for _kind, _function in {
        "max": _max_pool,
        "avg": _avg_pool,
        "adaptive_avg": _adaptive_avg_pool,
        "adaptive_max": _adaptive_max_pool,
    }.items():
        rule(f"aten.{_kind}_pool{_axes}d.default")(functools.partial(_function, _axes))

rule("aten._adaptive_avg_pool2d.default")(functools.partial(_adaptive_avg_pool, 2))
rule("aten._adaptive_avg_pool3d.default")(functools.partial(_adaptive_avg_pool, 3))


def _max_pool_with_places(x, axes, kernel, stride, padding, dilation, ceil_mode):
    """The largest of each window and its place in the flat image."""
    windows = _windows(x, axes, kernel, stride, padding, dilation, ceil_mode)
    shape = x.shape[x.ndim - axes :]
    order = jnp.arange(math.prod(shape)).reshape(shape)
    return largest(x, windows), _places_of_largest(x, jnp.broadcast_to(order, x.shape), windows)


def _places_of_largest(x, order, windows):
    """By the same comparisons as `largest`, of the places beside the values."""
    first = x.ndim - len(windows)
    for axis, along in reversed(list(enumerate(windows, first))):
        starts = along.starts()[:, None] + np.arange(along.kernel) * along.dilation
        inside = (starts >= 0) & (starts < along.size)
        taken = jnp.take(x, np.clip(starts, 0, along.size - 1), axis)
        shape = (*starts.shape, *(1,) * (x.ndim - 1 - axis))
        taken = jnp.where(inside.reshape(shape), taken, -jnp.inf)
        orders = jnp.take(order, np.clip(starts, 0, along.size - 1), axis)
        chosen = jnp.argmax(taken, axis + 1, keepdims=True)
        x, order = (
            jnp.squeeze(jnp.take_along_axis(values, chosen, axis + 1), axis + 1)
            for values in (taken, orders)
        )
    return order


def _register_places(axes, name):
    def pool(x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
        return _max_pool_with_places(x, axes, kernel_size, stride, padding, dilation, ceil_mode)

    rule(f"aten.{name}.default")(pool)


_register_places(1, "max_pool1d_with_indices")
_register_places(2, "max_pool2d_with_indices")
_register_places(3, "max_pool3d_with_indices")


@rule("aten.max_unpool2d.default")
def max_unpool2d(x, indices, output_size):
    """Zeros, but for the largest of each window at its place."""
    lead, size = x.shape[:-2], math.prod(output_size)
    flat, places = x.reshape(math.prod(lead), -1), indices.reshape(math.prod(lead), -1)
    images = jnp.arange(flat.shape[0])[:, None]
    images = jnp.broadcast_to(images, places.shape)
    y = overwrite(jnp.zeros((flat.shape[0], size), x.dtype), (images, places), flat)
    return y.reshape(*lead, *output_size)
