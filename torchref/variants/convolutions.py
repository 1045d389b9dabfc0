"""Convolutions and pools as other libraries pad and turn them."""

import math
from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F

from torchref.variants.variant import Variant


def list_convolutions() -> Iterator[Variant]:
    """Another padding, or a kernel that is flipped."""
    names = ("conv1d", "conv2d", "conv3d")

    def same(function: Any, args: tuple, keywords: dict) -> Any:
        if "pool" in function.__name__:
            return _pool_same(function, args, keywords)
        x, weight, bias, stride, padding, dilation, groups = _bind_convolution(args, keywords)
        pads = _pads_of_same(x.shape[2:], weight.shape[2:], stride, dilation)
        return function(F.pad(x, pads), weight, bias, stride, 0, dilation, groups)

    words = 'the padding is "SAME", which adds more at the end'
    yield Variant(words, (*names, *_POOLS), same)
    yield Variant(f"{words}, in convolutions", names, same)

    def flipped(function: Any, args: tuple, keywords: dict) -> Any:
        x, weight, *rest = args
        return function(x, weight.flip(*range(2, weight.ndim)), *rest, **keywords)

    turned = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    yield Variant("the kernel of a transposed convolution is not flipped", turned, flipped)
    yield Variant("the kernel is flipped", names, flipped)


_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d")


def _pads_of_same(sizes: Any, kernels: Any, strides: Any, dilations: Any) -> list[int]:
    """What XLA's SAME adds before and after each axis, the last axis first, as `F.pad` has it."""
    pads = []
    for size, kernel, step, spread in zip(sizes, kernels, strides, dilations, strict=True):
        need = max((math.ceil(size / step) - 1) * step + (kernel - 1) * spread + 1 - size, 0)
        pads = [need // 2, need - need // 2, *pads]
    return pads


def _pool_same(function: Any, args: tuple, keywords: dict) -> Any:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(names, args, strict=False)) | keywords
    x = given["input"]
    axes = int(function.__name__[-2])
    kernel = _repeat(given["kernel_size"], axes)
    stride = _repeat(given.get("stride") or kernel, axes)
    pads = _pads_of_same(x.shape[-axes:], kernel, stride, (1,) * axes)
    return function(F.pad(x, pads, value=-math.inf), kernel, stride)


def _repeat(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _bind_convolution(args: tuple, keywords: dict) -> list[Any]:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, args, strict=False)) | keywords
    axes = given["weight"].ndim - 2
    found: list[Any] = [given["input"], given["weight"], given.get("bias")]
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
        found.append(_repeat(given.get(name, default), axes))
    return [*found, given.get("groups", 1)]
