"""Programs as JSON, and back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnet.program._trees import LEAF
from jaxnet.program.data import Input, Node, Output, Port, Program, Ref, Spec, Symbol, Tensor

VERSION = 1
FORMAT = "jaxnet.program"


def encode_port(port: Port) -> dict[str, Any]:
    """A port as JSON has it, without its arrays."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "checked": port.checked,
        "aliases": [list(pair) for pair in port.aliases],
        "tensors": [_encode_fields(each) for each in port.tensors],
        "train": _encode_program(port.train),
        "evaluate": _encode_program(port.evaluate),
        "others": [[_encode_program(program) for program in pair] for pair in port.others],
    }


def name_programs(port: Port) -> dict[str, Program]:
    """Each program under the name that its constants have."""
    named: dict[str, Program] = {}
    for number, pair in enumerate(((port.train, port.evaluate), *port.others)):
        named |= dict(zip(_name_pair(number), pair, strict=True))
    return named


def _name_pair(number: int) -> tuple[str, str]:
    """Of the first pair "train" and "evaluate", of the next "train1" and "evaluate1"."""
    return f"train{number or ''}", f"evaluate{number or ''}"


def decode_port(
    text: Any, constants: Mapping[str, Mapping[str, np.ndarray]], start: Mapping[str, Any]
) -> Port:
    """The way back.

    Args:
      text: what `encode_port` gave, as JSON has it.
      constants: of each program, under its name.
      start: the tensors.

    Raises:
      ValueError, KeyError, TypeError: the text is nothing of the kind.
    """
    if not isinstance(text, Mapping) or text.get("format") != FORMAT:
        raise ValueError(f"it must be of the format {FORMAT!r}")
    if text.get("version") != VERSION:
        raise ValueError(f"it has version {text.get('version')!r}, this jaxnet reads {VERSION}")
    (train, evaluate), *others = (
        [
            _decode_program(each, constants.get(name, {}))
            for name, each in zip(_name_pair(number), pair, strict=True)
        ]
        for number, pair in enumerate([(text["train"], text["evaluate"]), *text.get("others", ())])
    )
    tensors = tuple(Tensor(**_decode_fields(each)) for each in text["tensors"])
    start = {each.name: start[each.name] for each in tensors}
    aliases = tuple((str(name), str(first)) for name, first in text["aliases"])
    checked = bool(text["checked"])
    pairs = tuple((one, other) for one, other in others)
    return Port(train, evaluate, tensors, aliases, checked, start, pairs)


_PARTS = {"inputs": Input, "nodes": Node, "outputs": Output, "symbols": Symbol}


def _encode_program(program: Program) -> dict[str, Any]:
    return {
        **{part: [_encode_fields(each) for each in getattr(program, part)] for part in _PARTS},
        "layers": [list(pair) for pair in program.layers],
        "in_tree": _encode_tree(program.in_tree),
        "out_tree": _encode_tree(program.out_tree),
        "constants": sorted(program.constants),
        "digest": program.digest,
    }


def _decode_program(text: Mapping[str, Any], constants: Mapping[str, np.ndarray]) -> Program:
    if sorted(constants) != text["constants"]:
        raise ValueError(f"it needs the constants {text['constants']}, not {sorted(constants)}")
    parts = {
        part: tuple(kind(**_decode_fields(each)) for each in text[part])
        for part, kind in _PARTS.items()
    }
    program = Program(
        **parts,
        in_tree=_decode_tree(text["in_tree"]),
        out_tree=_decode_tree(text["out_tree"]),
        layers=tuple((str(name), str(value)) for name, value in text["layers"]),
        constants=constants,
    )
    if program.digest != text["digest"]:
        raise ValueError("its program is not the one that was saved")
    return program


def _encode_fields(each: Any) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    return {
        field.name: _encode(value)
        for field in dataclasses.fields(each)
        if (value := getattr(each, field.name)) != field.default or value is False
    }


def _decode_fields(text: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _decode(value) for name, value in text.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, Spec):
        return {"spec": [value.dtype, *value.shape]}
    if isinstance(value, tuple | list):
        return [_encode(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(part) for part in value)
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "ref":
        return Ref(content)
    if kind == "float":
        return float(content)
    if kind != "spec":
        raise ValueError(f"it has a {kind!r}, which is unknown")
    dtype, *shape = content
    return Spec(tuple(shape), str(np.dtype(dtype) if dtype != "bfloat16" else dtype))


def _encode_tree(tree: Any) -> Any:
    if tree == LEAF:
        return LEAF
    if isinstance(tree, dict):
        return {"dict": [[key, _encode_tree(below)] for key, below in tree.items()]}
    return {type(tree).__name__: [_encode_tree(below) for below in tree]}


def _decode_tree(text: Any) -> Any:
    if text == LEAF:
        return LEAF
    ((kind, content),) = text.items()
    if kind == "dict":
        return {key: _decode_tree(below) for key, below in content}
    return {"tuple": tuple, "list": list}[kind](_decode_tree(below) for below in content)
