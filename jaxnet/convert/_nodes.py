"""A graph of torch.export's as a `Program`: plain data, without torch's objects."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.convert._unsupported import Unsupported
from jaxnet.program import Input, Node, Output, Program, Ref, Spec, Symbol
from jaxnet.program._sizes import is_readable, list_names
from jaxnet.program._trees import LEAF
from jaxnet.program.data import list_refs
from jaxnet.program.registry import is_random

_LEFT_OUT = {
    "device", "layout", "pin_memory", "memory_format", "non_blocking", "generator", "inplace",
}  # fmt: skip
"""Arguments that say where and how memory lies, and change no number."""

_CHECKS = ("_assert", "sym_constrain_range")
"""Beginnings of the names of operations that only check sizes; the interpreter checks its own."""


def encode_program(exported: Any, aliases: Mapping[str, str]) -> Program:
    """The graph of an `ExportedProgram`, functional, as plain data.

    Raises:
      Unsupported: an argument or a result has no translation; all such are listed.
    """
    signature = exported.graph_signature
    by_name = {node.name: node for node in exported.graph.nodes}
    faults: list[str] = []
    constants: dict[str, np.ndarray] = {}
    inputs = []
    for spec in signature.input_specs:
        each = _encode_input(spec, by_name, aliases, exported, faults)
        if each is not None and each.kind == "constant":
            values = exported.constants[each.target]
            constants[str(each.target)] = np.array(values.detach().cpu().numpy())
        inputs += [] if each is None else [each]
    nodes = [
        _encode_node(node, faults)
        for node in exported.graph.nodes
        if node.op == "call_function"
        and not _name_op(node.target).split(".")[1].startswith(_CHECKS)
    ]
    outputs = _encode_outputs(exported, aliases, faults)
    if faults:
        raise Unsupported(faults)
    used = _find_used(nodes, outputs)
    return Program(
        inputs=tuple(inputs),
        nodes=tuple(node for node in nodes if node.name in used),
        outputs=tuple(outputs),
        in_tree=_encode_tree(exported.call_spec.in_spec),
        out_tree=_encode_tree(exported.call_spec.out_spec),
        symbols=_encode_symbols(exported),
        constants=constants,
    )


def _name_op(target: Any) -> str:
    """`aten.conv2d.default`, or `sym.mul` for Python's own."""
    text = str(target)
    if re.fullmatch(r"\w+\.\w+\.\w+", text) and not text.startswith("aten.sym_"):
        return text
    name = getattr(target, "__name__", text).split(".")[0]
    return f"sym.{name}"


def _encode_input(
    spec: Any, by_name: Mapping[str, Any], aliases: Mapping[str, str], exported: Any, faults: Any
) -> Input | None:
    kind, argument, target = spec.kind.name, spec.arg, spec.target
    if kind == "USER_INPUT":
        value = by_name[argument.name].meta.get("val")
        tensor = _encode_spec(value)
        plain = None if tensor else getattr(argument, "value", value)
        if tensor is None and not isinstance(plain, int | float | bool | str | None):
            faults.append(f"input {argument.name!r} is a {type(plain).__name__}: give a tensor")
        return Input(argument.name, "user", None, tensor, plain)
    tensor = _encode_spec(by_name[argument.name].meta.get("val"))
    if kind == "PARAMETER" or (kind == "BUFFER" and target in exported.state_dict):
        return Input(argument.name, "tensor", aliases.get(target, target), tensor)
    if kind in ("BUFFER", "CONSTANT_TENSOR"):
        outputs = exported.graph_signature.output_specs
        if target in {each.target for each in outputs if each.kind.name == "BUFFER_MUTATION"}:
            return Input(argument.name, "tensor", aliases.get(target, target), tensor)
        return Input(argument.name, "constant", target, tensor)
    faults.append(f"the net holds {target!r}, a {kind.lower()}, which has no translation")
    return None


def _encode_spec(value: Any) -> Spec | None:
    """Shape and dtype of a tensor; None of anything else."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return None
    return Spec(tuple(map(_encode_size, value.shape)), _name_dtype(value.dtype))


def _encode_size(size: Any) -> int | str | None:
    if isinstance(size, int):
        return size
    text = str(size.node.expr)
    return text if is_readable(text) else None


def _name_dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _encode_node(node: Any, faults: list[str]) -> Node:
    op = _name_op(node.target)
    value = node.meta.get("val")
    several = isinstance(value, tuple | list)
    result = tuple(map(_encode_spec, value)) if several else _encode_spec(value)
    where = find_line(node.meta.get("stack_trace") or "")
    made = Node(node.name, op, (), (), result, (), *_find_module(node), *where)
    said = "gives a size that depends on values, as no graph may"
    if any(map(_is_unknown, _list_sizes(result))) and said not in " ".join(faults):
        faults.append(f"{op} in {made.place} {said}")
    try:
        args, kwargs = _encode_arguments(node)
    except TypeError as error:
        faults.append(f"{op} takes {error}, in {made.place}")
        return made
    return dataclasses.replace(made, args=args, kwargs=kwargs)


def _list_sizes(result: Any) -> Iterator[Any]:
    for spec in result if isinstance(result, tuple) else (result,):
        yield from () if spec is None else spec.shape


def _is_unknown(size: Any) -> bool:
    """Whether a size is, or is made of, one that torch.export calls unbacked."""
    return isinstance(size, str) and any(name.startswith("u") for name in list_names(size))


def _encode_arguments(node: Any) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """Arguments by position and by name, without those that say how memory lies."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else []
    args, kwargs = [], []
    skipped = False
    for number, arg in enumerate(node.args):
        name = names[number] if number < len(names) else ""
        if name in _LEFT_OUT:
            skipped = True
        elif skipped:
            kwargs.append((name, _encode(arg)))
        else:
            args.append(_encode(arg))
    kwargs += [(name, _encode(arg)) for name, arg in node.kwargs.items() if name not in _LEFT_OUT]
    return tuple(args), tuple(kwargs)


def _encode(arg: Any) -> Any:
    """An argument as plain data; a TypeError for what has none."""
    if hasattr(arg, "op") and hasattr(arg, "graph"):
        return Ref(arg.name)
    if isinstance(arg, tuple | list):
        return tuple(map(_encode, arg))
    if isinstance(arg, bool | int | float | str | None):
        return arg
    if type(arg).__name__ == "dtype":
        return _name_dtype(arg)
    if type(arg).__name__ in ("device", "layout", "memory_format"):
        return None
    raise TypeError(f"{arg!r:.60}, a {type(arg).__name__}, which has no translation")


def _encode_outputs(exported: Any, aliases: Mapping[str, str], faults: list[str]) -> list[Output]:
    last = next(node for node in exported.graph.nodes if node.op == "output")
    outputs = []
    for spec, value in zip(exported.graph_signature.output_specs, last.args[0], strict=True):
        kind = spec.kind.name
        if kind == "USER_OUTPUT":
            outputs.append(Output(_encode(value)))
        elif kind == "BUFFER_MUTATION":
            outputs.append(Output(_encode(value), aliases.get(spec.target, spec.target)))
        else:
            what = "its input" if "INPUT" in kind else "the parameter"
            faults.append(
                f"the net changes {what} {spec.target!r} in place, which has no translation: let "
                "it work on a copy, x.clone()"
            )
    return outputs


def _find_used(nodes: list[Node], outputs: list[Output]) -> set[str]:
    """The nodes that outputs depend on, and those that draw: the stream goes on past these."""
    used = {name for output in outputs for name in list_refs(output.value)}
    for node in reversed(nodes):
        if node.name in used or is_random(node.op):
            used.add(node.name)
            used.update(list_refs(node.args), list_refs([value for _, value in node.kwargs]))
    return used


def _encode_tree(spec: Any) -> Any:
    """How a call's arguments or results are nested."""
    if spec.is_leaf():
        return LEAF
    kind, parts = spec.type, [_encode_tree(child) for child in spec.children()]
    if kind in (tuple, list):
        return kind(parts)
    context = spec.context
    names = getattr(context, "_fields", None) or getattr(kind, "_fields", None)
    if kind.__name__ == "namedtuple" or (names and issubclass(kind, tuple)):
        return tuple(parts)
    keys = context if isinstance(context, list | tuple) else ()
    while keys and isinstance(keys[0], list | tuple):  # of a subclass of dict, beside its class
        keys = keys[0]
    if len(keys) == len(parts):
        return dict(zip(map(str, keys), parts, strict=True))
    raise Unsupported([f"inputs or outputs are nested in a {kind.__name__}: use tuples or dicts"])


def _encode_symbols(exported: Any) -> tuple[Symbol, ...]:
    found = []
    for name, limits in exported.range_constraints.items():
        most = int(limits.upper) if limits.upper.is_integer and limits.upper < 2**31 else None
        if str(name).startswith("s"):
            found.append(Symbol(str(name), most))
    return tuple(found)


def _find_module(node: Any) -> tuple[str, str, int]:
    """The innermost module that a node stands in, its class, and which call of it."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", "", 0
    key, (path, kind) = list(stack.items())[-1]
    name = kind if isinstance(kind, str) else kind.__name__
    path, _, again = path.partition("@")
    number = key.rpartition("@")[2] if "@" in key else again
    return path, name.rpartition(".")[2], int(number) if number.isdecimal() else 0


_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \S+\n\s*(.*)')


def find_line(trace: str) -> tuple[str, str]:
    """The innermost line outside torch, relative to its package, and what stands there."""
    frames = _FRAME.findall(trace)
    outside = [frame for frame in frames if not is_torch(frame[0])]
    if not frames:
        return "", ""
    path, line, code = (outside or frames)[-1]
    return f"{shorten(path)}:{line}", code.strip()


def is_torch(path: str) -> bool:
    """Whether a file is torch's own."""
    return "/torch/" in path.replace("\\", "/")


def shorten(path: str) -> str:
    """A file's path from its package on; of a script its name.

    >>> shorten("/somewhere/else/script.py")
    'script.py'
    """
    file = Path(path)
    parts = [file.name]
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.append(folder.name)
    return "/".join(reversed(parts))
