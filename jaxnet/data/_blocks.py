"""Blocks of examples: read ahead in a thread, and placed on devices."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def split_range(count: int, size: int) -> list[range]:
    """`range(count)` in consecutive ranges of at most `size`."""
    return [range(begin, min(begin + size, count)) for begin in range(0, count, size)]


def prefetch(
    make: Callable[[_Item], _Made], items: Iterable[_Item]
) -> Generator[_Made, None, None]:
    """What `make` makes of each item, the next one in a thread while the last one is used.

    An error of `make` is raised where its item is due. The thread ends with the iterator, which
    waits for the item under way.
    """
    pool = ThreadPoolExecutor(1, "jaxnet-examples")
    try:
        coming = None
        for item in items:
            last, coming = coming, pool.submit(make, item)
            if last is not None:
                yield last.result()
                del last  # its result would stay with it
        if coming is not None:
            yield coming.result()
    finally:
        pool.shutdown(cancel_futures=True)


def place_batches(
    take: Callable[[np.ndarray], Any], indices: np.ndarray, sharding: Any = None
) -> Any:
    """The examples that an array of indices names, (*indices.shape, *example), on the device.

    With a sharding of the indices, they are placed as it says. Each shard is read once, and of what
    is placed on another process's devices, nothing is. Nobody else holds the arrays: JAX may use
    their memory without a copy.
    """

    def take_part(part: np.ndarray) -> Any:
        batch = take(part.reshape(-1))
        return jax.tree.map(lambda a: a.reshape(*part.shape, *a.shape[1:]), batch)

    if sharding is None:
        return jax.device_put(take_part(indices))
    where = sharding.addressable_devices_indices_map(indices.shape)
    parts = {str(index): index for index in where.values()}  # slices are no keys
    read = {name: jax.tree.flatten(take_part(indices[index])) for name, index in parts.items()}
    leaves, tree = next(iter(read.values()))
    made = [
        jax.make_array_from_single_device_arrays(
            (*indices.shape, *values.shape[indices.ndim :]),
            sharding,
            [jax.device_put(read[str(index)][0][at], device) for device, index in where.items()],
        )
        for at, values in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, made)
