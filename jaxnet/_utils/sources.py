"""The source of functions and classes, as it may be compared in another process."""

import ast
import dis
import functools
import inspect
import sys
from types import CodeType
from typing import Any

_OWN = __name__.partition(".")[0]


@functools.lru_cache(512)
def is_library(module: str | None) -> bool:
    """Whether a module is Python's, jaxnet's or an installed package's: not the user's own.

    >>> is_library("math"), is_library("jaxnet.losses"), is_library("my_script")
    (True, True, False)
    """
    root = (module or "").partition(".")[0]
    if root in sys.stdlib_module_names or root == _OWN:
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def has_source(function: Any) -> bool:
    """Whether a function stands in a file, or a cell, that can be read."""
    try:
        return bool(inspect.findsource(function))
    except (OSError, TypeError):
        return False


def read_source(thing: Any) -> str:
    """The source of a function or class without comments and docstrings.

    Where there is none, as of what `exec` made, the constants and names of a function's code.

    >>> read_source(lambda x: (x + 1))  # a comment
    'lambda x: x + 1'
    """
    code = getattr(thing, "__code__", None)
    try:
        lines, number = inspect.findsource(thing)
        nodes = _list_nodes("".join(lines))
    except (OSError, TypeError, SyntaxError):
        nodes, number = [], 0
    place = (number + 1, thing.__name__) if code is None else (code.co_firstlineno, code.co_name)
    found = [node for line, name, node in nodes if (line, name) == place]
    if code is not None and len(found) > 1:  # lambdas of one line
        spans = {*code.co_positions()}
        found = [node for node in found if _find_span(node) in spans] or found
    texts = [ast.unparse(node) for node in found]
    if code is not None and len(texts) != 1:
        texts.append(_list_constants(code))
    return "\n".join(texts)


def _find_span(node: Any) -> Any:
    """Where the body of a lambda is, as its code has it of the last instruction."""
    body = node.body
    return body.lineno, body.end_lineno, body.col_offset, body.end_col_offset


@functools.lru_cache(16)
def _list_nodes(source: str) -> list[tuple[int, str, ast.AST]]:
    """Line, name and node of each function and class of a file."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # pyright: ignore
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            line = min(part.lineno for part in (node, *node.decorator_list))
            found.append((line, node.name, node))
        elif isinstance(node, ast.Lambda):
            found.append((node.lineno, "<lambda>", node))
    return found


def _is_text(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _list_constants(code: CodeType) -> str:
    kept = [value for value in code.co_consts if not isinstance(value, CodeType | frozenset)]
    inner = [_list_constants(value) for value in code.co_consts if isinstance(value, CodeType)]
    return "\n".join([f"constants {kept}", f"names {[*code.co_names]}", *inner])


def list_names(code: CodeType, *operations: str) -> list[str]:
    """The names that a code and those inside it use in these operations.

    >>> list_names((lambda: math.pi).__code__, "LOAD_GLOBAL")
    ['math']
    """
    found = {i.argval for i in dis.get_instructions(code) if i.opname in operations}
    inner = [value for value in code.co_consts if isinstance(value, CodeType)]
    return sorted(found.union(*(list_names(value, *operations) for value in inner)))
