"""Conv2d: what slides over images of shape (N, C, H, W)."""

import math
from typing import Any

import flax.linen
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnet._utils.validation import nearest
from jaxnet.nn._arguments import Pair, as_pair, as_size, check_floats, check_input
from jaxnet.nn._convolution import Geometry, cross_correlate, surround
from jaxnet.nn.base import Module, Variables, uniform_within
from jaxnet.random import Generator, kaiming_uniform, uniform

Images = Float[Array | np.ndarray, "..."]

# The padding modes: torch's names, and NumPy's.
PADDING_MODES = {"zeros": None, "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def check_images(x: Any, channels: int | None = None) -> None:
    """Refuse what is not an image or a batch of them, of so many channels."""
    check_input(x)
    if x.ndim not in (3, 4) or (channels is not None and x.shape[-3] != channels):
        expected = "" if channels is None else f" with C = {channels}"
        raise ValueError(f"x must have shape (N, C, H, W) or (C, H, W){expected}, not {x.shape}")


class Conv2d(Module):
    """Cross-correlation of images with `weight`, plus `bias`: `torch.nn.Conv2d`.

    y[n, o, i, j] = bias[o] + sum over c, k, l of
    weight[o, c, k, l] * x[n, c, i * stride + k * dilation, j * stride + l * dilation]

    with x padded first. Takes x of shape (N, in_channels, H, W) or (in_channels, H, W), gives
    out_channels images of (H + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1 rows.
    Weight has shape (out_channels, in_channels / groups, *kernel_size): each group of outputs sees
    its own group of inputs.

    Sizes are integers or pairs for height and width. `padding` may be "valid", none, or "same",
    which keeps H and W at stride 1, the odd one behind. `padding_mode` is "zeros", "reflect",
    "replicate" or "circular". Weight and bias start uniform within ±1/sqrt(fan_in), fan_in =
    in_channels / groups * the kernel's size: torch's own draws through `jaxnet.init`. Products are
    computed as in `Linear`.

    Raises:
      ValueError: a size is out of range, `groups` does not divide both channels, a name is
        unknown, "same" with a stride, x has another shape or is smaller than the kernel, or than
        its "reflect" or "circular" padding.
      TypeError: a size is not an integer, or x not floating-point.

    >>> import jax.numpy as jnp
    >>> params = {"weight": jnp.array([[[[1.0, 10.0]]]]), "bias": jnp.array([0.5])}
    >>> x = jnp.array([[[1.0, 2.0, 3.0]]])
    >>> print(Conv2d(1, 1, (1, 2)).apply({"params": params}, x))
    [[[21.5 32.5]]]

    Source: `torch.nn.Conv2d`.
    """

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Pair | str = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    def __post_init__(self):
        for name in ("in_channels", "out_channels", "groups"):
            as_size(name, getattr(self, name))
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"groups must divide in_channels, {self.in_channels}, and out_channels, "
                f"{self.out_channels}; {self.groups} does not"
            )
        for name in ("kernel_size", "stride", "dilation"):
            setattr(self, name, as_pair(name, getattr(self, name)))
        if not isinstance(self.padding, str):
            self.padding = as_pair("padding", self.padding, least=0)
        elif self.padding not in (names := ("valid", "same")):
            said = f"{self.padding!r}{nearest(self.padding, names)}"
            raise ValueError(f'padding must be sizes, "valid" or "same", not {said}')
        if self.padding == "same" and self.stride != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, not {self.stride}')
        if self.padding_mode not in PADDING_MODES:
            said = f"{self.padding_mode!r}{nearest(self.padding_mode, PADDING_MODES)}"
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, not {said}")
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Weight, then bias, as `torch.nn.Conv2d.reset_parameters` draws them."""
        params = {}
        shape = self._weight_shape()
        generator, params["weight"] = kaiming_uniform(generator, shape, a=math.sqrt(5))
        if self.bias:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            generator, params["bias"] = uniform(generator, shape[:1], -bound, bound)
        return generator, {"params": params}

    def _weight_shape(self) -> tuple[int, ...]:
        kernel = as_pair("kernel_size", self.kernel_size)
        return (self.out_channels, self.in_channels // self.groups, *kernel)

    def _around(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Rows above and below, and columns left and right, that are added to an image."""
        kernel, steps = (as_pair(key, getattr(self, key)) for key in ("kernel_size", "dilation"))
        spans = [step * (size - 1) + 1 for size, step in zip(kernel, steps, strict=True)]
        around = surround(self.padding, kernel, steps)
        most = {"reflect": [size - 1 for size in sizes], "circular": list(sizes)}
        for axis, (size, span, pads) in enumerate(zip(sizes, spans, around, strict=True)):
            if size + sum(pads) < span:
                raise ValueError(
                    f"x must be at least {span} high and wide where the kernel is, padding "
                    f"included, not {size + sum(pads)}"
                )
            if self.padding_mode in most and max(pads) > most[self.padding_mode][axis]:
                raise ValueError(
                    f"padding {max(pads)} is more than padding_mode={self.padding_mode!r} can take "
                    f"from an image of size {sizes}"
                )
        return around

    @flax.linen.compact
    def __call__(self, x: Images) -> Float[Array, "..."]:
        """x of shape (N, in_channels, H, W) or (in_channels, H, W)."""
        check_floats(x)
        check_images(x, self.in_channels)
        around = self._around(x.shape[-2:])
        start = uniform_within(1 / math.sqrt(math.prod(self._weight_shape()[1:])))
        weight = self.param("weight", start, self._weight_shape())
        images = jnp.asarray(x).astype(jnp.result_type(x, weight))
        images = images if x.ndim == 4 else images[None]
        if mode := PADDING_MODES[self.padding_mode]:
            images = jnp.pad(images, [(0, 0), (0, 0), *around], mode=mode)
            around = [(0, 0), (0, 0)]
        geometry = Geometry(
            as_pair("stride", self.stride), around, as_pair("dilation", self.dilation)
        )
        y = cross_correlate(images, weight.astype(images.dtype), geometry, self.groups)
        if self.bias:
            bias = self.param("bias", start, (self.out_channels,)).reshape(1, -1, 1, 1)
            y = y + jnp.broadcast_to(bias, y.shape)
        return y if x.ndim == 4 else y[0]
