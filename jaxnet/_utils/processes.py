"""A run in many processes, connected by `jax.distributed.initialize`: who writes, what is equal."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_Given = TypeVar("_Given")


def is_primary() -> bool:
    """Whether this process is the one that prints and writes; true where there is only one."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether it holds in any process; a collective: every process calls it, in the same order."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array([flag]))))


def broadcast_from_primary(value: int) -> int:
    """The integer that process 0 has; a collective."""
    if jax.process_count() == 1:
        return value
    # In two words: without x64 JAX has 32 bits for each.
    high, low = multihost_utils.broadcast_one_to_all(np.array(divmod(value, 2**31), np.int32))
    return int(high) * 2**31 + int(low)


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def fetch(values: Any) -> np.ndarray:
    """An array as NumPy has it, also one that is sharded over processes: then a collective."""
    if isinstance(values, jax.Array) and not (
        values.is_fully_addressable or values.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(values, tiled=True))
    return np.asarray(values)


def gather_texts(text: str) -> list[str]:
    """What each process says; a collective."""
    if jax.process_count() == 1:
        return [text]
    # Arrays of one shape alone can be gathered.
    words = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(words)))
    padded = np.zeros(max(1, *sizes), np.uint8)
    padded[: len(words)] = words
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def run_on_primary(function: Callable[[], _Given]) -> _Given | None:
    """What a function gives in process 0, None elsewhere; a collective.

    What it raises there ends the call in every process, so that none waits for it.
    """
    given, failure = None, None
    if is_primary():
        try:
            given = function()
        except Exception as error:  # of whatever kind
            failure = error
    said = "" if failure is None else f"{type(failure).__name__}: {failure}"
    (said, *_) = gather_texts(said)
    if failure is not None:
        raise failure
    if said:
        raise OSError(f"process 0 failed: {said}")
    return given
