"""Pools: the largest or the mean of each window of images of shape (N, C, H, W)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet.nn._arguments import Pair, as_pair, as_size
from jaxnet.nn.base import Module, narrow, widen
from jaxnet.nn.images import Images, check_images
from jaxnet.random._arguments import as_integer


@dataclasses.dataclass(frozen=True)
class _Windows:
    """The windows along one axis of `size` elements: the first begins at -padding."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    ceil_mode: bool

    @property
    def span(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def count(self) -> int:
        room = self.size + 2 * self.padding - self.span
        count = (room + (self.stride - 1 if self.ceil_mode else 0)) // self.stride + 1
        # A window that would begin behind the axis is none, though rounding up counts it.
        late = self.ceil_mode and (count - 1) * self.stride >= self.size + self.padding
        return count - 1 if late else count

    @property
    def around(self) -> tuple[int, int]:
        """Elements to add in front and behind, so that the windows fill the axis exactly."""
        behind = (self.count - 1) * self.stride + self.span - self.size - self.padding
        return self.padding, behind  # below 0: to cut off

    def starts(self) -> np.ndarray:
        return np.arange(self.count) * self.stride - self.padding


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

    def _windows(self, x: Images, ceil_mode: bool, dilation: Pair = 1) -> list[_Windows]:
        """Those along the height and along the width of x."""
        check_images(x)
        names = ("kernel_size", "stride", "padding")
        kernel, stride, padding = (as_pair(name, getattr(self, name), least=0) for name in names)
        geometry = (x.shape[-2:], kernel, stride, padding, as_pair("dilation", dilation))
        windows = [_Windows(*axis, ceil_mode) for axis in zip(*geometry, strict=True)]
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
        # The first largest of the rows' first largest is the first of the window.
        rows = _max_along(jnp.asarray(x), x.ndim - 1, across)
        return _max_along(rows, x.ndim - 2, down)


def _max_along(x: Array, axis: int, windows: _Windows) -> Array:
    """The first largest of each window along one axis, found as torch's loop finds it."""
    # Choosing with comparisons, not with XLA's reduce_window: that one's gradient knows no
    # dilation, and leaves open which of equal elements it goes to.
    padded = _pad(x, {axis: windows.around}, -jnp.inf)
    length = (windows.count - 1) * windows.stride + 1
    best, seen = None, np.zeros(windows.count, bool)
    for offset in range(0, windows.span, windows.dilation):
        part = lax.slice_in_dim(padded, offset, offset + length, windows.stride, axis)
        places = windows.starts() + offset
        inside = (places >= 0) & (places < windows.size)
        if best is None:
            best = part
        else:
            # The first element inside counts even if it is -inf, as the padding is.
            fresh = (inside & ~seen).reshape(-1, *(1,) * (x.ndim - 1 - axis))
            fresh = jnp.broadcast_to(fresh, part.shape)
            best = jnp.where((part > best) | jnp.isnan(part) | fresh, part, best)
        seen |= inside
    assert best is not None
    return best


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
        lead = (1,) * (x.ndim - 2)
        around = {x.ndim - 2 + axis: along.around for axis, along in enumerate(windows)}
        sums = lax.reduce_window(
            _pad(widen(x), around, 0.0),
            0.0,
            lax.add,
            window_dimensions=lead + tuple(along.kernel for along in windows),
            window_strides=lead + tuple(along.stride for along in windows),
            padding="VALID",
        )
        if self.divisor_override is not None:
            return narrow(sums / self.divisor_override, x)
        counts = np.outer(*(self._counted(along) for along in windows))
        return narrow(sums / jnp.broadcast_to(counts.astype(sums.dtype), sums.shape), x)

    def _counted(self, windows: _Windows) -> np.ndarray:
        """How many elements of each window count, along one axis."""
        rim = windows.padding if self.count_include_pad else 0
        ends = np.minimum(windows.starts() + windows.kernel, windows.size + rim)
        return ends - np.maximum(windows.starts(), -rim)


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
        y, counts = widen(x), []
        for axis, size in zip((x.ndim - 2, x.ndim - 1), self.output_size, strict=True):
            y, lengths = _sum_bins(y, axis, x.shape[axis] if size is None else size)
            counts.append(lengths)
        divisor = np.outer(*counts).astype(y.dtype)
        return narrow(y / jnp.broadcast_to(divisor, y.shape), x)


def _sum_bins(x: Array, axis: int, count: int) -> tuple[Array, np.ndarray]:
    """The sums of `count` windows along one axis, and the lengths of these."""
    size = x.shape[axis]
    if size % count == 0:
        split = (*x.shape[:axis], count, size // count, *x.shape[axis + 1 :])
        return x.reshape(split).sum(axis + 1), np.full(count, size // count)
    starts = [i * size // count for i in range(count)]
    ends = [-(-(i + 1) * size // count) for i in range(count)]
    parts = [
        lax.slice_in_dim(x, start, end, axis=axis).sum(axis, keepdims=True)
        for start, end in zip(starts, ends, strict=True)
    ]
    return jnp.concatenate(parts, axis), np.subtract(ends, starts)


def _pad(x: Array, around: dict[int, tuple[int, int]], value: float) -> Array:
    config = [(*around.get(axis, (0, 0)), 0) for axis in range(x.ndim)]
    return lax.pad(x, jnp.asarray(value, x.dtype), config)
