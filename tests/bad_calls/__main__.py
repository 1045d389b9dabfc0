"""Makes every call of the table and prints, as JSON, what came of each."""

import json
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.bad_calls import Row, collect
from tests.bad_calls.files import make_files


def look(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, with what is in it."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def make_call(row: Row, folder: Path) -> dict[str, Any]:
    """One call's outcome."""
    before = look(folder)
    try:
        value = row.call(folder)
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
    after = look(folder)
    return outcome | {"changed": sorted(name for name, _ in before.items() ^ after.items())}


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        make_files(folder)
        outcomes = {key: make_call(row, folder) for key, row in collect().items()}
    finally:
        shutil.rmtree(folder)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
