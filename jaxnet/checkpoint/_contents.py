"""A run as named arrays and a record of plain values, with a digest: what a checkpoint holds."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.differences import covers, list_differences, list_versions
from jaxnet._utils.digests import as_host_array, as_words, digest_array
from jaxnet.train.sharding import put
from jaxnet.train.state import History, Report, TrainState

FORMAT = 2
_LOSSES = "losses"
_SHOWN = 4  # arrays that differ: a deep net has hundreds


class CorruptCheckpointError(ValueError):
    """A checkpoint that cannot be read as it was written."""


class CheckpointMismatchError(ValueError):
    """A checkpoint of another run, another net, other data or settings, or of another format."""


def pack(
    state: TrainState, history: History, about: Mapping[str, Any], changed: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A run's arrays by name, and its record with the digest of both."""
    arrays = {name: as_host_array(leaf) for name, leaf in name_leaves(state).items()}
    record = {
        "format": FORMAT,
        "about": about,
        "changed": sorted(changed),
        "versions": list_versions(),
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
    rest = {name: value for name, value in record.items() if name != "digest"}
    if record.get("digest") != _digest(arrays, rest):
        raise CorruptCheckpointError("its SHA-256 digest is not that of its contents")


def unpack(
    arrays: Mapping[str, np.ndarray],
    record: Mapping[str, Any],
    like: TrainState,
    changed: Iterable[str],
) -> tuple[TrainState, History]:
    """The run that was packed; `like` gives the structure, the keys' kinds and the devices.

    Of the settings that changed it also gives those that `optax.inject_hyperparams` keeps in the
    state.
    """
    given = tuple(f".hyperparams['{name.rpartition('.')[2]}']" for name in changed)
    leaves = [
        leaf if name.endswith(given) else _as_leaf(arrays[name], leaf)
        for name, leaf in name_leaves(like).items()
    ]
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


def compare(
    place: Any,
    record: Mapping[str, Any],
    about: Mapping[str, Any] | None,
    shapes: Mapping[str, str],
    changed: Sequence[str],
) -> list[str]:
    """The settings that differ from the checkpoint's and may; raise where it is of another run."""
    if record.get("format") != FORMAT:
        raise CheckpointMismatchError(
            f"checkpoint {place} has format {record.get('format')}, and this jaxnet reads format "
            f"{FORMAT}: resume the run with the version that began it, or begin in another folder"
        )
    found = {} if about is None else list_differences(record["about"], about)
    for name in changed:
        if name not in record["changed"] and not any(covers(name, other) for other in found):
            listed = ", ".join(found) or "nothing"
            raise ValueError(
                f"changed has {name!r}, but what differs from checkpoint {place} is {listed}"
            )
    accepted = [name for name in found if any(covers(other, name) for other in changed)]
    rest = {name: pair for name, pair in found.items() if name not in accepted}
    others = list_differences(record["arrays"], shapes)
    lines = [
        f"{name}: {saved} in the checkpoint, {now} in this run"
        for name, (saved, now) in [*rest.items(), *list(others.items())[:_SHOWN]]
    ]
    if len(others) > _SHOWN:
        lines.append(f"and {len(others) - _SHOWN} more arrays")
    if lines:
        listed = "\n  ".join(lines)
        raise CheckpointMismatchError(f"checkpoint {place} is of another run:\n  {listed}")
    return accepted
