"""Compiled programs kept on disk, for the next process to find."""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxnet._utils.files import cache_folder

LIMIT = 2**28
"""Bytes that the folder may take; beyond, what was used longest ago goes first."""

_SETTINGS = {
    # JAX's default, and the value that replaces it where the user has not changed it.
    "jax_compilation_cache_max_size": (-1, LIMIT),
    # The lecture's programs compile in less than JAX's threshold of a second.
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    # A GPU's autotuning files are not counted in the limit.
    "jax_persistent_cache_enable_xla_caches": ("xla_gpu_per_fusion_autotune_cache_dir", "none"),
}

_NAMES = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", *_SETTINGS)


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
