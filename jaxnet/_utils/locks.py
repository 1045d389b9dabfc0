"""A folder in which one run at a time writes: a lock that the system drops with the process."""

import errno
import gc
import os
import socket
import warnings
import weakref
from contextlib import suppress
from datetime import datetime
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "jaxnet.lock"
"""The file that is locked, which its holder removes."""

# What a link of that name leads to would be emptied.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_WITHOUT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


class FolderLock:
    """A folder held by this object until `release`, until it is dropped or its process ends.

    On a file system without locks there is a warning, and nothing is held.

    Raises:
      BlockingIOError: it is held already; the message says by which process, where and since when.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> lock = FolderLock(place)
    >>> FolderLock(place)
    Traceback (most recent call last):
    BlockingIOError: folder ... is in use by process ...
    >>> lock.release()
    >>> FolderLock(place).release()
    """

    def __init__(self, folder: Path):
        path = folder / LOCK
        try:
            self.file = _open_locked(path)
        except BlockingIOError:
            gc.collect()  # what was dropped without a release may wait for this
            self.file = _open_locked(path)
        except OSError as error:
            if error.errno not in _WITHOUT:
                raise
            self.file = None
            path.unlink(missing_ok=True)
            said = f"{folder} has a file system without locks ({error.strerror}): two runs that "
            warnings.warn(said + "write in it at once would not be told", stacklevel=4)
        self.release = weakref.finalize(self, _release, self.file, path)
        _held.add(self)


def _open_locked(path: Path) -> int:
    """The file of a lock, open and locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            _lock(file)
            if _is_there(path, file):
                os.ftruncate(file, 0)
                with suppress(OSError):  # a full disk
                    os.pwrite(file, _name_holder().encode(), 0)
                return file
        except BlockingIOError:
            holder = os.pread(file, 500, 0).decode(errors="replace") or "another run"
            os.close(file)
            raise BlockingIOError(
                f"folder {path.parent} is in use by {holder}: let that run end, close what holds "
                "the folder, or choose another one"
            ) from None
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int) -> None:
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "this platform has no fcntl.flock")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_there(path: Path, file: int) -> bool:
    """Whether it is the file of that name still: the last holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _name_holder() -> str:
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def _release(file: int | None, path: Path) -> None:
    if file is None:
        return
    with suppress(OSError):  # a folder that went away
        if _is_there(path, file):
            path.unlink()  # while it is locked, so that whoever opened it before looks again
    os.close(file)


def _leave_to_parent() -> None:
    """In a child that was forked: neither hold the folder when the parent ends, nor release it."""
    for lock in list(_held):
        if lock.release.detach() and lock.file is not None:
            os.close(lock.file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
