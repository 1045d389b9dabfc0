"""torch's side of the lecture, read from the JSON that `python -m torchref lecture` wrote."""

import json
import os
from typing import Any, NamedTuple

import numpy as np

from jaxnet.files import as_path
from jaxnet.lecture import BEYOND, EXPERIMENTS

_KEYS = frozenset(
    "experiment seed train_accuracy test_accuracy reports steps run_seconds losses machine".split()
)


class TorchRun(NamedTuple):
    """One experiment as torch ran it."""

    record: dict[str, Any]
    """As `jaxnet.lecture.make_record` makes it."""
    losses: np.ndarray
    """Loss of every step before its update."""
    machine: dict[str, str]
    """Where it ran, and with which versions."""
    certificate: dict[str, Any] | None
    """`{"agrees", "headline", "epochs", "text"}`; None where none was asked for."""


def load_torch(path: str | os.PathLike) -> dict[str, TorchRun]:
    """The runs in a file of `python -m torchref lecture --json FILE`, by experiment.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is not such a file.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "torch.json"
    >>> _ = path.write_text("[]")
    >>> load_torch(path)
    Traceback (most recent call last):
    ...
    ValueError: path must be what `python -m torchref lecture --json FILE` wrote: ... holds no run
    """
    path = as_path(path)
    wrong = f"path must be what `python -m torchref lecture --json FILE` wrote: {path}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSON's and Unicode's
        raise ValueError(f"{wrong} is no JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(run, dict) for run in found):
        raise ValueError(f"{wrong} is no list of runs")
    if not found:
        raise ValueError(f"{wrong} holds no run")
    for run in found:
        if lacking := sorted(_KEYS - run.keys()):
            raise ValueError(f"{wrong} has a run without {', '.join(lacking)}")
        if run["experiment"] not in EXPERIMENTS | BEYOND:
            raise ValueError(f"{wrong} has a run of an unknown experiment, {run['experiment']!r}")
    return {run["experiment"]: _unpack(run) for run in found}


def _unpack(run: dict[str, Any]) -> TorchRun:
    apart = ("losses", "machine", "certificate")
    record = {key: value for key, value in run.items() if key not in apart}
    losses = np.array(run["losses"], np.float32)
    return TorchRun(record, losses, run["machine"], run.get("certificate"))
