"""Where an operation chooses among its numbers, and which of its choices rounding may turn."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from torchref.reference.operations import Call, edges, is_float

_POOLS = ("max_pool2d_with_indices",)
_PAIRS = ("maximum", "minimum", "gt", "ge", "lt", "le")
_REDUCTIONS = ("max", "min", "amax", "amin", "argmax", "argmin")


class Near(NamedTuple):
    """The exact numbers of a tensor, and how far rounding may move each."""

    exact: torch.Tensor
    reach: torch.Tensor


Look = Callable[[torch.Tensor], Near]


class Kink(NamedTuple):
    """A choice that rounding may turn: which operation, in their order, and how it is turned."""

    number: int
    argument: int
    element: int
    """Of the argument, counted row by row."""
    value: float
    """What turns it, in place of torch's number."""


def is_choice(call: Call) -> bool:
    """Whether the operation has a kink."""
    if call.name in _POOLS or call.name in _REDUCTIONS or _has_two(call):
        return True
    return bool(edges(call))


def is_seen(call: Call) -> bool:
    """Whether the first argument alone tells how it chooses."""
    return call.name in _POOLS or not (_has_two(call) or call.name in _REDUCTIONS)


def _has_two(call: Call) -> bool:
    """Whether it compares two tensors, element with element."""
    return call.base in _PAIRS and len(call.args) > 1 and is_float(call.args[1])


def list_known(number: int, call: Call, shown: torch.Tensor) -> Iterator[Kink]:
    """Where the port's own numbers choose otherwise than torch's."""
    x = call.args[0].detach()
    if call.name in _POOLS:
        windows = _Windows(call)
        ours, theirs = (windows.cut(values).argmax(1) for values in (shown, x))
        for row, column in (ours != theirs).nonzero().tolist():
            for element in windows.elements[row, :, column].long().tolist():
                if element >= 0:
                    yield Kink(number, 0, element, float(shown.reshape(-1)[element]))
        return
    other = torch.zeros(x.shape, dtype=torch.bool)
    for edge in edges(call):
        other |= torch.sign(shown - edge) != torch.sign(x - edge)
    for element in _elements(other):
        yield Kink(number, 0, element, float(shown.reshape(-1)[element]))


def list_possible(number: int, call: Call, look: Look) -> Iterator[Kink]:
    """What lies within rounding of a kink; numbers that are exactly equal are taken for equal."""
    if call.name in _POOLS:
        windows = _Windows(call)
        yield from _list_rivals(number, call.args[0], windows.cut, windows.elements, look)
    elif call.name in _REDUCTIONS:
        yield from _list_reduced(number, call, look)
    elif _has_two(call):
        other, beside = call.args[1].detach(), look(call.args[1])
        yield from _list_crossings(number, call.args[0], other, beside, look)
    else:
        for edge in edges(call):
            sharp = Near(torch.tensor(edge, dtype=torch.float64), torch.zeros(()))
            yield from _list_crossings(number, call.args[0], torch.tensor(edge), sharp, look)


def _list_crossings(
    number: int, tensor: torch.Tensor, other: torch.Tensor, beside: Near, look: Look
) -> Iterator[Kink]:
    """Numbers that rounding may put on another side of others."""
    x, near = tensor.detach(), look(tensor)
    other = other.expand_as(x)
    close = (x - other).abs() <= near.reach + beside.reach
    equal = (x == other) & (near.exact != beside.exact)
    flat, others, ties = x.reshape(-1), other.reshape(-1), equal.reshape(-1)
    for element in _elements(close & ((x != other) | equal)):
        own, value = float(flat[element]), float(others[element])
        sides = (np.inf, -np.inf) if ties[element] else (-np.inf if own > value else np.inf,)
        for side in sides:
            yield Kink(number, 0, element, _beyond(value, side))


def _list_reduced(number: int, call: Call, look: Look) -> Iterator[Kink]:
    """Of a largest or smallest along axes."""
    x = call.args[0].detach()
    given = call.args[1] if len(call.args) > 1 else call.keywords.get("dim")
    axes = [given] if isinstance(given, int) else list(given or range(x.dim()))
    axes = [axis % x.dim() for axis in axes]
    rest = [axis for axis in range(x.dim()) if axis not in axes]
    count = int(np.prod([1, *(x.shape[axis] for axis in rest)]))
    sign = -1 if "min" in call.name else 1

    def cut(values: torch.Tensor) -> torch.Tensor:
        return (sign * values.double()).permute(*rest, *axes).reshape(count, -1, 1)

    elements = (sign * cut(torch.arange(x.numel()).reshape(x.shape))).long()
    yield from _list_rivals(number, x, cut, elements, look, sign)


def _list_rivals(
    number: int,
    tensor: torch.Tensor,
    cut: Callable[[torch.Tensor], torch.Tensor],
    elements: torch.Tensor,
    look: Look,
    sign: int = 1,
) -> Iterator[Kink]:
    """Windows, along axis 1 of what `cut` gives, whose two largest are within rounding."""
    x = tensor.detach()
    values = cut(x)
    if values.shape[1] < 2:
        return
    top, near = values.topk(2, dim=1), look(tensor)
    chosen = elements.gather(1, top.indices).long().clamp(min=0)
    reach, exact = near.reach.reshape(-1)[chosen], near.exact.reshape(-1)[chosen]
    gap = top.values[:, 0] - top.values[:, 1]
    tied = (gap == 0) & (exact[:, 0] != exact[:, 1])
    close = torch.isfinite(gap) & (gap <= reach[:, 0] + reach[:, 1]) & ((gap > 0) | tied)
    flat = x.reshape(-1)
    for row, column in close.nonzero().tolist():
        first, second = chosen[row, :, column].tolist()
        yield Kink(number, 0, second, _beyond(float(flat[first]), sign * np.inf))
        if tied[row, column]:  # which of the two is chosen is not said here
            yield Kink(number, 0, first, _beyond(float(flat[second]), sign * np.inf))


class _Windows:
    """The windows of a pool over images."""

    def __init__(self, call: Call) -> None:
        def pair(place: int, default: Any) -> tuple[int, int]:
            given = call.args[place] if len(call.args) > place else default
            values = [given] if isinstance(given, int) else list(given) or list(default)
            return values[0], values[-1]

        kernel = pair(1, ())
        stride, padding = pair(2, kernel), pair(3, (0, 0))
        self._options = {"kernel_size": kernel, "dilation": pair(4, (1, 1)), "stride": stride}
        self._sides = tuple(
            side for k in (1, 0) for side in (padding[k], padding[k] + stride[k] - 1)
        )
        x = call.args[0]
        self.elements = self._unfold(torch.arange(x.numel()).reshape(x.shape), -1.0)
        """Which element of the input is in each place; -1 for none."""

    def cut(self, values: torch.Tensor) -> torch.Tensor:
        """(images and channels, places of a window, windows)"""
        return self._unfold(values, -torch.inf)

    def _unfold(self, values: torch.Tensor, outside: float) -> torch.Tensor:
        images = values.double().reshape(-1, 1, *values.shape[-2:])
        padded = torch.nn.functional.pad(images, self._sides, value=outside)
        return torch.nn.functional.unfold(padded, **self._options)


def _beyond(value: float, toward: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(toward)))


def _elements(where: torch.Tensor) -> list[int]:
    return where.reshape(-1).nonzero().reshape(-1).tolist()
