"""Compiled programs: kept in this process by what they are, and on disk for the next process."""

import dataclasses
import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jaxnet._utils.disk import LIMIT, enable, kept_programs

__all__ = ["LIMIT", "PROGRAMS", "clear", "enable", "kept_programs"]

PROGRAMS = 32
"""Programs of each kind (a run, a step, a forward) that a process keeps; the one that was used
longest ago goes first."""

_VALUES = 256  # optimizers, schedules and losses that are given out again

_forget: list[Callable[[], Any]] = []


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of a factory, equal to another by its key."""

    key: Any
    make: Callable[[], Any] = dataclasses.field(compare=False)


def _remember(most: int) -> Any:
    """What `_Call`s made, the last so many of them."""
    remembered = functools.lru_cache(most)(lambda call: call.make())
    _forget.append(remembered.cache_clear)
    return remembered


def clear() -> None:
    """Drop every program that jaxnet has compiled in this process, and what it gives out by value.

    The next call traces and compiles anew, from the code as it is then. What is kept on disk
    stays, and so does what the caller has compiled with a `jax.jit` of his own: `jax.clear_caches`
    drops that.

    >>> import jaxnet
    >>> before = jaxnet.optim.adam(lr=1e-3)
    >>> clear()
    >>> before == jaxnet.optim.adam(lr=1e-3)
    False
    """
    for forget in _forget:
        forget()


def memoize(factory: Callable) -> Callable:
    """Remember what a factory of programs made, by the value of its arguments.

    Flax modules are frozen and equal by value, their numbers as `by_value` has them. Arguments that
    cannot be hashed are not remembered; of the others the last `PROGRAMS` are.

    >>> make = memoize(lambda net: object())
    >>> make(1) is make(1), make(1) is make(1.0)
    (True, False)
    """
    remembered = _remember(PROGRAMS)

    @functools.wraps(factory)
    def call(*arguments):
        try:
            made = _Call(_spell(arguments), lambda: factory(*arguments))
            hash(made)
        except TypeError:
            return factory(*arguments)
        return remembered(made)

    return call


def _spell(value: Any) -> Any:
    """The value, or what tells it from those that compare as equal: 1.0 from 1, -0.0 from 0.0."""
    if isinstance(value, _NUMBERS):
        return _spell_number(value)
    if isinstance(value, tuple):
        return type(value), tuple(_spell(part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a Flax module is one
        hash(value)
        fields = [getattr(value, f.name) for f in dataclasses.fields(value) if f.compare]
        return type(value), tuple(_spell(field) for field in fields)
    return value


_NUMBERS = bool | int | float | complex | np.generic


def _spell_number(value: Any) -> Hashable:
    """Type and bits: a subclass may round as it prints itself."""
    if isinstance(value, int) and not isinstance(value, np.generic):
        return type(value), int.__repr__(value)
    array = np.asarray(value)
    return type(value), array.dtype.str, array.tobytes()


def is_own(function: Any) -> bool:
    """Whether a function is jaxnet's or optax's own, which read nothing that may change.

    A loss, a metric or a factory of the user's may: what it read when it was traced stays in the
    program. `jax.jit` takes functions for pure; `clear` drops what does not hold any more.
    """
    module, name = (getattr(function, key, None) or "" for key in ("__module__", "__name__"))
    if module.partition(".")[0] in ("jaxnet", "optax"):
        # A user's may bear the same name, as `functools.wraps` gives it.
        return getattr(sys.modules.get(module), name, None) is function
    return inspect.isfunction(function) and function in _given_out


def jit(function: Callable, **options: Any) -> Any:
    """`jax.jit` for a function of a module, whose programs `clear` drops too."""
    program: Any = jax.jit(function, **options)
    _forget.append(program.clear_cache)
    return program


def by_value(factory: Callable | None = None, *, arrays: bool = False) -> Any:
    """The same object for the same arguments, so that what was compiled for one serves the other.

    A function, and so an optimizer of functions, equals itself alone: two `optim.adam(lr=1e-3)`
    would each have their programs compiled. Arguments count as the same where their types and all
    their bits are. Where one is no plain value (an array, a tracer, a function that no such factory
    has made) a new object is made, as if this were not here. With `arrays`, NumPy's count as
    values, by their bytes: no one else may hold them.

    >>> scale = by_value(lambda number=1.0: (lambda x: number * x))
    >>> scale(2.0) is scale(number=2.0), scale(2.0) is scale(2)
    (True, False)
    """
    if factory is None:
        return functools.partial(by_value, arrays=arrays)
    signature = inspect.signature(factory)
    remembered = _remember(_VALUES)

    @functools.wraps(factory)
    def call(*arguments, **keywords):
        make = functools.partial(factory, *arguments, **keywords)
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError:
            return make()  # which says what is wrong
        bound.apply_defaults()
        try:
            # Tables that a schedule holds have the width that floats had when it was made.
            values = (jax.config.jax_enable_x64, *bound.arguments.items())  # pyright: ignore
            key = _as_key(values, arrays)
        except TypeError:
            key = None
        made = make() if key is None else remembered(_Call(key, make))
        parts = made if isinstance(made, tuple) else (made,)  # of an optimizer its two functions
        for function in filter(inspect.isfunction, parts):
            _calls.setdefault(function, (factory, bound.arguments))  # of two, the inner one
            if key is not None:
                _given_out.add(function)
        return made

    return call


_given_out: weakref.WeakSet[Any] = weakref.WeakSet()
_calls: weakref.WeakKeyDictionary[Any, tuple[Callable, dict[str, Any]]]
_calls = weakref.WeakKeyDictionary()


def find_call(function: Any) -> tuple[Callable, dict[str, Any]] | None:
    """The factory of `by_value` that made a function, and its arguments; None where none did.

    >>> import jaxnet
    >>> factory, arguments = find_call(jaxnet.optim.step_lr(0.5, 3))
    >>> factory.__name__, arguments["gamma"]
    ('step_lr', 0.1)
    """
    return _calls.get(function) if inspect.isfunction(function) else None


def _as_key(value: Any, arrays: bool) -> Hashable:
    """What tells plain values apart, equal ones such as 1 and 1.0 too; a TypeError for others."""
    if value is None or isinstance(value, str):
        return type(value), value
    if isinstance(value, _NUMBERS):
        return _spell_number(value)
    if isinstance(value, tuple | list):
        return type(value), *(_as_key(part, arrays) for part in value)
    if arrays and isinstance(value, np.ndarray):
        return type(value), value.dtype.str, value.shape, value.tobytes()
    if inspect.isfunction(value) and value in _given_out:
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")
