"""A run as named arrays and a record of plain values, with a digest: what a checkpoint holds."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.digests import as_host_array, as_words, digest_array
from jaxnet.train.sharding import put
from jaxnet.train.state import History, Report, TrainState

FORMAT = 1
_LOSSES = "losses"


class CorruptCheckpointError(ValueError):
    """A checkpoint that cannot be read as it was written."""


class CheckpointMismatchError(ValueError):
    """A checkpoint of another run: another net, other data or other settings."""


def pack(
    state: TrainState, history: History, about: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A run's arrays by name, and its record with the digest of both."""
    arrays = {name: as_host_array(leaf) for name, leaf in name_leaves(state).items()}
    record = {
        "format": FORMAT,
        "about": about,
        "arrays": describe(arrays),
        # Python's numbers, whatever a callback has added.
        "reports": [
            [epoch, loss, {name: np.asarray(value).item() for name, value in metrics.items()}]
            for epoch, loss, metrics in history.reports
        ],
        "run_seconds": history.run_seconds,
        "precision": history.precision,
    }
    arrays[_LOSSES] = np.asarray(history.losses)
    record = json.loads(json.dumps(record))
    return arrays, record | {"digest": _digest(arrays, record)}


def check(arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    """Reject, as corrupt, what is not what `pack` gave."""
    if record.get("format") != FORMAT:
        raise CorruptCheckpointError(f"its format is {record.get('format')!r}, expected {FORMAT}")
    rest = {name: value for name, value in record.items() if name != "digest"}
    if record.get("digest") != _digest(arrays, rest):
        raise CorruptCheckpointError("its SHA-256 digest is not that of its contents")


def unpack(
    arrays: Mapping[str, np.ndarray], record: Mapping[str, Any], like: TrainState
) -> tuple[TrainState, History]:
    """The run that was packed; `like` gives the structure, the keys' kinds and the devices."""
    leaves = [_as_leaf(arrays[name], leaf) for name, leaf in name_leaves(like).items()]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    reports = tuple(Report(*report) for report in record["reports"])
    times = 0.0, record["run_seconds"]
    return state, History(arrays[_LOSSES], reports, *times, record["precision"])


def name_leaves(state: TrainState) -> dict[str, Any]:
    """A state's arrays by their path in it.

    >>> list(name_leaves(TrainState({"0": {"bias": 1.0}}, {}, (), (), 0)))
    ["params['0']['bias']", 'step']
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path).removeprefix("."): leaf for path, leaf in leaves}


def describe(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Type and shape of each array."""
    found = {name: as_words(leaf) for name, leaf in arrays.items()}
    found = {name: a if hasattr(a, "dtype") else np.asarray(a) for name, a in found.items()}
    return {name: f"{array.dtype} {array.shape}" for name, array in found.items()}


def _as_leaf(array: np.ndarray, like: Any) -> Any:
    """The array placed as `like` is, and of its kind."""
    values: Any = array
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        values = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    placed = isinstance(like, jax.Array) and like.committed
    return put(values, like.sharding) if placed else jnp.asarray(values)


def _digest(arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> str:
    parts = {name: digest_array(array) for name, array in arrays.items()}
    whole = json.dumps([parts, record], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def list_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two descriptions say otherwise, a line each."""
    lines = []
    for name in [*saved, *(name for name in now if name not in saved)]:
        before, after = saved.get(name, "nothing"), now.get(name, "nothing")
        both = isinstance(before, Mapping) and isinstance(after, Mapping)
        if both and before.get("jax") != after.get("jax"):
            continue  # two versions of JAX write the same computation, each in its own way
        if before != after:
            before, after = _part(before, after)
            lines.append(f"{name}: {before} in the checkpoint, {after} in this run")
    return lines


def _part(before: Any, after: Any) -> tuple[str, str]:
    """Two values, of longer texts their first lines that differ."""
    texts = [str(value).splitlines() or [""] for value in (before, after)]
    shorter = min(map(len, texts))
    at = next((i for i in range(shorter) if texts[0][i] != texts[1][i]), shorter)
    first, second = ((text[at] if at < len(text) else "nothing").strip() for text in texts)
    return first, second
