"""Files that are written in full or not at all, and the user's cache folder."""

import os
from pathlib import Path
from typing import Any


def as_path(path: Any, name: str = "path") -> Path:
    """A path of any kind as a `Path`; a TypeError for all else."""
    try:
        return Path(path)
    except TypeError as error:
        raise TypeError(f"{name} must be a str or os.PathLike, not {path!r}") from error


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file under another name and move it into place, so that no half of it stays.

    A link is followed; a device or a pipe is written as it is.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "it.txt")
    >>> write_whole(path, "all of it")
    >>> path.read_text(), [other.name for other in path.parent.iterdir()]
    ('all of it', ['it.txt'])
    """
    path = as_path(path)
    content = content.encode() if isinstance(content, str) else content
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"content must be a str or bytes, not {type(content).__name__}")
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path.resolve())
    finally:
        part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The user's folder for what can be had again: `jaxnet` in `$XDG_CACHE_HOME` or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxnet"
