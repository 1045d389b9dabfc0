"""Files that are written in full or not at all, where else a result goes, and the cache folder."""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxnet._utils.streams import write_out

Content = str | bytes | Callable[[Path], Any]
"""What a file holds, or a function that writes it at a path."""


def as_path(path: Any, name: str = "path") -> Path:
    """A path of any kind as a `Path`; a TypeError for all else."""
    try:
        return Path(path)
    except TypeError as error:
        raise TypeError(f"{name} must be a str or os.PathLike, not {path!r}") from error


def write_whole(path: str | os.PathLike, content: str | bytes, *, parents: bool = False) -> None:
    """Write a file under another name and move it into place, so that no half of it stays.

    A link is followed, and a file that is replaced keeps its permissions. A device or a pipe is
    written as it is. A process that is killed while it writes leaves a hidden file that ends in
    ".part" beside `path`; any other failure leaves nothing. `parents` makes the folder that `path`
    needs.

    >>> path = Path(tempfile.mkdtemp(), "it.txt")
    >>> write_whole(path, "all of it")
    >>> path.read_text(), [other.name for other in path.parent.iterdir()]
    ('all of it', ['it.txt'])
    """
    path = as_path(path)
    content = content.encode() if isinstance(content, str) else content
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"content must be a str or bytes, not {type(content).__name__}")
    try:
        there = _stat(path)
        if there is not None and not stat.S_ISREG(there.st_mode):
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content, there, parents)
    except OSError as error:  # named by the path that the caller knows
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(target: Path, content: Any, there: os.stat_result | None, parents: bool) -> None:
    part = target.with_name(f".{secrets.token_hex(8)}.part")  # short: a name may have 255 bytes
    try:
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            if there is not None:
                _keep_permissions(there, part)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink()


def _stat(path: Path) -> os.stat_result | None:
    """What is there, through links; None where nothing is, also at the end of a link."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _keep_permissions(there: os.stat_result, part: Path) -> None:
    """Owner, group and mode of a file, as far as this user may give them."""
    mine = part.stat()
    if (mine.st_uid, mine.st_gid) != (there.st_uid, there.st_gid):
        with suppress(PermissionError):
            os.chown(part, -1, there.st_gid)
            os.chown(part, there.st_uid, -1)
    part.chmod(stat.S_IMODE(there.st_mode))


def check_file(name: str, path: Path | None, *, replaced: bool = True) -> None:
    """Reject a file that cannot be written, as far as that shows beforehand; nothing is made.

    `name` is what the message calls it; `replaced` says that `write_whole` writes it, which needs
    the folder too.
    """
    if path is None:
        return
    if not path.name:
        raise ValueError(f"{name}: the name of the file to write is empty")
    there = _look(name, path)
    folder = Path(os.path.realpath(path)).parent
    if there is None:
        check_folder(name, folder)
        return
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(f"{name} must be a file, not the folder {path}")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{name} needs {path}, which cannot be written")
    if replaced and stat.S_ISREG(there.st_mode):
        check_folder(name, folder)


def check_folder(name: str, path: Path | None) -> None:
    """Reject a folder in which no file can be made; the folder itself may be missing."""
    if path is None:
        return
    _look(name, path)
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise NotADirectoryError(f"{name} needs the folder {path}, but {there} is a file")
    try:
        with tempfile.TemporaryFile(dir=there):  # root may write where no file can be: in /proc
            pass
    except OSError as error:
        said = f"{name} needs {there}, which cannot be written"
        raise PermissionError(f"{said} ({error.strerror})") from error


def _look(name: str, path: Path) -> os.stat_result | None:
    """What is there; rejects what no file can be called, and a link in a circle."""
    try:
        return _stat(path)
    except OSError as error:
        raise OSError(f"{name} cannot be {path}: {error.strerror}") from error


def save_or_rescue(path: Path, content: Content) -> str | None:
    """Write a result where it is wanted, else elsewhere; a sentence about the latter, else None."""
    try:
        _write(path, content)
    except OSError as error:
        return rescue(path, content, f"{path} could not be written ({error.strerror or error})")
    return None


def rescue(path: Path, content: Content, why: str) -> str:
    """Write a result in a fresh temporary folder or, if it is text, to standard output.

    Gives `why` as a sentence that also says where the result is.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="jaxnet-"))
        place = folder / Path(os.path.abspath(path)).name
        _write(place, content)
        return f"{why}: saved as {place} instead"
    except OSError:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    if isinstance(content, str) and write_out(content) is None:
        return f"{why}: printed instead"
    return f"{why}, nor anywhere else"


def _write(path: Path, content: Content) -> None:
    if callable(content):
        content(path)
    else:
        write_whole(path, content, parents=True)


def cache_folder() -> Path:
    """The user's folder for what can be had again: `jaxnet` in `$XDG_CACHE_HOME` or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxnet"
