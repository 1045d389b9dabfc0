"""Compiled programs kept on disk, so that the next process need not compile them again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxnet.files import cache_folder

LIMIT = 2**28
"""Bytes that the folder may take; beyond, what was used longest ago goes first."""

_SETTINGS = {
    # What JAX says by default, and what is said here where that still stands.
    "jax_compilation_cache_max_size": (-1, LIMIT),
    # The lecture's programs compile in less than JAX's threshold of a second.
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    # A GPU's autotuning files are not counted in the limit.
    "jax_persistent_cache_enable_xla_caches": ("xla_gpu_per_fusion_autotune_cache_dir", "none"),
}


@contextmanager
def kept_programs(keep: bool = True) -> Iterator[str | None]:
    """What is compiled in here is kept for other processes, small programs too; gives the folder.

    The folder is `jaxnet/programs` in the user's cache, or JAX's own where the user has set that
    (`JAX_COMPILATION_CACHE_DIR`), which then decides everything. It is None where `keep` is False,
    JAX's cache is switched off, or nothing can be written there: then programs are compiled anew,
    and none is kept. A kept program is the machine code that compiling gave, for this kind of
    processor alone.
    """
    config: Any = jax.config
    own = config.jax_compilation_cache_dir
    folder = None
    if keep and config.jax_enable_compilation_cache:
        folder = own or _make_folder()
    if folder is None:
        settings: dict[str, Any] = {"jax_enable_compilation_cache": False}
    elif own:
        settings = {}
    else:
        settings = {"jax_compilation_cache_dir": folder}
        for name, (default, ours) in _SETTINGS.items():
            if getattr(config, name) == default:
                settings[name] = ours
    before = {name: getattr(config, name) for name in settings}
    try:
        _set(settings)
        yield folder
    finally:
        _set(before)


def _make_folder() -> str | None:
    """The folder, or None where it cannot be made or written."""
    try:
        folder = cache_folder() / "programs"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return None
        # A process that was killed between a program and its time of use leaves JAX confused.
        for program in folder.glob("*-cache"):
            if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
                program.unlink(missing_ok=True)
    except (OSError, RuntimeError):  # no home, for one
        return None
    return str(folder)


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        compilation_cache.reset_cache()  # JAX looks at them once, when it first compiles
