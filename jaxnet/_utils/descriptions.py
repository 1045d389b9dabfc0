"""What a run is, in words: settings as nested dictionaries that JSON can hold.

Of a function the name, the values that it closes over and, where it is the user's own, its source
and the globals that it reads; of a factory of `cache.by_value` its arguments; of a dataclass, a net
among them, its fields. Nothing depends on the process: no address, path or number of a line, and
of libraries no private module, which the next version may rename.
"""

import argparse
import dataclasses
import enum
import functools
import inspect
import math
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.core
import numpy as np

from jaxnet._utils.digests import as_words, digest_array
from jaxnet._utils.processes import fetch
from jaxnet._utils.sources import has_source, is_library, list_names, read_source
from jaxnet.cache import find_call

KIND = ""
"""The key of what a thing is, beside those of its settings."""
_SOURCE = "source code"  # no setting of Python's can have such a name
_FEW = 8  # numbers of an array that is shown in full
_SPACES = argparse.Namespace | types.SimpleNamespace | types.ModuleType


def describe(value: Any) -> Any:
    """A setting in words.

    >>> import jaxnet
    >>> describe(jaxnet.optim.sgd(0.5))["lr"], describe(jaxnet.losses.mse_loss)
    (0.5, 'jaxnet.mse_loss')
    >>> describe(functools.partial(math.pow, 3))
    {'': 'math.pow', '0': 3}
    """
    return _Reader().read(value)


class _Reader:
    """One description: what it is in, and what it has described already."""

    def __init__(self):
        self._around: dict[int, Any] = {}
        self._told: dict[int, Any] = {}

    def read(self, value: Any) -> Any:
        """A value in words."""
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if isinstance(value, int | float) and not isinstance(value, enum.Enum):
            plain = int(value) if isinstance(value, int) else float(value)
            return plain if math.isfinite(plain) else str(plain)
        if isinstance(value, np.generic | np.ndarray | jax.Array) and not _is_traced(value):
            return _describe_array(value)
        if isinstance(value, np.dtype | jax.ShapeDtypeStruct | enum.Enum | bytes | complex | range):
            return str(value)
        if type(value) is object:  # a sentinel
            return "object"
        if id(value) in self._around:
            return f"{_name(value)}, in itself"
        self._around[id(value)] = value
        found = self._read_parts(value)
        del self._around[id(value)]
        # What has no settings is its name.
        return found[KIND] if isinstance(found, dict) and [*found] == [KIND] else found

    def _read_parts(self, value: Any) -> Any:
        """What is made of other things."""
        if isinstance(value, Mapping):
            return {str(self.read(key)): self.read(part) for key, part in value.items()}
        if isinstance(value, set | frozenset):
            return sorted((self.read(part) for part in value), key=str)
        if isinstance(value, tuple) and hasattr(value, "update") and hasattr(value, "init"):
            return self._read_optimizer(value)
        if isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
            fields = dict(zip(names, value, strict=True))
            return {KIND: _name(type(value)), **self._read_all(fields)}
        if isinstance(value, list | tuple):
            return [self.read(part) for part in value]
        if isinstance(value, functools.partial):
            bound = {str(number): part for number, part in enumerate(value.args)} | value.keywords
            return self._read_whole(value.func) | self._read_all(bound)
        if inspect.ismethod(value):
            return self._read_whole(value.__func__) | {"self": self._read_object(value.__self__)}
        if inspect.isfunction(value):
            return self._read_function(value)
        if isinstance(value, type):
            return self._read_class(value)
        if _is_public(value) or isinstance(value, types.BuiltinFunctionType | types.ModuleType):
            return _name(value)
        if callable(getattr(value, "__wrapped__", None)):  # of `jax.jit`, for one
            return self.read(value.__wrapped__)
        known = (
            callable(value) or isinstance(value, _SPACES) or not is_library(type(value).__module__)
        )
        if known or dataclasses.is_dataclass(value):
            return self._read_object(value)
        return f"an object of {_name(type(value))}"

    def _read_whole(self, value: Any) -> dict[str, Any]:
        found = self.read(value)
        return found if isinstance(found, dict) else {KIND: found}

    def _read_all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # An option that a later version adds is None where nobody has set it.
        return {name: self.read(value) for name, value in values.items() if value is not None}

    def _read_optimizer(self, value: Any) -> Any:
        """What `optax` calls a transformation; those of a chain by their number."""
        init, update = (_list_cells(function) for function in (value.init, value.update))
        if find_call(value.update):
            return self.read(value.update)
        if [*update] == ["tx"]:  # of `optax.with_extra_args_support`
            return self.read(update["tx"])
        if "init_fns" in init and "update_fns" in update:
            parts = map(type(value), init["init_fns"], update["update_fns"])
            whole = {str(number): part for number, part in enumerate(parts)}
            return {KIND: "optax.chain", **self._read_all(whole)}
        found = self._read_whole(value.init) | self._read_whole(value.update)
        return found | {KIND: _name(value.update).rpartition(".")[0]}

    def _read_function(self, function: Any) -> Any:
        name = _name(function)
        if call := find_call(function):
            return {KIND: _name(call[0]), **self._read_all(call[1])}
        if _is_public(function) or id(function) in self._told:
            return name
        module, cells = function.__globals__.get("__name__"), _list_cells(function)
        if hasattr(function, "__wrapped__") and _is_check(function, module):
            return self.read(function.__wrapped__)
        if is_library(module):
            return {KIND: name, **self._read_all(cells)}
        if not cells:
            self._told[id(function)] = function
        found = {KIND: name, _SOURCE: read_source(function)}
        return found | self._read_all(cells | _list_defaults(function)) | self._read_outer(function)

    def _read_outer(self, function: Any) -> dict[str, Any]:
        """The globals that a function reads; of a module or a namespace what it reads of it."""
        found: dict[str, Any] = {}
        for name in list_names(function.__code__, "LOAD_GLOBAL"):
            value = function.__globals__.get(name, _Reader)
            if isinstance(value, _SPACES):
                if isinstance(value, types.ModuleType) and is_library(value.__name__):
                    continue
                read = list_names(function.__code__, "LOAD_ATTR", "LOAD_METHOD")
                value = {attr: vars(value)[attr] for attr in read if attr in vars(value)}
            if value is not _Reader:
                found[name] = self.read(value)
        return found

    def _read_class(self, value: type) -> Any:
        """The source of a user's class, with what its methods read elsewhere."""
        if is_library(value.__module__) or id(value) in self._told:
            return _name(value)
        self._told[id(value)] = value
        found = {KIND: _name(value), _SOURCE: read_source(value)}
        for part in map(inspect.unwrap, filter(inspect.isfunction, vars(value).values())):
            if not is_library(part.__globals__.get("__name__")):
                found |= self._read_all(_list_cells(part)) | self._read_outer(part)
        bases = [self.read(base) for base in value.__bases__ if not is_library(base.__module__)]
        return found | ({"bases": bases} if bases else {})

    def _read_object(self, value: Any) -> Any:
        """The fields of a dataclass, or the attributes of another object."""
        if isinstance(value, type):
            return self._read_class(value)
        values = {
            name: getattr(value, name)
            for kind in reversed(type(value).__mro__)
            if "__slots__" in vars(kind)
            for name, slot in vars(kind).items()
            if isinstance(slot, types.MemberDescriptorType) and hasattr(value, name)
        } | getattr(value, "__dict__", {})
        if dataclasses.is_dataclass(value):
            # Not of a net what it is a part of.
            names = [f.name for f in dataclasses.fields(value) if f.repr or f.name != "parent"]
            values = {name: getattr(value, name, None) for name in names}
        return self._read_whole(type(value)) | self._read_all(values)


def _name(thing: Any) -> str:
    """The name of a function or class: of a library its first part, without the inner modules."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if name is None:
        return _name(type(thing))
    module = getattr(thing, "__module__", None) or ""
    if isinstance(thing, types.ModuleType):
        module, name = name, ""
    module = module.partition(".")[0] if is_library(module) else module
    return f"{module}.{name}".strip(".").replace("<locals>.", "")


def _is_public(value: Any) -> bool:
    """Whether it is a library's own, which its name alone tells apart."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if module is None or name is None or not is_library(module):
        return False
    return getattr(sys.modules.get(module), name, None) is value


def _is_check(function: Any, module: str | None) -> bool:
    """Whether a function that wraps another adds no settings, as one that checks types."""
    if is_library(module):
        return (module or "").partition(".")[0] not in ("jax", "optax", "flax")
    return not has_source(function)


def _list_cells(function: Any) -> dict[str, Any]:
    """The values that a function closes over, by their names."""
    function = getattr(function, "__func__", function)
    if not inspect.isfunction(function):
        return {}
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _list_defaults(function: Any) -> dict[str, Any]:
    """Arguments of a function that have a default value."""
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _describe_array(values: Any) -> str:
    array = fetch(as_words(values))
    if array.size > _FEW:
        return f"{array.dtype} {array.shape}, SHA-256 {digest_array(array)}"
    numbers = " ".join(map(str, array.ravel()))
    return f"{array.dtype} {numbers}" if array.ndim == 0 else f"{array.dtype} [{numbers}]"
