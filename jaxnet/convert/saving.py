"""Ported nets as files: the graphs as JSON, the arrays beside them, read without torch."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict

from jaxnet._utils.files import as_path, write_whole
from jaxnet._utils.validation import check_mapping
from jaxnet.nn import Variables
from jaxnet.program import TorchNet
from jaxnet.program._files import decode_port, encode_port, name_programs
from jaxnet.program.net import start_variables
from jaxnet.program.run import list_missing


def save(path: str | os.PathLike, net: TorchNet, variables: Variables) -> None:
    """Write a ported net and its variables: `path.json` and `path.safetensors`.

    Each file appears whole or not at all; the JSON, which comes last, names the arrays' digest.
    Nothing is pickled.

    Args:
      path: where, without an ending.
      net: of `from_torch(net, x)`.
      variables: what it is applied to, trained or not.

    Raises:
      TypeError: `net` is another module, or the variables are no arrays.
      ValueError: the variables are not this net's.
      OSError: the files cannot be written.

    torch has `torch.export.save`, whose file torch reads.
    """
    if not isinstance(net, TorchNet):
        raise TypeError(
            f"net must be a TorchNet, as from_torch(net, x) gives it, not {type(net).__name__}"
        )
    check_mapping("variables", variables, "collections")
    port = net.port
    arrays = {}
    for each in port.tensors:
        flat: dict[str, Any] = dict(flatten_dict(variables.get(each.collection, {}), sep="."))
        if each.name not in flat or np.shape(flat[each.name]) != each.spec.shape:
            found = f"shape {np.shape(flat[each.name])}" if each.name in flat else "nothing"
            said = f"variables must have {each.name!r} in {each.collection!r}, {each.spec}"
            raise ValueError(f"{said}, not {found}")
        arrays[f"tensors/{each.name}"] = np.array(flat[each.name], order="C")
    for name, program in name_programs(port).items():
        for key, array in program.constants.items():
            arrays[f"{name}/{key}"] = np.array(array, order="C")
    content = safetensors.numpy.save(arrays)
    text = encode_port(port) | {"arrays": hashlib.sha256(content).hexdigest()}
    write_whole(_add(path, ".safetensors"), content)
    write_whole(_add(path, ".json"), json.dumps(text, indent=1, allow_nan=False) + "\n")


def load(path: str | os.PathLike) -> tuple[TorchNet, Variables]:
    """Read what `save` wrote: the net, and its variables. torch is not needed.

    Raises:
      ValueError: a file is damaged, was not written by `save`, does not belong to the other, or
        has an operation that no rule computes here.
      OSError: a file cannot be read.
    """
    place = _add(path, ".json")
    content = _add(path, ".safetensors").read_bytes()
    try:
        text = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{place} is damaged, or no JSON: {error}") from error
    digest = text.get("arrays") if isinstance(text, Mapping) else None
    if digest != hashlib.sha256(content).hexdigest() and digest is not None:
        raise ValueError(
            f"{_add(path, '.safetensors')} is damaged, or belongs to another net than {place.name}"
        )
    try:
        arrays = safetensors.numpy.load(content)
        parts: dict[str, dict[str, Any]] = {"tensors": {}, "train": {}, "evaluate": {}}
        for name, array in arrays.items():
            kind, _, key = name.partition("/")
            parts.setdefault(kind, {})[key] = array
        port = decode_port(text, parts, parts["tensors"])
        if missing := {each.name for each in port.tensors} ^ parts["tensors"].keys():
            raise ValueError(f"its tensors do not fit: {sorted(missing)}")
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{place} is damaged, or was not written by save: {said}") from error
    nodes = [node for each in name_programs(port).values() for node in list_missing(each)]
    if nodes:
        names = ", ".join(sorted({node.op for node in nodes}))
        raise ValueError(
            f"{place} has operations that no rule computes here: {names}; register them with "
            "@jaxnet.program.rule before it is loaded"
        )
    return TorchNet(port), start_variables(port)


def _add(path: Any, ending: str) -> Path:
    place = as_path(path)
    return place.with_name(place.name + ending)
