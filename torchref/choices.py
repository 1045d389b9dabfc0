"""Where an operation chooses among its numbers, and which of its choices rounding may turn."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from torchref.operations import Call, edges, is_float

_POOLS = ("max_pool2d_with_indices",)
_PAIRS = ("maximum", "minimum", "gt", "ge", "lt", "le")
_REDUCTIONS = ("max", "min", "amax", "amin", "argmax", "argmin")

Reach = Callable[[torch.Tensor], torch.Tensor]
"""How far rounding may move each number of a tensor."""


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


def list_possible(number: int, call: Call, reach: Reach) -> Iterator[Kink]:
    """What lies within rounding of a kink; numbers that are equal are taken for equal."""
    if call.name in _POOLS:
        yield from _list_pooled(number, call, reach)
        return
    first = call.args[0].detach()
    flat = first.reshape(-1)
    if call.name in _REDUCTIONS:
        yield from _list_reduced(number, call, reach)
        return
    if _has_two(call):
        other = call.args[1].detach().expand_as(first)
        near = (first - other).abs() <= reach(first) + reach(call.args[1]).expand_as(first)
        for element in _elements(near & (first != other)):
            value, own = float(other.reshape(-1)[element]), float(flat[element])
            yield Kink(number, 0, element, _beyond(value, -np.inf if own > value else np.inf))
        return
    near = reach(first)
    for edge in edges(call):
        for element in _elements(((first - edge).abs() <= near) & (first != edge)):
            yield Kink(number, 0, element, 2 * edge - float(flat[element]))


def _list_pooled(number: int, call: Call, reach: Reach) -> Iterator[Kink]:
    """Windows whose two largest numbers lie within rounding of each other."""
    x, windows = call.args[0].detach(), _Windows(call)
    cut = windows.cut(x)
    if cut.shape[1] < 2:
        return
    top = cut.topk(2, dim=1)
    chosen = windows.elements.gather(1, top.indices).long().clamp(min=0)
    near, gap = reach(call.args[0]).reshape(-1), top.values[:, 0] - top.values[:, 1]
    close = torch.isfinite(gap) & (gap > 0) & (gap <= near[chosen[:, 0]] + near[chosen[:, 1]])
    for row, column in close.nonzero().tolist():
        first, second = chosen[row, :, column].tolist()
        yield Kink(number, 0, second, _beyond(float(x.reshape(-1)[first]), np.inf))


def _list_reduced(number: int, call: Call, reach: Reach) -> Iterator[Kink]:
    """Rows along the reduced axes whose two largest, or smallest, are within rounding."""
    tensor = call.args[0]
    x = tensor.detach()
    given = call.args[1] if len(call.args) > 1 else call.keywords.get("dim")
    axes = [given] if isinstance(given, int) else list(given or range(x.dim()))
    rest = [axis for axis in range(x.dim()) if axis not in {a % x.dim() for a in axes}]
    kept = [1, *(x.shape[axis] for axis in rest)]
    order = [*rest, *(axis % x.dim() for axis in axes)]

    def rows(values: torch.Tensor) -> torch.Tensor:
        return values.permute(order).reshape(int(np.prod(kept)), -1)

    sign = -1 if "min" in call.name else 1
    cut, near = rows(sign * x.double()), rows(reach(tensor))
    if cut.size(1) < 2:
        return
    top = cut.topk(2, dim=1)
    gap, allowed = top.values[:, 0] - top.values[:, 1], near.gather(1, top.indices).sum(1)
    elements = rows(torch.arange(x.numel()).reshape(x.shape)).gather(1, top.indices)
    flat = x.reshape(-1)
    for row in _elements((gap > 0) & (gap <= allowed) & torch.isfinite(gap)):
        first, second = elements[row].tolist()
        yield Kink(number, 0, second, _beyond(float(flat[first]), sign * np.inf))


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
        """Which element of the input stands in each place; -1 for none."""

    def cut(self, values: torch.Tensor) -> torch.Tensor:
        """(images and channels, places of a window, windows)"""
        return self._unfold(values, -torch.inf)

    def _unfold(self, values: torch.Tensor, outside: float) -> torch.Tensor:
        images = values.double().reshape(-1, 1, *values.shape[-2:])
        padded = torch.nn.functional.pad(images, self._sides, value=outside)
        return torch.nn.functional.unfold(padded, **self._options)


def _beyond(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))


def _elements(where: torch.Tensor) -> list[int]:
    return where.reshape(-1).nonzero().reshape(-1).tolist()
