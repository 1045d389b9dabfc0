"""A run in many processes, connected by `jax.distributed.initialize`: who writes, what is equal."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_SHOWN = 80  # bytes of what differs


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


def check_same(values: Mapping[str, str]) -> None:
    """Reject what differs between processes, by its name; a collective."""
    if jax.process_count() == 1:
        return
    for name, value in values.items():
        # Arrays alone can be gathered: a digest decides, and the beginning is what is shown.
        text = hashlib.sha256(value.encode()).digest() + value.encode()[:_SHOWN]
        mine = np.frombuffer(text.ljust(32 + _SHOWN, b"\0"), np.uint8)
        theirs = multihost_utils.process_allgather(mine)
        for number, other in enumerate(theirs):
            if not np.array_equal(other, theirs[0]):
                shown = [bytes(words[32:]).rstrip(b"\0") for words in (other, theirs[0])]
                there, here = (text.decode(errors="replace") for text in shown)
                raise ValueError(
                    f"{name} must be the same in every process, but process {number} has "
                    f"{there} and process 0 has {here}"
                )
