"""torch's side of the lecture, read from the JSON that `python -m torchref lecture` wrote."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnet._utils.files import as_path
from jaxnet.data.loader import make_batching
from jaxnet.lecture._machine import digest
from jaxnet.lecture.experiments import BEYOND, EXPERIMENTS, Experiment, Split, check_datasets

_KINDS: dict[str, Any] = {
    "experiment": str,
    "seed": int | str,
    "train_accuracy": float,
    "test_accuracy": float,
    "run_seconds": float,
    "steps": int,
    "rows": str,
    "reports": list,
    "losses": list,
    "machine": dict,
    "certificate": dict | None,
    "loss_bound": float | None,
}
_CERTIFICATE = {"agrees": bool, "headline": str, "epochs": int, "text": str}


class TorchRun(NamedTuple):
    """One experiment as torch ran it."""

    record: dict[str, Any]
    """As `jaxnet.lecture.experiments.make_record` makes it."""
    losses: np.ndarray
    """Loss of every step before its update; nan where torch's was not finite."""
    machine: dict[str, str]
    """Where it ran, and with which versions."""
    certificate: dict[str, Any] | None
    """`{"agrees", "headline", "epochs", "text"}`; None where none was asked for."""
    rows: str
    """Digest of the training and test rows, as `digest_rows` gives it."""
    loss_bound: float | None
    """How far the losses may be apart, relative; None where torchref states nothing."""


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
        if fault := _find_fault(run):
            raise ValueError(f"{wrong} has {fault}")
    return {run["experiment"]: _unpack(run) for run in found}


def _find_fault(run: Mapping[str, Any]) -> str:
    """What is wrong with a run, "" where nothing is."""
    if lacking := sorted(_KINDS.keys() - run.keys()):
        return f"a run without {', '.join(lacking)}"
    name = run["experiment"]
    if name not in EXPERIMENTS | BEYOND:
        return f"a run of an unknown experiment, {name!r}"
    for key, kind in _KINDS.items():
        if not isinstance(run[key], kind):
            return f"for {name} a value of {key} that is none: {run[key]!r:.40}"
    if not all(value is None or type(value) in (int, float) for value in run["losses"]):
        return f"for {name} losses that are no numbers"
    if len(run["losses"]) != run["steps"]:
        return f"for {name} {run['steps']} steps but {len(run['losses'])} losses"
    for report in run["reports"]:
        keys = ("epoch", "loss", "accuracy")
        if not isinstance(report, dict) or any(key not in report for key in keys):
            return f"for {name} a report without {', '.join(keys)}"
    certificate = run["certificate"]
    if certificate is not None and not all(
        isinstance(certificate.get(key), kind) for key, kind in _CERTIFICATE.items()
    ):
        return f"for {name} a certificate without {', '.join(_CERTIFICATE)}"
    return ""


def _unpack(run: dict[str, Any]) -> TorchRun:
    apart = ("losses", "machine", "certificate", "rows", "loss_bound")
    record = {key: value for key, value in run.items() if key not in apart}
    losses = np.array(run["losses"], np.float32)  # None is nan
    machine = {str(name): str(value) for name, value in run["machine"].items()}
    return TorchRun(record, losses, machine, run["certificate"], run["rows"], run["loss_bound"])


def digest_rows(data: Split) -> str:
    """Digest of training and test rows, in hexadecimal: images and labels.

    >>> import jaxnet
    >>> digest_rows(jaxnet.data.load_mnist((0, 1)))[:16]
    '7c56752675ec4a74'
    """
    check_datasets(data)
    arrays = (part for rows in data for part in (rows.images, rows.labels))
    return "".join(digest(np.ascontiguousarray(part)) for part in arrays)


def check_same(
    torch: Mapping[str, TorchRun],
    chosen: Iterable[Experiment],
    data: Mapping[tuple[int, ...], Split],
) -> None:
    """See that torch's runs are of these rows, seeds and epochs, where there is one.

    Raises:
      ValueError: a run is of others; the two would be compared for nothing.
    """
    for experiment in chosen:
        if experiment.id not in torch:
            continue
        theirs, rows = torch[experiment.id], data[experiment.classes]
        batching = make_batching(len(rows[0].labels), experiment.batch_size, experiment.shuffle)
        pairs = (
            ("rows", theirs.rows, digest_rows(rows)),
            ("seed", str(theirs.record.get("seed")), str(experiment.seed)),
            ("steps", theirs.record.get("steps"), experiment.epochs * batching.steps),
        )
        for what, found, expected in pairs:
            if found != expected:
                same = f"torch must have run {experiment.id} on the same {what}"
                raise ValueError(f"{same}: {found} there, {expected} here")
