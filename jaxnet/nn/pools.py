"""Pools: the largest or the mean of each window of images of shape (N, C, H, W)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.nn._arguments import Pair, as_pair, as_size
from jaxnet.nn._windows import Windows, average, average_bins, largest
from jaxnet.nn.base import Module, narrow, widen
from jaxnet.nn.images import Images, check_images
from jaxnet.random._arguments import as_integer


class _Pool(Module):
    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0

    def __post_init__(self):
        self.kernel_size = as_pair("kernel_size", self.kernel_size)
        self.stride = as_pair("stride", self.kernel_size if self.stride is None else self.stride)
        self.padding = as_pair("padding", self.padding, least=0)
        for kernel, pad in zip(self.kernel_size, self.padding, strict=True):
            if pad > (half := kernel // 2):
                raise ValueError(f"padding must be at most half of kernel_size, {half}, not {pad}")
        super().__post_init__()

    def _windows(self, x: Images, ceil_mode: bool, dilation: Pair = 1) -> list[Windows]:
        """Those along the height and along the width of x."""
        check_images(x)
        names = ("kernel_size", "stride", "padding")
        kernel, stride, padding = (as_pair(name, getattr(self, name), least=0) for name in names)
        geometry = (x.shape[-2:], kernel, stride, padding, as_pair("dilation", dilation))
        windows = [Windows(*axis, ceil_mode) for axis in zip(*geometry, strict=True)]
        if any(along.count < 1 for along in windows):
            raise ValueError(
                f"x must be at least as large as a window, {[along.span for along in windows]}, "
                f"padding {self.padding} included; it has shape {x.shape}"
            )
        return windows


class MaxPool2d(_Pool):
    """The largest element of each window: `torch.nn.MaxPool2d`.

    Takes x of shape (N, C, H, W) or (C, H, W), gives
    (H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1 rows, rounded down, or with
    `ceil_mode` up, unless the last window would begin behind the image. `stride` is `kernel_size`
    if None. Padding is never the largest. Of several largest the first, row by row, gets the
    gradient, as in torch; after a nan, the last nan.

    Raises:
      ValueError: a size is out of range, `padding` is above half of `kernel_size`, or x has another
        shape or is smaller than a window.
      TypeError: a size is not an integer.

    torch can return the places of the largest too, and its fifth argument asks for them; this
    cannot, and takes `ceil_mode` only by its name.

    >>> import jax.numpy as jnp
    >>> print(MaxPool2d(2)(jnp.array([[[1.0, 2.0, 5.0, 0.0], [3.0, 4.0, 0.0, 0.0]]])))
    [[[4. 5.]]]

    Source: `torch.nn.MaxPool2d`.
    """

    dilation: Pair = 1
    ceil_mode: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        self.dilation = as_pair("dilation", self.dilation)
        super().__post_init__()

    def __call__(self, x: Images) -> Float[Array, "..."]:
        """x of shape (N, C, H, W) or (C, H, W) to the same with fewer rows and columns."""
        down, across = self._windows(x, self.ceil_mode, self.dilation)
        return largest(jnp.asarray(x), (down, across))


class AvgPool2d(_Pool):
    """The mean of each window: `torch.nn.AvgPool2d`.

    Shapes, `stride` and `ceil_mode` are those of `MaxPool2d`. The sum of a window is divided by
    `divisor_override`, if given; else by how many of its elements lie in the image, or, with
    `count_include_pad`, in the image and its padding. Never counted is what lies beyond the
    padding, where `ceil_mode` lets the last window reach.

    Raises:
      ValueError: a size is out of range, `padding` is above half of `kernel_size`,
        `divisor_override` is 0, or x has another shape or is smaller than a window.
      TypeError: a size is not an integer.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[2.0, 4.0, 6.0]]])
    >>> print(AvgPool2d((1, 2), ceil_mode=True)(x))
    [[[3. 6.]]]

    Source: `torch.nn.AvgPool2d`.
    """

    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self):
        if self.divisor_override is not None:
            as_integer("divisor_override", self.divisor_override)
        if self.divisor_override == 0:
            raise ValueError("divisor_override must be None or an integer other than 0, not 0")
        super().__post_init__()

    def __call__(self, x: Images) -> Float[Array, "..."]:
        """x of shape (N, C, H, W) or (C, H, W) to the same with fewer rows and columns."""
        windows = self._windows(x, self.ceil_mode)
        return narrow(average(widen(x), windows, self.count_include_pad, self.divisor_override), x)


class AdaptiveAvgPool2d(Module):
    """The mean of each of `output_size` windows: `torch.nn.AdaptiveAvgPool2d`.

    They cover the image: along an axis of `size` elements, window i of n goes from
    floor(i * size / n) to ceil((i + 1) * size / n), so that windows may overlap. `output_size` is
    one number, or a pair for height and width, where None keeps the size of x. Takes x of shape
    (N, C, H, W) or (C, H, W).

    Raises:
      ValueError: a size is below 1, or x has another shape.
      TypeError: a size is not an integer.

    >>> import jax.numpy as jnp
    >>> print(AdaptiveAvgPool2d((1, 2))(jnp.array([[[1.0, 2.0, 6.0]]])))
    [[[1.5 4. ]]]

    Source: `torch.nn.AdaptiveAvgPool2d`.
    """

    output_size: int | Sequence[int | None]

    def __post_init__(self):
        sizes = self.output_size
        sizes = sizes if isinstance(sizes, Sequence) else (as_size("output_size", sizes),) * 2
        if len(sizes) != 2:
            raise ValueError(f"output_size must be a size or a pair, not {self.output_size!r}")
        pair = (None if size is None else as_size("output_size", size) for size in sizes)
        self.output_size = tuple(pair)
        super().__post_init__()

    def __call__(self, x: Images) -> Float[Array, "..."]:
        """x of shape (N, C, H, W) or (C, H, W) to the same with `output_size` rows and columns."""
        check_images(x)
        assert isinstance(self.output_size, tuple)
        return narrow(average_bins(widen(x), self.output_size), x)
