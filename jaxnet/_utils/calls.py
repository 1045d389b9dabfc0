"""Which call made a function: of `cache.by_value`, whose arguments are a function's settings."""

import inspect
import weakref
from collections.abc import Callable, Iterable
from typing import Any

_calls: weakref.WeakKeyDictionary[Any, tuple[Callable, dict[str, Any]]]
_calls = weakref.WeakKeyDictionary()


def note_call(made: Iterable[Any], factory: Callable, arguments: dict[str, Any]) -> None:
    """Keep in mind what made these functions; of a call inside another, the inner one."""
    for function in filter(inspect.isfunction, made):
        _calls.setdefault(function, (factory, arguments))


def find_call(function: Any) -> tuple[Callable, dict[str, Any]] | None:
    """The factory that made a function, and its arguments; None where nothing is known.

    >>> import jaxnet
    >>> factory, arguments = find_call(jaxnet.optim.step_lr(0.5, 3))
    >>> factory.__name__, arguments["gamma"]
    ('step_lr', 0.1)
    """
    return _calls.get(function) if inspect.isfunction(function) else None
