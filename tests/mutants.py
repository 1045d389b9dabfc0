"""Breaks jaxnet's code in memory, one line at a time, and mends it again."""

import ast
import copy
import gc
import importlib
import inspect
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jaxnet

ROOT = Path(jaxnet.__file__).parent.parent
ARITHMETIC = ("jaxnet/nn/", "jaxnet/losses/", "jaxnet/optim/")
"""Where mutants are drawn from."""


class Mutant(NamedTuple):
    """A change of one file: what stood there, what stands there now."""

    file: str
    line: int
    old: str
    new: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old} -> {self.new}"


@contextmanager
def planted(file: str, source: str) -> Iterator[list[str]]:
    """The functions of a module with the bodies that another source gives them; yields which.

    Methods are functions. What is defined inside a function changes with it, from its next call on:
    a closure that somebody holds already stays as it is, but for those that jaxnet remembers.
    """
    path = ROOT / file
    importlib.import_module(file.removesuffix(".py").replace("/", "."))
    before, after = _codes(path.read_text(), path), _codes(source, path)
    changed = find_changed(file, source)
    swapped, found = [], set()
    jaxnet.cache.clear()  # else an equal net would meet the programs of the healthy code
    for function in _functions(path):
        key = _find_key(function.__code__, before)
        if key in changed:
            swapped.append((function, function.__code__))
            found.add(key)
            function.__code__ = after[key]
    try:
        assert found == changed, f"{changed - found} cannot be found in memory"
        yield sorted({code.co_qualname for _, code in swapped})
    finally:
        for function, code in swapped:
            function.__code__ = code
        jaxnet.cache.clear()


def find_changed(file: str, source: str) -> "set[Key]":
    """The functions of a module whose code another source changes."""
    path = ROOT / file
    before, after = _codes(path.read_text(), path), _codes(source, path)
    return {key for key in after if key in before and not _same(before[key], after[key])}


def replaced(file: str, old: str, new: str) -> str:
    """A file's source with one place changed, which must be there once."""
    source = (ROOT / file).read_text()
    assert source.count(old) == 1, f"{file} has {old!r} {source.count(old)} times"
    return source.replace(old, new)


def _functions(path: Path) -> list[types.FunctionType]:
    gc.unfreeze()  # conftest.py freezes what is imported, and frozen objects are not listed
    found = [
        function
        for function in gc.get_objects()
        if type(function) is types.FunctionType  # isinstance would wake objects that warn
        and function.__code__.co_filename == str(path)
        and "<locals>" not in function.__code__.co_qualname
    ]
    gc.freeze()
    return found


Key = tuple[str, int]
"""A function's name, and which of that name in its file it is: lambdas share one."""


def _codes(source: str, path: Path) -> dict[Key, types.CodeType]:
    """The code of every function of a file that is not inside another one."""
    found: dict[Key, types.CodeType] = {}
    counts = Counter[str]()
    waiting = [compile(source, str(path), "exec", dont_inherit=True)]
    while waiting:
        for constant in waiting.pop().co_consts:
            if not isinstance(constant, types.CodeType) or "<locals>" in constant.co_qualname:
                continue
            waiting.append(constant)
            if constant.co_flags & inspect.CO_OPTIMIZED:  # a class's body is no function
                name = constant.co_qualname
                found[name, counts[name]] = constant
                counts[name] += 1
    return found


def _find_key(code: types.CodeType, codes: dict[Key, types.CodeType]) -> Key | None:
    """Which of a file's functions a code is; of several of one name, by its line."""
    keys = [key for key in codes if key[0] == code.co_qualname]
    if len(keys) > 1:
        keys = [key for key in keys if codes[key].co_firstlineno == code.co_firstlineno]
    assert len(keys) < 2, f"{code.co_qualname} stands twice in line {code.co_firstlineno}"
    return keys[0] if keys else None


def _same(left: types.CodeType, right: types.CodeType) -> bool:
    if (left.co_code, left.co_names) != (right.co_code, right.co_names):
        return False
    if len(left.co_consts) != len(right.co_consts):
        return False
    return all(
        _same(a, b)
        if isinstance(a, types.CodeType) and isinstance(b, types.CodeType)
        else repr(a) == repr(b)
        for a, b in zip(left.co_consts, right.co_consts, strict=True)
    )


Lines = set[tuple[str, int]]


def lines_run(call: Callable[[], object]) -> Lines:
    """The lines of jaxnet's layers, losses and optimizers that a call runs."""
    seen: Lines = set()

    def trace(frame, event, argument):
        name = frame.f_code.co_filename
        if not name.startswith(str(ROOT / "jaxnet")):
            return None
        file = str(Path(name).relative_to(ROOT))
        if not file.startswith(ARITHMETIC):
            return None
        if event == "line":
            seen.add((file, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


_OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd,
}  # fmt: skip


def mutants_of(lines: Lines) -> list[Mutant]:
    """Every change of an operator, a constant or an axis in these lines, but for checks."""
    found = []
    for file in sorted({file for file, _ in lines}):
        source = (ROOT / file).read_text()
        tree = ast.parse(source)
        for node in _arithmetic(tree):
            if (file, node.lineno) in lines:
                found += _mutations(file, source, node)
    return found


def _arithmetic(tree: ast.AST) -> Iterator[ast.expr]:
    """Operators and constants in the bodies of functions; not in checks, messages, annotations."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
            continue
        if isinstance(node, ast.FunctionDef):
            if not node.name.strip("_").startswith(("check", "post_init", "as_", "name")):
                for statement in node.body:
                    yield from _arithmetic(ast.Module([statement], []))
            continue
        if isinstance(node, ast.If) and any(isinstance(n, ast.Raise) for n in node.body):
            continue  # what a check asks
        if isinstance(node, ast.BinOp | ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield node
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            yield node
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    yield from _arithmetic(ast.Module([part], []))
            continue
        yield from _arithmetic(node)


def _mutations(file: str, source: str, node: ast.expr) -> Iterator[Mutant]:
    old = ast.get_source_segment(source, node) or ""
    for changed in _changed(node):
        new = ast.unparse(changed)
        if new != ast.unparse(node):
            before = source.splitlines(keepends=True)[: node.lineno]
            line = before.pop().encode()[: node.col_offset].decode()
            begin = len("".join(before) + line)
            text = source[:begin] + f"({new})" + source[begin + len(old) :]
            yield Mutant(file, node.lineno, old, new, text)


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield ast.Constant(not value)
        elif isinstance(value, int):
            yield ast.Constant(value + 1)
            if value:
                yield ast.Constant(value - 1)
        elif isinstance(value, float):
            yield ast.Constant(value * 1.5 if value else 1.0)
        return
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and type(changed.ops[0]) in _OPERATORS:
        changed.ops[0] = _OPERATORS[type(changed.ops[0])]()
        yield changed
    elif isinstance(changed, ast.BinOp | ast.BoolOp | ast.UnaryOp):
        if type(changed.op) in _OPERATORS:
            changed.op = _OPERATORS[type(changed.op)]()
            yield changed


def drawn(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    chooser = random.Random(seed)
    chosen = list(mutants)
    chooser.shuffle(chosen)
    seen: set[tuple[str, int, str]] = set()
    first = [m for m in chosen if (k := m[:3]) not in seen and not seen.add(k)]
    return first[:count]
