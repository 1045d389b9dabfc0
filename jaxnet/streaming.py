"""Epochs over rows that are read as they are needed, block by block."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnet.batches import Batching, start_epoch
from jaxnet.placement import Layout
from jaxnet.precision import Precision, use
from jaxnet.rows import BLOCK, Rows, cut, prefetch, put_pieces
from jaxnet.state import TrainState
from jaxnet.steps import make_block


def make_stream(
    net: Any,
    loss: Callable,
    optimizer: Any,
    rows: Rows,
    batching: Batching,
    layout: Layout | None,
    precision: Precision,
) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
    """`run(state, epochs)`, which reads a block of batches while the last one is computed.

    The losses are (epochs * steps,). A block is some steps of one program; at most two are in
    memory, and the order of the rows. Each of at most three shapes of blocks is compiled at its
    first use.
    """
    block = make_block(net, loss, optimizer, layout)
    length = max(1, BLOCK // max(1, rows.bytes * batching.size))

    def plan(order: np.ndarray) -> list[np.ndarray]:
        """The rows of each block, (steps, rows of a step)."""
        ends = batching.full * batching.size
        whole = order[:ends].reshape(batching.full, batching.size)
        blocks = [whole[part.start : part.stop] for part in cut(batching.full, length)]
        if batching.left:
            blocks.append(order[None, ends:])
        return blocks

    def read(indices: np.ndarray) -> Any:
        with use(precision):  # a thread has JAX's settings of its own
            shardings = None
            if layout is not None:
                shardings = (layout.rows(indices.shape[1], axis=1),) * 2
            return put_pieces(rows, indices, shardings)

    begin = jax.jit(start_epoch, static_argnums=1)

    def run(state: TrainState, epochs: int) -> tuple[TrainState, np.ndarray]:
        losses = []
        for _ in range(epochs):
            source = "loader_generator" if batching.own else "generator"
            generator, order = begin(getattr(state, source), batching)
            state = state._replace(**{source: generator})
            order = np.arange(batching.rows) if order is None else np.asarray(order)
            for x, y in prefetch(read, plan(order)):
                state, values = block(state, x, y)
                losses.append(np.asarray(values))  # waits, so that no third block is read
        return state, np.concatenate(losses) if losses else np.zeros(0, np.float32)

    return run
