"""A sweep's folder: its finished groups, from which an interrupted sweep resumes."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxnet._utils.differences import list_differences, list_versions, warn_of_versions
from jaxnet._utils.digests import digest_array
from jaxnet._utils.files import check_folder, write_whole
from jaxnet._utils.locks import LOCK, FolderLock
from jaxnet._utils.processes import run_on_primary
from jaxnet.sweep._programs import Outcome
from jaxnet.sweep.lanes import Lane
from jaxnet.sweep.result import Row, take, write_csv

DESCRIPTION, TABLE = "sweep.json", "lanes.csv"


def is_filled(path: Path) -> bool:
    """Whether a folder holds more than a process that was killed as it began may leave."""
    return path.is_dir() and any(
        part.suffix != ".part" and part.name != LOCK for part in path.iterdir()
    )


class Folder:
    """The folder of one sweep: its description, a file for each group, and the table so far.

    As a context, the sweep's own: no other one writes there.
    """

    def __init__(self, path: Path, description: dict[str, Any]):
        self.path = path
        self._rows: dict[int, Row] = {}
        self._description, self._made = description, False
        self._lock: FolderLock | None = None
        self._new = not path.exists()

    def __enter__(self) -> "Folder":
        self._lock = run_on_primary(self._take)
        return self

    def _take(self) -> FolderLock:
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"directory must be a folder; {self.path} is a file")
        check_folder("directory", self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        return FolderLock(self.path)

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
            if self._new:
                with suppress(OSError):  # something is in it
                    self.path.rmdir()

    def read(self, templates: dict[int, Outcome], resume: bool) -> dict[int, Outcome]:
        """The outcomes that are there, by lane; a file that is damaged is named and left out.

        `templates` say for each lane what shapes and types its outcome has.
        """
        if is_filled(self.path):
            if not resume:
                raise FileExistsError(
                    "directory must be empty or new, or resume=True resume the sweep in it; "
                    f"{self.path} holds files"
                )
            _compare(self.path / DESCRIPTION, self._description)
        found: dict[int, Outcome] = {}
        for path in sorted(self.path.glob("group-*.safetensors")):
            try:
                found |= _read_group(path, templates)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                warnings.warn(
                    f"{path} is damaged and its lanes are computed again: {error}", stacklevel=4
                )
        return found

    def write(self, lanes: Sequence[Lane], outcome: Outcome) -> None:
        """Write one group's file, in full or not at all."""
        if not self._made:
            about = self._description | {"versions": list_versions()}
            text = json.dumps(about, indent=1) + "\n"
            write_whole(self.path / DESCRIPTION, text)
            self._made = True
        leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(outcome)]
        arrays = {f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}
        arrays["lanes"] = np.array([lane.number for lane in lanes])
        arrays["digest"] = _digest(arrays)
        write_whole(self.path / f"group-{lanes[0].number:06}.safetensors", save(arrays))

    def write_table(self, rows: Sequence[Row]) -> None:
        """The table of the lanes that are done, in their order."""
        self._rows |= {row["lane"]: row for row in rows}
        write_csv([self._rows[lane] for lane in sorted(self._rows)], self.path / TABLE)


def _read_group(path: Path, templates: dict[int, Outcome]) -> dict[int, Outcome]:
    arrays = load(path.read_bytes())
    digest = arrays.pop("digest")
    if not np.array_equal(digest, _digest(arrays)):
        raise ValueError("its SHA-256 digest is not that of its contents")
    numbers = arrays.pop("lanes").tolist()
    leaves = [arrays[f"leaf_{i}"] for i in range(len(arrays))]
    if not numbers or not set(numbers) <= set(templates):
        raise ValueError(f"it holds the lanes {numbers}, which are not all this sweep's")
    template = templates[numbers[0]]
    expected = [((len(numbers), *leaf.shape), leaf.dtype) for leaf in jax.tree.leaves(template)]
    if [(leaf.shape, leaf.dtype) for leaf in leaves] != expected:
        raise ValueError("its arrays are not of this sweep's shapes and types")
    outcome = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return {number: take(outcome, place) for place, number in enumerate(numbers)}


def _digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What a group's file is checked by."""
    text = " ".join(digest_array(arrays[name]) for name in sorted(arrays))
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


def _compare(path: Path, description: dict[str, Any]) -> None:
    """Reject the folder of another sweep, and say how it differs."""
    folder = path.parent
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileExistsError(f"{folder} holds files, but no sweep to resume") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged, so that nothing says what {folder} holds") from error
    versions = there.pop("versions", {})
    found = list_differences(there, json.loads(json.dumps(description)))
    if found:
        listed = "; ".join(f"{name} was {saved}, not {now}" for name, (saved, now) in found.items())
        raise ValueError(f"{folder} holds another sweep: {listed}")
    warn_of_versions(f"sweep {folder}", versions)
