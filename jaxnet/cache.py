"""Compiled programs: kept in this process by what they are, and on disk for the next process."""

import dataclasses
import functools
import hashlib
import inspect
import os
import platform
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from jaxnet._utils.calls import note_call
from jaxnet._utils.files import cache_folder

__all__ = ["LIMIT", "PROGRAMS", "clear", "enable", "kept_programs"]

LIMIT = 2**28
"""Bytes that the folder may take; beyond, what was used longest ago goes first."""

PROGRAMS = 32
"""Programs of each kind (a run, a step, a forward) that a process keeps; the one that was used
longest ago goes first."""

_VALUES = 256  # optimizers, schedules and losses that are given out again

_SETTINGS = {
    # JAX's default, and the value that replaces it where the user has not changed it.
    "jax_compilation_cache_max_size": (-1, LIMIT),
    # The lecture's programs compile in less than JAX's threshold of a second.
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    # A GPU's autotuning files are not counted in the limit.
    "jax_persistent_cache_enable_xla_caches": ("xla_gpu_per_fusion_autotune_cache_dir", "none"),
}

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
        note_call(parts, factory, bound.arguments)
        if key is not None:
            _given_out.update(filter(inspect.isfunction, parts))
        return made

    return call


_given_out: weakref.WeakSet[Any] = weakref.WeakSet()


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


def enable(folder: str | os.PathLike | None = None) -> str:
    """From here on keep what this process compiles on disk, for the next process to find.

    Args:
      folder: where; None takes JAX's own where that is set (`JAX_COMPILATION_CACHE_DIR`), else
        `jaxnet/programs` in the user's cache. Programs are in a folder below it that is named after
        the processor, since they are machine code for this kind of processor alone.

    Returns:
      The folder of the programs, at most `LIMIT` bytes.

    Raises:
      TypeError, ValueError, OSError: `folder` is no path of this machine's, or cannot be made or
        written.

    JAX's own `jax_compilation_cache_dir` keeps only what took a second to compile, unless told
    otherwise. torch has the like for `torch.compile`, switched on by default.

    >>> import tempfile
    >>> before = {name: getattr(jax.config, name) for name in _NAMES}
    >>> kept = enable(tempfile.mkdtemp())
    >>> kept == jax.config.jax_compilation_cache_dir
    True
    >>> _set(before)
    """
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"folder must be a str or os.PathLike, not {folder!r}")
    if folder is not None and ("://" in str(folder) or "\0" in str(folder)):
        raise ValueError(f"folder must be a path of this machine's, not {str(folder)!r}")
    own = jax.config.jax_compilation_cache_dir  # pyright: ignore
    if folder is None and own:
        place = own
    else:
        above = cache_folder() / "programs" if folder is None else Path(folder).expanduser()
        place = str(_make_folder(above))
    _set({"jax_enable_compilation_cache": True, **_settings(place)})
    return place


@contextmanager
def kept_programs(keep: bool = True) -> Iterator[str | None]:
    """What is compiled in here is kept for other processes, small programs too; gives the folder.

    The folder is that of `enable`; where the user has set JAX's own, that decides everything. It
    is None where `keep` is False, JAX's cache is switched off, or nothing can be written there:
    then programs are compiled anew, and none is kept.
    """
    config: Any = jax.config
    own = config.jax_compilation_cache_dir
    folder = None
    if keep and config.jax_enable_compilation_cache:
        with suppress(OSError, RuntimeError):  # no home, for one
            folder = own or str(_make_folder(cache_folder() / "programs"))
    if folder is None:
        settings: dict[str, Any] = {"jax_enable_compilation_cache": False}
    else:
        settings = {} if own else _settings(folder)
    before = {name: getattr(config, name) for name in settings}
    try:
        _set(settings)
        yield folder
    finally:
        _set(before)


_NAMES = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", *_SETTINGS)


def _settings(folder: str) -> dict[str, Any]:
    """What JAX is told, but for what the user has told it already."""
    settings: dict[str, Any] = {"jax_compilation_cache_dir": folder}
    for name, (default, ours) in _SETTINGS.items():
        if getattr(jax.config, name) == default:
            settings[name] = ours
    return settings


def _make_folder(above: Path) -> Path:
    """A folder for this processor's programs, made and cleared of what confuses JAX."""
    folder = above / name_target()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"folder must be one that can be made, not {above}: {error}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"folder must be one that can be written, not {above}")
    # A process that was killed between a program and its time of use leaves JAX confused.
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
            program.unlink(missing_ok=True)
    return folder


def name_target() -> str:
    """A name for this kind of processor, `x86_64-3f9c01d2`, which JAX's own keys leave out."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    except OSError:  # not Linux
        lines = [platform.processor()]
    kind = hashlib.sha256(" ".join(sorted(" ".join(lines[:1]).split())).encode()).hexdigest()
    return f"{platform.machine()}-{kind[:8]}"


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        compilation_cache.reset_cache()  # JAX reads them once, when it first compiles
