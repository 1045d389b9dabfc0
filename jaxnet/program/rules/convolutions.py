"""Convolutions over one, two and three axes, and their transposes."""

import jax.numpy as jnp

from jaxnet.nn._convolution import Geometry, convolve, convolve_transposed, shifts
from jaxnet.program.registry import rule


def for_each_axis(value, count):
    """One number for each axis; one alone stands for all."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * count if len(values) == 1 else values)


def _pads(padding, kernel, dilations):
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        spans = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(pad, pad) for pad in for_each_axis(padding, len(kernel))]


def _batched(compute, x, weight, bias):
    """With one image as a batch of one, and with the bias of each output channel."""
    single = x.ndim == weight.ndim - 1
    y = compute(x[None] if single else x)
    if bias is not None:
        y = y + jnp.broadcast_to(bias.reshape(1, -1, *(1,) * (y.ndim - 2)), y.shape)
    return y[0] if single else y


@rule("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
@rule("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    kernel = weight.shape[2:]
    strides, dilations = (for_each_axis(v, len(kernel)) for v in (stride, dilation))
    geometry = Geometry(strides, _pads(padding, kernel, dilations), dilations)
    return _batched(lambda x: convolve(x, weight, geometry, groups), x, weight, bias)


@rule("aten.conv_transpose1d.default", "aten.conv_transpose2d.input")
@rule("aten.conv_transpose3d.input")
def conv_transpose(
    x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    kernel = weight.shape[2:]
    strides, dilations, extra = (
        for_each_axis(v, len(kernel)) for v in (stride, dilation, output_padding)
    )
    geometry = Geometry(strides, _pads(padding, kernel, dilations), dilations)
    return _batched(
        lambda x: convolve_transposed(x, weight, geometry, extra, groups), x, weight, bias
    )


@rule("aten.convolution.default")
def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    if transposed:
        return conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(x, weight, bias, stride, padding, dilation, groups)


@rule("aten.im2col.default")
def im2col(x, kernel_size, dilation, padding, stride):
    """(N, C, H, W) to (N, C * kernel, places): `torch.nn.Unfold`."""
    single, kernel = x.ndim == 3, for_each_axis(kernel_size, 2)
    images = x[None] if single else x
    strides, dilations = for_each_axis(stride, 2), for_each_axis(dilation, 2)
    geometry = Geometry(strides, _pads(padding, kernel, dilations), dilations)
    y = jnp.stack(list(shifts(images, kernel, geometry)), 2)
    y = y.reshape(y.shape[0], y.shape[1] * y.shape[2], y.shape[-2] * y.shape[-1])
    return y[0] if single else y
