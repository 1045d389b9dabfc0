"""Epochs over rows that are read as they are needed, block by block."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax
import numpy as np

from jaxnet.batches import Batching, start_epoch
from jaxnet.cache import jit
from jaxnet.checks import committed_arrays
from jaxnet.placement import Layout
from jaxnet.precision import use
from jaxnet.rows import Rows, cut, place, prefetch
from jaxnet.state import TrainState
from jaxnet.steps import make_block

_begin = jit(start_epoch, static_argnums=1)


def make_stream(
    net: Any,
    loss: Callable,
    optimizer: Any,
    rows: Rows,
    batching: Batching,
    layout: Layout | None,
    state: TrainState,
) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
    """`run(state, epochs)`, which reads a block of batches while the last one is computed.

    The losses are (epochs * steps,). A block is some steps of one program; at most two are in
    memory, and the order of the rows. The programs of the blocks, of which there are at most three
    shapes, are compiled here, for states like `state`; nothing is read for that.
    """
    block: Any = make_block(net, loss, optimizer, layout)
    length = max(1, rows.block // batching.size)

    def load(take: Callable, indices: np.ndarray, device: Any) -> tuple[jax.Array, jax.Array]:
        """The batches of (steps, rows of a step) indices, where they are computed."""
        with use(rows.precision):  # a thread has JAX's settings of its own
            where = device if layout is None else layout.rows(indices.shape[1], axis=1)
            return place(take, indices, where)

    blocks = plan_blocks(np.zeros(batching.rows, np.int32), batching, length)
    for indices in {indices.shape: indices for indices in blocks}.values():
        block.lower(state, *load(rows.blank, indices, _find_device(state))).compile()
    _begin.lower(_get_source(state, batching), batching).compile()

    def run(state: TrainState, epochs: int) -> tuple[TrainState, np.ndarray]:
        losses, device = [], _find_device(state)
        for _ in range(epochs):
            generator, order = _begin(_get_source(state, batching), batching)
            state = state._replace(**{_name_source(batching): generator})
            order = np.arange(batching.rows) if order is None else np.asarray(order)
            blocks = plan_blocks(order, batching, length)
            with closing(prefetch(lambda part: load(rows.take, part, device), blocks)) as loaded:
                for x, y in loaded:
                    state, values = block(state, x, y)
                    losses.append(np.asarray(values))  # waits, so that no third block is read
                    del x, y
        return state, np.concatenate(losses)

    return run


def plan_blocks(order: np.ndarray, batching: Batching, length: int) -> list[np.ndarray]:
    """The rows of each block of at most `length` steps, (steps, rows of a step).

    >>> [block.tolist() for block in plan_blocks(np.array([4, 1, 3, 0, 2]), Batching(5, 2), 9)]
    [[[4, 1], [3, 0]], [[2]]]
    """
    ends = batching.full * batching.size
    whole = order[:ends].reshape(batching.full, batching.size)
    blocks = [whole[part.start : part.stop] for part in cut(batching.full, length)]
    return [*blocks, order[None, ends:]] if batching.left else blocks


def _name_source(batching: Batching) -> str:
    return "loader_generator" if batching.own else "generator"


def _get_source(state: TrainState, batching: Batching) -> Any:
    return getattr(state, _name_source(batching))


def _find_device(state: TrainState) -> Any:
    """Where the state was put, if that is one device: the rows go there too."""
    for array in committed_arrays(state):
        if isinstance(array.sharding, jax.sharding.SingleDeviceSharding):
            return array.sharding
    return None
