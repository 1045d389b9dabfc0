"""Compiled programs kept on disk, so that the next process need not compile them again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxnet.files import cache_folder

LIMIT = 2**28
"""Bytes that the folder may take; beyond, what was used longest ago goes first."""

_SETTINGS = {
    "jax_compilation_cache_max_size": LIMIT,
    # The lecture's programs compile in less than JAX's threshold of a second.
    "jax_persistent_cache_min_compile_time_secs": 0.0,
}


@contextmanager
def kept_programs(keep: bool = True) -> Iterator[Path | None]:
    """What is compiled in here is kept for other processes, small programs too; gives the folder.

    The folder is `jaxnet/programs` in the user's cache, or JAX's own where the user has set that
    (`JAX_COMPILATION_CACHE_DIR`), which then decides everything. It is None where `keep` is False
    or nothing can be written there: then programs are compiled anew, and none is kept. A kept
    program is the machine code that compiling gave, for this kind of processor alone.
    """
    config: Any = jax.config
    own = config.jax_compilation_cache_dir
    folder = None
    if keep:
        folder = Path(own) if own else _make_folder()
    if folder is None:
        settings: dict[str, Any] = {"jax_enable_compilation_cache": False}
    elif own:
        settings = {}
    else:
        settings = {"jax_compilation_cache_dir": str(folder), **_SETTINGS}
    before = {name: getattr(config, name) for name in settings}
    try:
        _set(settings)
        yield folder
    finally:
        _set(before)


def _make_folder() -> Path | None:
    """The folder, or None where it cannot be made or written."""
    folder = cache_folder() / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    if settings:
        compilation_cache.reset_cache()  # JAX looks at them once, when it first compiles
