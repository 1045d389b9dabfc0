"""Images sampled at places of a grid, resized with a filter, and put together from patches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.nn.base import precision
from jaxnet.program.registry import aten
from jaxnet.program.rules.convolutions import for_each_axis, im2col
from jaxnet.program.rules.resizing import output_sizes


def _unnormalize(places, size, align_corners):
    """From [-1, 1], the rim of the image or the middle of its rim's pixels, to pixels."""
    if align_corners:
        return (places + 1) / 2 * (size - 1)
    return ((places + 1) * size - 1) / 2


def _reflect(places, low, high):
    """Back and forth between twice `low` and twice `high`, over 2."""
    if low == high:
        return jnp.zeros_like(places)
    start, span = low / 2, (high - low) / 2
    distance = jnp.abs(places - start)
    extra = distance - lax.stop_gradient(jnp.floor(distance / span)) * span
    flips = lax.stop_gradient(jnp.floor(distance / span)) % 2
    return jnp.where(flips == 0, extra + start, span - extra + start)


def _clip(places, size):
    """To the image, with gradient 0 at its rim, as torch has it."""
    inside = (places > 0) & (places < size - 1)
    return jnp.where(inside, places, lax.stop_gradient(jnp.clip(places, 0, size - 1)))


def _pad_places(places, size, mode, align_corners):
    if mode == 1:
        return _clip(places, size)
    if mode == 2:
        bounds = (0, 2 * (size - 1)) if align_corners else (-1, 2 * size - 1)
        return _clip(_reflect(places, *bounds), size)
    return places


def _read(image, rows, columns):
    """Pixels of one image (C, H, W); 0 outside."""
    height, width = image.shape[1:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    return jnp.where(inside[None], image[:, rows, columns], 0)


def _sample(image, grid, mode, padding, align_corners):
    columns, rows = (
        _pad_places(_unnormalize(grid[..., i], size, align_corners), size, padding, align_corners)
        for i, size in enumerate(image.shape[:0:-1])
    )
    if mode == 1:
        return _read(image, jnp.round(rows).astype(int), jnp.round(columns).astype(int))
    top, left = (lax.stop_gradient(jnp.floor(x)) for x in (rows, columns))
    down, across = rows - top, columns - left
    y = jnp.zeros((), image.dtype)
    for i, of_row in ((0, 1 - down), (1, down)):
        for j, of_column in ((0, 1 - across), (1, across)):
            pixels = _read(image, top.astype(int) + i, left.astype(int) + j)
            y = y + pixels * (of_row * of_column)[None]
    return y


@aten("grid_sampler grid_sampler_2d")
def grid_sampler(x, grid, interpolation_mode, padding_mode, align_corners):
    """Bilinear (0) or nearest (1); outside are zeros (0), the border (1) or reflections (2)."""
    if x.ndim != 4 or interpolation_mode == 2:
        raise NotImplementedError("grid_sample has a rule for images, bilinear and nearest")
    options = (interpolation_mode, padding_mode, align_corners)
    return jax.vmap(lambda image, places: _sample(image, places, *options))(x, grid)


@aten("affine_grid_generator")
def affine_grid_generator(theta, size, align_corners):
    """theta (N, 2, 3) or (N, 3, 4) times the places of an image in [-1, 1]."""
    axes = []
    for count in size[2:]:
        order = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
        axes.append(order if align_corners else order * (count - 1) / count)
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(tuple(size[2:]))], -1)
    return jnp.einsum(
        "...j,nij->n...i", jnp.asarray(places, theta.dtype), theta, precision=precision()
    )


def _filtered(size, count, factor, align_corners, support, kernel):
    """The weights of every element of the input in each of the output, of a stretched filter."""
    if align_corners:
        scale = (size - 1) / (count - 1) if count > 1 else 0.0
    else:
        scale = 1 / factor if factor else size / count
    reach = support * max(scale, 1.0)
    weights = np.zeros((count, size))
    for i in range(count):
        center = scale * (i + 0.5)
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), size)
        order = np.arange(first, last)
        row = kernel((order - center + 0.5) / max(scale, 1.0))
        weights[i, first:last] = row / row.sum()
    return weights


def _triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def _keys(x):
    """Keys' cubic with a = -0.5, as Pillow has it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _antialiased(x, output_size, align_corners, scale_factors, support, kernel):
    for axis, (count, factor) in enumerate(output_sizes(x, output_size, scale_factors), 2):
        weights = _filtered(x.shape[axis], count, factor, align_corners, support, kernel)
        y = jnp.tensordot(x, jnp.asarray(weights, x.dtype), (axis, 1), precision=precision())
        x = jnp.moveaxis(y, -1, axis)
    return x


@aten("_upsample_bilinear2d_aa.vec")
def bilinear_antialiased(x, output_size, align_corners, scale_factors):
    return _antialiased(x, output_size, align_corners, scale_factors, 1, _triangle)


@aten("_upsample_bicubic2d_aa.vec")
def bicubic_antialiased(x, output_size, align_corners, scale_factors):
    return _antialiased(x, output_size, align_corners, scale_factors, 2, _keys)


@aten("col2im")
def col2im(x, output_size, kernel_size, dilation, padding, stride):
    """(N, C * kernel, places) to images, overlapping patches added: `torch.nn.Fold`."""
    channels = x.shape[-2] // math.prod(for_each_axis(kernel_size, 2))
    images = jnp.zeros((*x.shape[:-2], channels, *output_size), x.dtype)
    options = (kernel_size, dilation, padding, stride)
    _, pullback = jax.vjp(lambda images: im2col(images, *options), images)
    return pullback(x)[0]
