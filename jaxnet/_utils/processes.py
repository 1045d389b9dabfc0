"""A run in many processes, connected by `jax.distributed.initialize`: who writes, who agrees."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_primary() -> bool:
    """Whether this process is the one that prints and writes; true where there is only one.

    >>> is_primary()
    True
    """
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether it holds in any process; a collective: every process calls it, in the same order.

    >>> any_process(False)
    False
    """
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array([flag]))))


def broadcast_from_primary(value: int) -> int:
    """The integer that process 0 has; a collective.

    >>> broadcast_from_primary(3)
    3
    """
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def barrier(name: str) -> None:
    """Wait until every process is here.

    >>> barrier("saved")
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def fetch(values: Any) -> np.ndarray:
    """An array as NumPy has it, also one that is sharded over processes: then a collective.

    >>> print(fetch(np.ones(2)))
    [1. 1.]
    """
    if isinstance(values, jax.Array) and not (
        values.is_fully_addressable or values.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(values, tiled=True))
    return np.asarray(values)


def check_same(values: Mapping[str, str]) -> None:
    """Reject what differs between processes, by its name; a collective.

    >>> check_same({"epochs": "3"})
    """
    if jax.process_count() == 1:
        return
    for name, value in values.items():
        mine = np.zeros(256, np.uint8)
        text = value.encode()[:256]
        mine[: len(text)] = np.frombuffer(text, np.uint8)
        theirs = multihost_utils.process_allgather(mine)
        for number, other in enumerate(theirs):
            if not np.array_equal(other, theirs[0]):
                first, said = (
                    bytes(row).rstrip(b"\0").decode(errors="replace") for row in (theirs[0], other)
                )
                raise ValueError(
                    f"{name} must be the same in every process, but process {number} has "
                    f"{said:.80} and process 0 has {first:.80}"
                )
