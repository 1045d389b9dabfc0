"""The same elements in another shape or order, parts of them, and several arrays joined."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import rule
from jaxnet.program.rules._types import as_dtype


@rule("aten.view.default", "aten._unsafe_view.default", "aten.view_copy.default")
def view(x, size):
    return x.reshape(tuple(size))


@rule("aten.reshape.default", "aten._reshape_alias.default", "aten._reshape_copy.default")
def reshape(x, shape, stride=None):
    return x.reshape(tuple(shape))


@rule("aten.view_as.default", "aten.reshape_as.default")
def view_as(x, other):
    return x.reshape(other.shape)


@rule("aten.permute.default", "aten.permute_copy.default")
def permute(x, dims):
    return jnp.transpose(x, tuple(dims))


@rule("aten.transpose.int", "aten.transpose_copy.int")
def transpose(x, dim0, dim1):
    return jnp.swapaxes(x, dim0, dim1) if x.ndim else x


rule("aten.t.default", "aten.numpy_T.default", "aten.t_copy.default")(lambda x: x.T)
rule("aten.mT.default", "aten.adjoint.default")(lambda x: jnp.swapaxes(x, -1, -2))


@rule("aten.movedim.int", "aten.movedim.intlist")
def movedim(x, source, destination):
    return jnp.moveaxis(x, source, destination)


@rule("aten.unsqueeze.default", "aten.unsqueeze_copy.default")
def unsqueeze(x, dim):
    return jnp.expand_dims(x, dim)


@rule("aten.squeeze.default")
def squeeze(x):
    return jnp.squeeze(x)


@rule("aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze_copy.dim")
def squeeze_dim(x, dim):
    """Axes of another size than 1 stay."""
    dims = [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple(d for d in dims if x.ndim and x.shape[d] == 1))


@rule("aten.expand.default", "aten.broadcast_to.default", "aten.expand_copy.default")
def expand(x, size, implicit=False):
    """To `size`, in which -1 keeps an axis."""
    added = len(size) - x.ndim
    sizes = [x.shape[i - added] if n == -1 else n for i, n in enumerate(size)]
    return jnp.broadcast_to(x, sizes)


@rule("aten.expand_as.default")
def expand_as(x, other):
    return jnp.broadcast_to(x, other.shape)


@rule("aten.flatten.using_ints")
def flatten(x, start_dim=0, end_dim=-1):
    if x.ndim == 0:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    merged = math.prod(x.shape[first : last + 1])
    return x.reshape((*x.shape[:first], merged, *x.shape[last + 1 :]))


@rule("aten.ravel.default")
def ravel(x):
    return x.reshape(-1)


@rule("aten.unflatten.int")
def unflatten(x, dim, sizes):
    axis = dim % x.ndim
    return x.reshape((*x.shape[:axis], *_fill(sizes, x.shape[axis]), *x.shape[axis + 1 :]))


def _fill(sizes, whole):
    """-1 is what is left of the whole."""
    known = math.prod(size for size in sizes if size != -1)
    return tuple(whole // known if size == -1 else size for size in sizes)


def places(x, dim, index):
    """An index of one axis as one of all."""
    everything = [slice(None)] * x.ndim
    everything[dim] = index
    return tuple(everything)


def _span(start, end, step):
    # torch says the end of an axis with the largest int64.
    return slice(start, None if end is None or end >= 2**62 else end, step)


@rule("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_axis(x, dim=0, start=None, end=None, step=1):
    return x[places(x, dim, _span(start, end, step))]


@rule("aten.slice_scatter.default")
def slice_scatter(x, src, dim=0, start=None, end=None, step=1):
    return x.at[places(x, dim, _span(start, end, step))].set(src.astype(x.dtype))


@rule("aten.select.int", "aten.select_copy.int")
def select(x, dim, index):
    return x[places(x, dim, index)]


@rule("aten.select_scatter.default")
def select_scatter(x, src, dim, index):
    return x.at[places(x, dim, index)].set(src.astype(x.dtype))


@rule("aten.narrow.default")
def narrow_axis(x, dim, start, length):
    return slice_axis(x, dim, start % max(x.shape[dim], 1) if start < 0 else start, start + length)


@rule("aten.repeat.default")
def repeat(x, repeats):
    return jnp.tile(x, tuple(repeats))


@rule("aten.tile.default")
def tile(x, dims):
    return jnp.tile(x, tuple(dims))


@rule("aten.repeat_interleave.self_int")
def repeat_interleave(x, repeats, dim=None, output_size=None):
    return jnp.repeat(x, repeats, dim)


@rule("aten.roll.default")
def roll(x, shifts, dims=()):
    shifts = shifts if isinstance(shifts, int) else tuple(shifts)
    dims = tuple(dims) or None
    if dims is None and not isinstance(shifts, int):
        (shifts,) = shifts
    return jnp.roll(x, shifts, dims)


@rule("aten.flip.default")
def flip(x, dims):
    return jnp.flip(x, tuple(dims))


rule("aten.fliplr.default")(lambda x: jnp.flip(x, 1))
rule("aten.flipud.default")(lambda x: jnp.flip(x, 0))


@rule("aten.rot90.default")
def rot90(x, k=1, dims=(0, 1)):
    return jnp.rot90(x, k, tuple(dims))


@rule("aten.tril.default")
def tril(x, diagonal=0):
    return jnp.tril(x, diagonal)


@rule("aten.triu.default")
def triu(x, diagonal=0):
    return jnp.triu(x, diagonal)


@rule("aten.diagonal.default")
def diagonal(x, offset=0, dim1=0, dim2=1):
    return jnp.diagonal(x, offset, dim1, dim2)


@rule("aten.diag_embed.default")
def diag_embed(x, offset=0, dim1=-2, dim2=-1):
    """Zeros but for one diagonal, which is the last axis of x."""
    size = x.shape[-1] + abs(offset)
    places_of = np.arange(x.shape[-1])
    rows, columns = places_of + max(-offset, 0), places_of + max(offset, 0)
    square = jnp.zeros((*x.shape[:-1], size, size), x.dtype).at[..., rows, columns].set(x)
    return jnp.moveaxis(square, (-2, -1), (dim1, dim2))


@rule("aten.unfold.default")
def unfold(x, dimension, size, step):
    """Windows along an axis, a step apart; their elements lie along a new last one."""
    if x.ndim == 0:
        return x.reshape(1)
    count = (x.shape[dimension] - size) // step + 1
    windows = np.arange(count)[:, None] * step + np.arange(size)
    return jnp.moveaxis(jnp.take(x, windows, dimension), dimension % x.ndim + 1, -1)


@rule("aten.pixel_shuffle.default")
def pixel_shuffle(x, upscale_factor):
    """(..., C r^2, H, W) to (..., C, H r, W r)."""
    *lead, channels, height, width = x.shape
    r, n = upscale_factor, len(lead)
    x = x.reshape(*lead, channels // r**2, r, r, height, width)
    x = jnp.transpose(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return x.reshape(*lead, channels // r**2, height * r, width * r)


@rule("aten.pixel_unshuffle.default")
def pixel_unshuffle(x, downscale_factor):
    *lead, channels, height, width = x.shape
    r, n = downscale_factor, len(lead)
    x = x.reshape(*lead, channels, height // r, r, width // r, r)
    x = jnp.transpose(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return x.reshape(*lead, channels * r**2, height // r, width // r)


@rule("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(x, groups):
    batch, channels, *rest = x.shape
    return x.reshape(batch, groups, channels // groups, *rest).swapaxes(1, 2).reshape(x.shape)


@rule("aten.view.dtype")
def view_dtype(x, dtype):
    return jax.lax.bitcast_convert_type(x, as_dtype(dtype))
