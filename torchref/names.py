"""The names of modules, of their calls, and of the arrays in what they take and give."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

Names = dict[int, list[str]]


def leaves(net: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers without layers of their own, each once."""
    return [layer for layer in net.modules() if not list(layer.children())]


def name_parts(value: Any) -> dict[str, Any]:
    """The arrays in tuples, lists, mappings and dataclasses by their paths, a single one under "".

    >>> import numpy as np
    >>> list(name_parts((np.ones(2), {"h": np.ones(3)}, None))), list(name_parts([np.ones(2)]))
    (['0', '1.h'], [''])
    """
    found = dict(_walk(value, ""))
    return dict(zip([""], found.values(), strict=True)) if len(found) == 1 else found


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple | list):
        parts = enumerate(value)
    elif dataclasses.is_dataclass(value):
        parts = vars(value).items()
    else:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            yield path, value
        return
    for key, part in parts:
        yield from _walk(part, f"{path}.{key}".lstrip("."))


def label(name: str, part: str) -> str:
    """The name of a part: "input[ids]", or the name itself where there is one alone."""
    return f"{name}[{part}]" if part else name


def name_outputs(name: str, output: Any) -> dict[str, Any]:
    """What a module gave, by name: the first keeps the module's, the others are "lstm[1.0]".

    Those of the net itself, whose name is "", are "[0]" and "[1]", or "" where it is one alone.
    """
    parts = name_parts(output)
    first = next(iter(parts), "")
    return {label(name, "" if name and key == first else key): p for key, p in parts.items()}


def name_arrays(output: Any) -> dict[str, np.ndarray]:
    """What a port gave, as `name_outputs` names the net's, in NumPy."""
    return {name: np.asarray(part) for name, part in name_outputs("", output).items()}


class Calls:
    """The calls of a net's modules in one forward, by name; one that runs again has "name#1"."""

    def __init__(self, net: torch.nn.Module) -> None:
        self._names: Names = {}
        for name, module in net.named_modules(remove_duplicate=False):
            self._names.setdefault(id(module), []).append(name)
        self.restart()

    def restart(self) -> None:
        """A new forward begins."""
        self._counts: dict[int, int] = {}
        self._running: list[str] = []
        self._last: Any = None

    @property
    def innermost(self) -> str:
        """The name of the module that is running, the net's own before any other."""
        return self._running[-1] if self._running else ""

    def begin(self, module: torch.nn.Module) -> None:
        """A module that is used twice under two names has one after the other."""
        own = self._names[id(module)]
        index = self._counts[id(module)] = self._counts.get(id(module), -1) + 1
        last = f"{own[-1]}#{index - len(own) + 1}"
        self._running.append(own[index] if index < len(own) else last)

    def end(self, module: torch.nn.Module, output: Any) -> dict[str, Any]:
        """What it gave, by name; nothing where a module in it has given the very same tensor."""
        named = name_outputs(self._running.pop(), output)
        only = next(iter(named.values())) if len(named) == 1 else None
        if only is not None and only is self._last and any(module.children()):
            return {}
        self._last = only
        return named


@contextmanager
def following(
    net: torch.nn.Module, begin: Callable[[Any], Any], end: Callable[[Any, Any], Any]
) -> Iterator[None]:
    """In here `begin(module)` is called before each of the net's, `end(module, output)` after."""

    def before(module: torch.nn.Module, arguments: Any) -> None:
        begin(module)

    def after(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        end(module, output)

    with ExitStack() as stack:
        for module in net.modules():
            stack.enter_context(module.register_forward_pre_hook(before))
            stack.enter_context(module.register_forward_hook(after))
        yield
