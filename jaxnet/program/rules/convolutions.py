"""Convolutions over one, two and three axes, and their transposes."""

import jax.numpy as jnp

from jaxnet.nn._convolution import Geometry, convolve, convolve_transposed, shifts, surround
from jaxnet.program.registry import aten


def for_each_axis(value, count):
    """One number for each axis; one alone stands for all."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * count if len(values) == 1 else values)


def _geometry(kernel, stride, padding, dilation):
    strides, dilations = (for_each_axis(value, len(kernel)) for value in (stride, dilation))
    padding = padding if isinstance(padding, str) else for_each_axis(padding, len(kernel))
    return Geometry(strides, surround(padding, kernel, dilations), dilations)


def _batched(compute, x, weight, bias):
    """With one image as a batch of one, and with the bias of each output channel."""
    single = x.ndim == weight.ndim - 1
    y = compute(x[None] if single else x)
    if bias is not None:
        y = y + jnp.broadcast_to(bias.reshape(1, -1, *(1,) * (y.ndim - 2)), y.shape)
    return y[0] if single else y


@aten("conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding")
def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """x (n, in, ...) with weight (out, in / groups, ...); padding may be "same" or "valid"."""
    geometry = _geometry(weight.shape[2:], stride, padding, dilation)
    return _batched(lambda x: convolve(x, weight, geometry, groups), x, weight, bias)


@aten("conv_transpose1d conv_transpose2d.input conv_transpose3d.input")
def conv_transpose(
    x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """x (n, in, ...) with weight (in, out / groups, ...): the transpose of `conv` in x."""
    geometry = _geometry(weight.shape[2:], stride, padding, dilation)
    extra = for_each_axis(output_padding, weight.ndim - 2)
    return _batched(
        lambda x: convolve_transposed(x, weight, geometry, extra, groups), x, weight, bias
    )


@aten("convolution")
def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    if transposed:
        return conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(x, weight, bias, stride, padding, dilation, groups)


@aten("im2col")
def im2col(x, kernel_size, dilation, padding, stride):
    """(N, C, H, W) to (N, C * kernel, places): `torch.nn.Unfold`."""
    single, kernel = x.ndim == 3, for_each_axis(kernel_size, 2)
    images = x[None] if single else x
    y = jnp.stack(list(shifts(images, kernel, _geometry(kernel, stride, padding, dilation))), 2)
    y = y.reshape(y.shape[0], y.shape[1] * y.shape[2], y.shape[-2] * y.shape[-1])
    return y[0] if single else y
