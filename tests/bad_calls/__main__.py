"""Makes every call of the table and prints, as JSON, what came of each."""

import json
import os
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Any

import jax

from tests.bad_calls import Row, collect
from tests.bad_calls.files import make_files


class Watch:
    """Tells what comes, goes or is written to in a folder.

    Each file is dated to the epoch first, so that any write shows, however soon it comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in folder.rglob("*"):
            os.utime(path, ns=(0, 0))
        self.found = self._look()

    def changes(self) -> list[str]:
        """The names of what is other than at the last call."""
        before, self.found = self.found, self._look()
        names = before.keys() | self.found.keys()
        return sorted(name for name in names if before.get(name) != self.found.get(name))

    def _look(self) -> dict[str, tuple[int, int, int] | None]:
        """Which file it is, its size and its date; of a folder nothing."""
        found: dict[str, tuple[int, int, int] | None] = {}
        waiting = [str(self.folder)]
        while waiting:
            with os.scandir(waiting.pop()) as entries:  # a third of what `rglob` takes, 1,300 times
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        found[entry.path] = None
                    else:
                        s = entry.stat(follow_symlinks=False)
                        found[entry.path] = s.st_ino, s.st_size, s.st_mtime_ns
        return found


def make_call(row: Row, watch: Watch) -> dict[str, Any]:
    try:
        value = row.call(watch.folder)
    except Exception as error:
        kind = type(error)
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        outcome = {
            "kind": f"{kind.__module__}.{kind.__qualname__}",
            "expected": isinstance(error, row.raises),
            "raised_in": frame.f_code.co_filename,
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
