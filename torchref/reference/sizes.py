"""The size of what an operation gives: the sum of the absolute values of its terms."""

from typing import Any

import torch

from jaxnet.certificate.bounds import LEFT
from torchref.reference import operations
from torchref.reference.operations import Call, is_float, outputs
from torchref.reference.shadows import Shadows

_NEAR = 2.0**-20
"""The distance, as a share of the terms, over which a slope is taken: across a kink in reach."""


def measure(shadows: Shadows, call: Call, exact: Any, beside: Any = None) -> Any:
    """The sums of the absolute values of the terms, `beside` one that is not counted."""
    base, args = call.base, call.args
    value = call.keywords.get("value", 1)

    def magnitude(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return shadows.value(value, 0).abs() if is_float(value) else value.double().abs()
        return abs(value)

    def size(value: Any) -> Any:
        if value is beside and beside is not None:
            return 0.0
        return _sum_size(shadows, value) if is_float(value) else magnitude(value)

    def lost(*values: Any) -> Any:
        """nan where a factor has lost digits, else 0."""
        nan = [torch.isnan(shadows.size(v)) for v in values if is_float(v)]
        return sum(torch.where(where, torch.nan, 0.0) for where in nan)

    if base in ("add", "sub", "rsub"):
        return size(args[0]) + abs(call.keywords.get("alpha", 1)) * size(args[1])
    if base == "mul":
        one, other = magnitude(args[0]), magnitude(args[1])
        found = size(args[0]) * other + one * size(args[1]) - one * other
        return found + lost(*args[:2])
    if base == "div":
        return size(args[0]) / magnitude(args[1]) + lost(*args[:2])
    if base == "lerp":
        weight = magnitude(args[2])
        return size(args[0]) * abs(1 - weight) + size(args[1]) * weight
    if base == "addcmul":
        more = abs(value) * size(args[1]) * magnitude(args[2]) + lost(*args[1:3])
        return size(args[0]) + more
    if base == "addcdiv":
        more = abs(value) * size(args[1]) / magnitude(args[2]) + lost(*args[1:3])
        return size(args[0]) + more
    return _measure_linear(shadows, call, exact)


def _measure_linear(shadows: Shadows, call: Call, exact: Any) -> Any:
    if call.base in operations.PRODUCTS:
        return call.run(lambda a: _weigh(shadows, a) if is_float(a) else shadows.wide(a))
    first = call.args[0]
    if call.base in operations.SUMS or call.name in operations.LINEAR:
        return call.run(lambda a: _sum_size(shadows, a) if a is first else shadows.exactly(a))
    if call.name in operations.MERGES:
        return call.run(lambda a: shadows.size(a) if is_float(a) else shadows.wide(a))
    tensors = call.tensors()
    if len(tensors) != 1 or len(call.changed()) > 1:
        return None if exact is None else [e.abs() if is_float(e) else e for e in exact]
    return _measure_function(shadows, call, tensors[0], exact)


def _measure_function(shadows: Shadows, call: Call, tensor: torch.Tensor, exact: Any) -> Any:
    """What a function of one tensor, by element, makes of terms that canceled in it."""
    x = shadows.value(tensor, 0).clone()
    more = shadows.size(tensor) - x.abs()
    more = torch.where(torch.isinf(x), 0.0, more)  # a mask's -inf is no sum
    canceled = bool((more > 1e-9 * x.abs()).any())
    if exact is None:
        exact = outputs(call.run(lambda a: x.clone() if a is tensor else shadows.wide(a)))
    if len(exact) != 1 or exact[0].shape != x.shape:
        return [e.abs() if is_float(e) else e for e in exact]
    size = exact[0].abs()
    if canceled:  # the slope, from a difference that is small beside the terms
        sides = (_NEAR, -_NEAR) if operations.edges(call) else (_NEAR,)
        for step in sides:
            near = torch.nan_to_num(x + step * more)
            there = outputs(call.run(lambda a, near=near: near if a is tensor else shadows.wide(a)))
            slope = torch.nan_to_num((there[0] - exact[0]).abs() / _NEAR)
            size = torch.maximum(size, exact[0].abs() + slope)
    return [torch.where(torch.isnan(more), torch.nan, size)]


def _weigh(shadows: Shadows, tensor: torch.Tensor) -> torch.Tensor:
    """What a number counts for in a product: itself, or, where it is what rounding left of
    terms that canceled, these."""
    if shadows.find(tensor).plain:
        return shadows.size(tensor)
    value, size = shadows.value(tensor, 0).abs(), _sum_size(shadows, tensor)
    return torch.where(value > LEFT * size, value, size)


def _sum_size(shadows: Shadows, tensor: torch.Tensor) -> torch.Tensor:
    """The size of a term: one that has lost digits is too small to matter in a sum."""
    size = shadows.size(tensor)
    if shadows.find(tensor).plain:
        return size
    return torch.where(torch.isnan(size), shadows.value(tensor, 0).abs(), size)
