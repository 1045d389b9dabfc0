"""A run as named arrays and a record of plain values, with a digest: what a checkpoint holds."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.hosts import fetch
from jaxnet.placement import put
from jaxnet.random import Generator
from jaxnet.state import History, Report, TrainState

FORMAT = 1
_LOSSES = "losses"


class Damaged(ValueError):
    """A checkpoint that cannot be read as it was written."""


def pack(
    state: TrainState, history: History, about: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A run's arrays by name, and its record with the digest of both."""
    arrays = {name: as_array(leaf) for name, leaf in name_leaves(state).items()}
    record = {
        "format": FORMAT,
        "about": about,
        "arrays": describe(arrays),
        "reports": [_plain(report) for report in history.reports],
        "run_seconds": history.run_seconds,
        "precision": history.precision,
    }
    arrays[_LOSSES] = np.asarray(history.losses)
    record = json.loads(json.dumps(record))
    return arrays, record | {"digest": _digest(arrays, record)}


def _plain(report: Report) -> list[Any]:
    """A report whose metrics are Python's numbers, whatever a hook added."""
    values = {name: np.asarray(value).item() for name, value in report.metrics.items()}
    return [report.epoch, report.loss, values]


def check(arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    """Refuse, as Damaged, what is not what `pack` gave."""
    if record.get("format") != FORMAT:
        raise Damaged(f"its format is {record.get('format')!r}, expected {FORMAT}")
    rest = {name: value for name, value in record.items() if name != "digest"}
    if record.get("digest") != _digest(arrays, rest):
        raise Damaged("its SHA-256 digest is not that of its contents")


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
    """A state's arrays by where they stand in it.

    >>> list(name_leaves(TrainState({"0": {"bias": 1.0}}, {}, (), (), 0)))
    ["params['0']['bias']", 'step']
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path).removeprefix("."): leaf for path, leaf in leaves}


def describe(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Type and shape of each array."""
    found = {name: _as_words(leaf) for name, leaf in arrays.items()}
    found = {name: a if hasattr(a, "dtype") else np.asarray(a) for name, a in found.items()}
    return {name: f"{array.dtype} {array.shape}" for name, array in found.items()}


def as_array(leaf: Any) -> np.ndarray:
    """An array of the state as NumPy has it, of a key its words; called by every process."""
    return fetch(_as_words(leaf))


def _as_words(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf


def _as_leaf(array: np.ndarray, like: Any) -> Any:
    """The array where `like` lies, and of its kind."""
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
        return put(key, like.sharding) if like.committed else key
    if not isinstance(like, jax.Array):
        return jnp.asarray(array)
    return put(array, like.sharding) if like.committed else jnp.asarray(array)


def digest_array(values: Any) -> str:
    """SHA-256 of an array's type, shape and bytes.

    >>> digest_array(np.zeros(2, np.float32))[:8]
    '4016bdf5'
    """
    array = as_array(values)
    digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # bfloat16 too
    return digest.hexdigest()


def _digest(arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> str:
    parts = {name: digest_array(array) for name, array in arrays.items()}
    whole = json.dumps([parts, record], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def name_net(net: Any) -> str:
    """A net as it prints, without the addresses that differ from process to process."""
    return strip_addresses(repr(net))


def strip_addresses(text: str) -> str:
    """A text the same in every process.

    >>> strip_addresses("<function f at 0x7f00>")
    '<function f>'
    """
    return re.sub(r"( at )?0x[0-9a-f]+", "", text)


def name_function(function: Any) -> str:
    """A function's name and, of a partial, its arguments; the same in every process.

    >>> name_function(partial(name_function, 3))
    'jaxnet.archive.name_function(3)'
    """
    if isinstance(function, partial):
        arguments = [repr(value) for value in function.args]
        arguments += [f"{name}={value!r}" for name, value in function.keywords.items()]
        return f"{name_function(function.func)}({', '.join(arguments)})"
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else type(function).__name__


def digest_text(text: str) -> str:
    """What tells texts apart that may hold addresses, which differ from process to process.

    >>> digest_text("f at 0x7f00") == digest_text("f at 0x7f80")
    True
    """
    return hashlib.sha256(strip_addresses(text).encode()).hexdigest()


def name_seed(seed: Any) -> int | str:
    """A seed as a number, or a key's words.

    >>> import jaxnet
    >>> name_seed(jaxnet.random.manual_seed(2**40))
    1099511627776
    """
    if isinstance(seed, Generator):
        low, high = (int(word) for word in seed.seed)
        return high << 32 | low
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return f"jax.random.key {jax.random.key_data(seed).tolist()}"
    return int(seed)


def list_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two descriptions say otherwise, a line each.

    >>> list_differences({"seed": 1, "rows": 9}, {"seed": 2, "rows": 9})
    ['seed: 1 in the checkpoint, 2 in this run']
    """
    lines = []
    for name in [*saved, *(name for name in now if name not in saved)]:
        before, after = saved.get(name, "nothing"), now.get(name, "nothing")
        if before != after and not _cannot_be_compared(before, after):
            before, after = _part(before, after)
            lines.append(f"{name}: {before} in the checkpoint, {after} in this run")
    return lines


def _cannot_be_compared(before: Any, after: Any) -> bool:
    """Whether two versions of JAX wrote the same computation, each in its own way."""
    both = isinstance(before, Mapping) and isinstance(after, Mapping)
    return both and before.get("jax") != after.get("jax")


def _part(before: Any, after: Any) -> tuple[str, str]:
    """Two values, of longer texts their first lines that differ."""
    texts = [str(value).splitlines() or [""] for value in (before, after)]
    shorter = min(map(len, texts))
    at = next((i for i in range(shorter) if texts[0][i] != texts[1][i]), shorter)
    first, second = ((text[at] if at < len(text) else "nothing").strip() for text in texts)
    return first, second
