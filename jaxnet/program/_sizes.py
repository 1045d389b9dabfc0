"""Sizes of axes that depend on the inputs': expressions as torch writes them, and their values."""

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxnet.program.data import Size

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Max": max,
    "Min": min,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda x, y: -(-x // y),
    "floor": math.floor,
    "ceiling": math.ceil,
}


def is_readable(text: str) -> bool:
    """Whether an expression holds only what `evaluate` knows."""
    try:
        evaluate(text, {name: 7 for name in list_names(text)})
    except (KeyError, TypeError, ValueError, SyntaxError):
        return False
    return True


def list_names(text: str) -> Iterator[str]:
    """The symbols in an expression."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name) and node.id not in _FUNCTIONS:
            yield node.id


def evaluate(size: Size, sizes: Mapping[str, int]) -> int | None:
    """A size as a number.

    >>> evaluate("4*s0//3", {"s0": 7}), evaluate(5, {}), evaluate("Max(1, s0)", {"s0": 7})
    (9, 5, 7)
    """
    if not isinstance(size, str):
        return size
    return int(_evaluate(ast.parse(size, mode="eval").body, sizes))


def _evaluate(node: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, sizes)
    if isinstance(node, ast.BinOp):
        parts = _evaluate(node.left, sizes), _evaluate(node.right, sizes)
        return _OPERATORS[type(node.op)](*parts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _FUNCTIONS[node.func.id](*(_evaluate(each, sizes) for each in node.args))
    raise ValueError(f"{ast.unparse(node)} is no size")
