"""A sweep's folder: its finished groups, from which an interrupted sweep resumes."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxnet._utils.digests import digest_array, digest_text
from jaxnet._utils.files import write_whole
from jaxnet.sweep._programs import Outcome
from jaxnet.sweep.lanes import Lane
from jaxnet.sweep.result import Row, take, write_csv

DESCRIPTION, TABLE = "sweep.json", "lanes.csv"


def digest(arrays: Any) -> list[str] | None:
    """What tells data apart: SHA-256 of each array. None of None."""
    return None if arrays is None else [digest_array(array) for array in jax.tree.leaves(arrays)]


class Folder:
    """The folder of one sweep: its description, a file for each group, and the table so far."""

    def __init__(self, path: Path, description: dict[str, Any], resume: bool):
        self.path = path
        self._rows: dict[int, Row] = {}
        found = path / DESCRIPTION
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"directory must be a folder; {path} is a file")
        # A process that was killed as it began leaves a half file, and nothing else.
        filled = path.is_dir() and any(part.suffix != ".part" for part in path.iterdir())
        if filled and not resume:
            raise FileExistsError(
                f"directory must be empty or new, or resume=True resume the sweep in it; "
                f"{path} holds files"
            )
        if filled:
            _compare(found, description)
        self._description, self._made = description, False

    def read(self, templates: dict[int, Outcome]) -> dict[int, Outcome]:
        """The outcomes that are there, by lane; a file that is damaged is named and left out.

        `templates` say for each lane what shapes and types its outcome has.
        """
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
        if not self._made:  # the folder, once there is something to write into it
            self.path.mkdir(parents=True, exist_ok=True)
            for part in self.path.glob("*.part"):  # of a process that was killed while it wrote
                part.unlink()
            text = json.dumps(self._description, indent=1) + "\n"
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
    return np.frombuffer(bytes.fromhex(digest_text(text)), np.uint8)


def _compare(path: Path, description: dict[str, Any]) -> None:
    """Reject the folder of another sweep, and say how it differs."""
    folder = path.parent
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        there = dict(found)
    except FileNotFoundError as error:
        raise FileExistsError(f"{folder} holds files, but no sweep to resume") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged, so that nothing says what {folder} holds") from error
    wanted = json.loads(json.dumps(description))
    differing = [
        f"{name} was {_shorten(there.get(name))}, not {_shorten(wanted.get(name))}"
        for name in {**wanted, **there}
        if there.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(f"{folder} holds another sweep: {'; '.join(differing)}")


def _shorten(value: Any, most: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
