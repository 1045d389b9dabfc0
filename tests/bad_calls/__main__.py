"""Makes every call of the table and prints, as JSON, what came of each."""

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tests.bad_calls import Row, collect
from tests.bad_calls.files import make_files


class Watch:
    """Tells what comes, goes or changes in a folder.

    Each file that was read is dated to the epoch, so that any later write shows in its date,
    however soon it follows: only such a file is read again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, tuple[int, int, bytes | None]] = {}
        self.changes()

    def changes(self) -> list[str]:
        """The names of what is other than at the last call."""
        before = self.found
        self.found = {entry.path: self._look(entry) for entry in _list(self.folder)}
        names = before.keys() | self.found.keys()
        return sorted(n for n in names if before.get(n, ())[2:] != self.found.get(n, ())[2:])

    def _look(self, entry: os.DirEntry[str]) -> tuple[int, int, bytes | None]:
        """Which file it is, its size and what is in it; nothing is in what is no file."""
        if not entry.is_file():
            return 0, 0, None
        status = entry.stat()
        last = self.found.get(entry.path)
        if status.st_mtime_ns == 0 and last and last[:2] == (status.st_ino, status.st_size):
            return last
        content = Path(entry.path).read_bytes()
        os.utime(entry.path, ns=(0, 0))
        return status.st_ino, status.st_size, content


def _list(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """All that lies in a folder, however deep."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _list(entry.path)


def make_call(row: Row, watch: Watch) -> dict[str, Any]:
    """One call's outcome."""
    try:
        value = row.call(watch.folder)
    except Exception as error:
        kind = type(error)
        frames = traceback.extract_tb(error.__traceback__)
        outcome = {
            "kind": f"{kind.__module__}.{kind.__qualname__}",
            "expected": isinstance(error, row.raises),
            "raised_in": frames[-1].filename,
            "message": str(error),
        }
    else:
        outcome = {"kind": None, "message": f"accepted, gave {value!r:.200}"}
    return outcome | {"changed": watch.changes()}


def main() -> None:
    # No row looks at a number: the few programs need not be fast. And an error is to show where
    # it was raised, be that in JAX, whose own frames are hidden else, at some cost.
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_traceback_filtering", "off")
    folder = Path(tempfile.mkdtemp())
    try:
        make_files(folder)
        watch = Watch(folder)
        outcomes = {key: make_call(row, watch) for key, row in collect().items()}
    finally:
        shutil.rmtree(folder)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
