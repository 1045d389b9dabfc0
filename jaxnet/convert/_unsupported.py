"""What has no translation, and how an object of torch's is told from one that looks like it."""

from collections.abc import Sequence
from typing import Any


class Unsupported(ValueError):
    """Something of torch's that has no exact translation; `faults` lists every such thing."""

    def __init__(self, faults: Sequence[str], supported: str = "") -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join([*self.faults, *([supported] if supported else [])]))


def torch_class(value: Any, package: str, method: str = "") -> str:
    """The class of torch's that a value is of, "" where none, or a subclass changes `method`."""
    for base in type(value).__mro__:
        if base.__module__ == package or base.__module__.startswith(package + "."):
            same = not method or getattr(type(value), method) is getattr(base, method)
            return base.__name__ if same else ""
    return ""


def check_torch(name: str, value: Any, package: str, kind: str) -> None:
    """Reject anything but an object of torch's."""
    if not torch_class(value, package):
        raise Unsupported([f"{name} must be a {kind}, not {describe(value)}"])


def describe(value: Any) -> str:
    """The class of a value with its module, as an error names it."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
