"""torch's side of the lecture, read from the JSON that `python -m torchref lecture` wrote."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxnet._utils.digests import digest_array
from jaxnet._utils.files import as_path
from jaxnet.data.loader import make_batching
from jaxnet.lecture.experiments import BEYOND, EXPERIMENTS, Experiment, Split

TorchRun = dict[str, Any]
"""One experiment as torch ran it: `make_record`'s keys, and those that follow. "losses", of every
step before its update, is an array, nan where torch's was not finite."""

_KINDS: dict[str, Any] = {
    "experiment": str,
    "seed": int | str,
    "train_accuracy": float,
    "test_accuracy": float,
    "run_seconds": float,
    "reports": list,
    "losses": list,
    "rows": str,  # as `digest_rows` gives it
    "machine": dict,  # where it ran, and with which versions
    "certificate": dict | None,
    "loss_bound": float | None,  # relative; None where torchref states nothing
}
_REPORT: dict[str, Any] = {"epoch": int, "loss": float | None, "accuracy": float}
_CERTIFICATE: dict[str, Any] = {"agrees": bool, "headline": str, "epochs": int, "text": str}


def load_torch(path: str | os.PathLike) -> dict[str, TorchRun]:
    """The runs in a file of `python -m torchref lecture --json FILE`, by experiment.

    A ValueError where it is not such a file, an OSError where it cannot be read.

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
        _check_kinds(f"{wrong} has a run", run, _KINDS)
        for report in run["reports"]:
            _check_kinds(f"{wrong} has a report", report, _REPORT)
        if run["certificate"] is not None:
            _check_kinds(f"{wrong} has a certificate", run["certificate"], _CERTIFICATE)
        if run["experiment"] not in EXPERIMENTS | BEYOND:
            raise ValueError(f"{wrong} has a run of {run['experiment']!r}, an unknown experiment")
        try:
            losses = np.array(run["losses"], float)  # None is nan
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{wrong} has losses that are no numbers") from error
        if losses.ndim != 1:
            raise ValueError(f"{wrong} has losses that are no numbers")
        with np.errstate(over="ignore"):
            run["losses"] = losses.astype(np.float32)
    return {run["experiment"]: run for run in found}


def _check_kinds(where: str, part: Any, kinds: Mapping[str, Any]) -> None:
    for key, kind in kinds.items():
        if not isinstance(part, dict) or not isinstance(part.get(key, ...), kind):
            found = part.get(key, "missing") if isinstance(part, dict) else part
            raise ValueError(f"{where} with {key} {found!r:.40}")


def digest_rows(data: Split) -> str:
    """Digest of training and test rows, in hexadecimal: images and labels.

    >>> import jaxnet
    >>> digest_rows(jaxnet.data.load_mnist((0, 1)))[:16]
    '850eeb498a85d128'
    """
    arrays = (part for rows in data for part in (rows.images, rows.labels))
    return "".join(digest_array(part)[:16] for part in arrays)


def check_same(
    torch: Mapping[str, TorchRun],
    chosen: Iterable[Experiment],
    data: Mapping[tuple[int, ...], Split],
) -> None:
    """A ValueError where torch's run of an experiment is of other rows, seed, epochs or reports."""
    for experiment in chosen:
        if experiment.id not in torch:
            continue
        theirs, rows = torch[experiment.id], data[experiment.classes]
        batching = make_batching(len(rows[0].labels), experiment.batch_size, experiment.shuffle)
        pairs = (
            ("rows", theirs["rows"], digest_rows(rows)),
            ("seed", str(theirs["seed"]), str(experiment.seed)),
            ("steps", len(theirs["losses"]), experiment.epochs * batching.steps),
            ("reports", len(theirs["reports"]), experiment.epochs // experiment.report_every),
        )
        for what, found, expected in pairs:
            if found != expected:
                same = f"torch must have run {experiment.id} on the same {what}"
                raise ValueError(f"{same}: {found} there, {expected} here")
