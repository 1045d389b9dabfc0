"""The same elements in another shape or order, parts of them, and several arrays joined."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import as_dtype

tabulate({
    "view _unsafe_view view_copy": lambda x, size: x.reshape(tuple(size)),
    "reshape _reshape_alias _reshape_copy": lambda x, shape, stride=None: x.reshape(tuple(shape)),
    "view_as reshape_as": lambda x, other: x.reshape(other.shape),
    "view.dtype": lambda x, dtype: jax.lax.bitcast_convert_type(x, as_dtype(dtype)),
    "permute permute_copy": lambda x, dims: jnp.transpose(x, tuple(dims)),
    "transpose.int transpose_copy.int swapaxes swapdims": lambda x, dim0, dim1: (
        jnp.swapaxes(x, dim0, dim1) if x.ndim else x
    ),
    "t numpy_T t_copy": lambda x: x.T,
    "mT adjoint": lambda x: jnp.swapaxes(x, -1, -2),
    "movedim.int movedim.intlist moveaxis.int moveaxis.intlist": lambda x, source, destination: (
        jnp.moveaxis(x, source, destination)
    ),
    "unsqueeze unsqueeze_copy": lambda x, dim: jnp.expand_dims(x, dim),
    "squeeze": lambda x: jnp.squeeze(x),
    "expand_as": lambda x, other: jnp.broadcast_to(x, other.shape),
    "ravel": lambda x: x.reshape(-1),
    "repeat": lambda x, repeats: jnp.tile(x, tuple(repeats)),
    "tile": lambda x, dims: jnp.tile(x, tuple(dims)),
    "repeat_interleave.self_int": lambda x, repeats, dim=None, output_size=None: (
        jnp.repeat(x, repeats, dim)
    ),
    "flip": lambda x, dims: jnp.flip(x, tuple(dims)),
    "fliplr": lambda x: jnp.flip(x, 1),
    "flipud": lambda x: jnp.flip(x, 0),
    "rot90": lambda x, k=1, dims=(0, 1): jnp.rot90(x, k, tuple(dims)),
    "tril": lambda x, diagonal=0: jnp.tril(x, diagonal),
    "triu": lambda x, diagonal=0: jnp.triu(x, diagonal),
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: jnp.diagonal(x, offset, dim1, dim2),
})  # fmt: skip


@aten("squeeze.dim squeeze.dims squeeze_copy.dim")
def squeeze_dim(x, dim):
    """Axes of another size than 1 stay."""
    dims = [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple(d for d in dims if x.ndim and x.shape[d] == 1))


@aten("expand broadcast_to expand_copy")
def expand(x, size, implicit=False):
    """To `size`, in which -1 keeps an axis."""
    added = len(size) - x.ndim
    sizes = [x.shape[i - added] if n == -1 else n for i, n in enumerate(size)]
    return jnp.broadcast_to(x, sizes)


@aten("flatten.using_ints")
def flatten(x, start_dim=0, end_dim=-1):
    if x.ndim == 0:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    merged = math.prod(x.shape[first : last + 1])
    return x.reshape((*x.shape[:first], merged, *x.shape[last + 1 :]))


@aten("unflatten.int")
def unflatten(x, dim, sizes):
    """-1 is what is left of the axis."""
    axis = dim % x.ndim
    known = math.prod(size for size in sizes if size != -1)
    parts = (x.shape[axis] // known if size == -1 else size for size in sizes)
    return x.reshape((*x.shape[:axis], *parts, *x.shape[axis + 1 :]))


def places(x, dim, index):
    """An index of one axis as one of all."""
    everything = [slice(None)] * x.ndim
    everything[dim] = index
    return tuple(everything)


def _span(start, end, step):
    # torch says the end of an axis with the largest int64.
    return slice(start, None if end is None or end >= 2**62 else end, step)


@aten("slice.Tensor slice_copy.Tensor")
def slice_axis(x, dim=0, start=None, end=None, step=1):
    return x[places(x, dim, _span(start, end, step))]


@aten("slice_scatter")
def slice_scatter(x, src, dim=0, start=None, end=None, step=1):
    return x.at[places(x, dim, _span(start, end, step))].set(src.astype(x.dtype))


@aten("select.int select_copy.int")
def select(x, dim, index):
    return x[places(x, dim, index)]


@aten("select_scatter")
def select_scatter(x, src, dim, index):
    return x.at[places(x, dim, index)].set(src.astype(x.dtype))


@aten("narrow")
def narrow_axis(x, dim, start, length):
    return slice_axis(x, dim, start % max(x.shape[dim], 1) if start < 0 else start, start + length)


@aten("roll")
def roll(x, shifts, dims=()):
    shifts = shifts if isinstance(shifts, int) else tuple(shifts)
    dims = tuple(dims) or None
    if dims is None and not isinstance(shifts, int):
        (shifts,) = shifts
    return jnp.roll(x, shifts, dims)


@aten("diag_embed")
def diag_embed(x, offset=0, dim1=-2, dim2=-1):
    """Zeros but for one diagonal, which is the last axis of x."""
    size = x.shape[-1] + abs(offset)
    order = np.arange(x.shape[-1])
    rows, columns = order + max(-offset, 0), order + max(offset, 0)
    square = jnp.zeros((*x.shape[:-1], size, size), x.dtype).at[..., rows, columns].set(x)
    return jnp.moveaxis(square, (-2, -1), (dim1, dim2))


@aten("unfold")
def unfold(x, dimension, size, step):
    """Windows along an axis, a step apart; their elements lie along a new last one."""
    if x.ndim == 0:
        return x.reshape(1)
    count = (x.shape[dimension] - size) // step + 1
    windows = np.arange(count)[:, None] * step + np.arange(size)
    return jnp.moveaxis(jnp.take(x, windows, dimension), dimension % x.ndim + 1, -1)


@aten("pixel_shuffle")
def pixel_shuffle(x, upscale_factor):
    """(..., C r^2, H, W) to (..., C, H r, W r)."""
    *lead, channels, height, width = x.shape
    r, n = upscale_factor, len(lead)
    x = x.reshape(*lead, channels // r**2, r, r, height, width)
    x = jnp.transpose(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return x.reshape(*lead, channels // r**2, height * r, width * r)


@aten("pixel_unshuffle")
def pixel_unshuffle(x, downscale_factor):
    *lead, channels, height, width = x.shape
    r, n = downscale_factor, len(lead)
    x = x.reshape(*lead, channels, height // r, r, width // r, r)
    x = jnp.transpose(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return x.reshape(*lead, channels * r**2, height // r, width // r)


@aten("channel_shuffle native_channel_shuffle")
def channel_shuffle(x, groups):
    batch, channels, *rest = x.shape
    return x.reshape(batch, groups, channels // groups, *rest).swapaxes(1, 2).reshape(x.shape)
