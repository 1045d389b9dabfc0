"""The windows of a pool, along any number of axes: their largest element, their mean."""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Windows:
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


def largest(x: Array, windows: Sequence[Windows]) -> Array:
    """The largest element of each window over the last axes, torch's choice among equal ones."""
    # The first largest of the rows' first largest is the first of the window.
    for axis, along in reversed(list(enumerate(windows, x.ndim - len(windows)))):
        x = _max_along(x, axis, along)
    return x


def _max_along(x: Array, axis: int, windows: Windows) -> Array:
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


def average(
    x: Array, windows: Sequence[Windows], count_include_pad: bool = True, divisor: int | None = None
) -> Array:
    """The mean of each window over the last axes, or its sum over `divisor`."""
    first = x.ndim - len(windows)
    lead = (1,) * first
    sums = lax.reduce_window(
        _pad(x, {axis: along.around for axis, along in enumerate(windows, first)}, 0.0),
        0.0,
        lax.add,
        window_dimensions=lead + tuple(along.kernel for along in windows),
        window_strides=lead + tuple(along.stride for along in windows),
        padding="VALID",
    )
    if divisor is not None:
        return sums / float(divisor)
    return _divide(sums, [_counted(along, count_include_pad) for along in windows])


def _counted(windows: Windows, count_include_pad: bool) -> np.ndarray:
    """How many elements of each window count, along one axis."""
    rim = windows.padding if count_include_pad else 0
    ends = np.minimum(windows.starts() + windows.kernel, windows.size + rim)
    return ends - np.maximum(windows.starts(), -rim)


def _divide(sums: Array, counts: Sequence[np.ndarray]) -> Array:
    """By as many elements as there are: the product of the counts along each axis."""
    divisor = functools.reduce(np.multiply.outer, counts).astype(sums.dtype)
    return sums / jnp.broadcast_to(divisor, sums.shape)


def average_bins(x: Array, sizes: Sequence[int | None]) -> Array:
    """The means of windows that cover the last axes, so many of them; None keeps an axis."""
    counts = []
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        x, lengths = _sum_bins(x, axis, x.shape[axis] if size is None else size)
        counts.append(lengths)
    return _divide(x, counts)


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
