"""An operation as another library may have it, in the place of torch's."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.overrides import TorchFunctionMode


class Variant(NamedTuple):
    """An operation as another library may have it."""

    words: str
    operations: tuple[str, ...]
    """Names of the functions that it replaces."""
    change: Callable[..., Any]
    """`change(function, args, keywords)`, or NotImplemented where it does not apply."""


class Changed(TorchFunctionMode):
    """Within this a variant takes the place of its operations: of all, or of one call."""

    def __init__(self, variant: Variant, only: int | None = None) -> None:
        super().__init__()
        self._variant, self._only = variant, only
        self.calls = 0
        """How many calls the variant applied to."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: D105
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._variant.operations:
            if self._only is None or self._only == self.calls:
                result = self._variant.change(func, args, kwargs)
                if result is not NotImplemented:
                    self.calls += 1
                    return result
            else:
                self.calls += 1
        return func(*args, **kwargs)


class Called(TorchFunctionMode):
    """Notes the names of the functions that are called in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: D105
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def set_argument(
    words: str, operations: tuple[str, ...], at: int, name: str, value: Any
) -> Variant:
    """An argument has another value, by position or by name."""

    def change(function: Any, args: tuple, keywords: dict) -> Any:
        if len(args) > at:
            return function(*args[:at], value, *args[at + 1 :], **keywords)
        return function(*args, **keywords | {name: value})

    return Variant(words, operations, change)
