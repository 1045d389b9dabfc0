"""Epochs as compiled programs: the one scan over training steps, with pre-sampled draws."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.cache import jit, memoize
from jaxnet.data._blocks import place_batches, prefetch, split_range
from jaxnet.data.loader import Batching, start_epoch
from jaxnet.precision import use
from jaxnet.train.state import TrainState

LOSSES = 2**14
"""Losses that a call of a run's program has room for, 64 KiB of them: a longer run is several
calls, and no number of epochs compiles anything anew."""

DRAWN = 2**25
"""Bytes of draws that are made ahead of their steps: one long draw is faster than many short ones
and compiles sooner, but it takes memory."""

Draw = Callable[[Any, int, int], tuple[Any, Any]]
"""`draw(generator, steps, batch_size) -> (draws, generator)`, each draw with an axis of steps."""


@dataclass(frozen=True)
class Program:
    """What a run computes, equal by value: a step, what it draws, and where arrays are placed."""

    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    """`step(state, batch, draws) -> (state, info)`."""
    draw: Draw | None
    layout: Any

    def run_steps(
        self, state: Any, batches: Any, fetch: Callable[[Any], Any], batch_size: int
    ) -> tuple[Any, jax.Array]:
        """Consecutive steps of one batch size; draws are made for as many as `DRAWN` holds.

        Args:
          state: before the first of them.
          batches: what `fetch` makes each batch of, a pytree with a leading axis of steps.
          fetch: gives a batch: gathers rows in memory, is the identity where they are streamed.
          batch_size: examples of a batch.
        """
        steps = len(jax.tree.leaves(batches)[0])
        # Draws are made for `size` steps at a time, then for the steps that remain. Where all draws
        # fit, which is the rule, they are made once.
        size = min(steps, self._count_ahead(state, batch_size))
        run = partial(self._scan_steps, fetch=fetch, batch_size=batch_size)
        whole = steps - steps % size
        losses = []
        if whole > size:
            cut = jax.tree.map(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), batches)
            state, first = lax.scan(run, state, cut)
            losses.append(first.reshape(-1))
            batches = jax.tree.map(lambda a: a[whole:], batches)
        if whole == size:
            state, first = run(state, jax.tree.map(lambda a: a[:size], batches))
            losses.append(first)
            batches = jax.tree.map(lambda a: a[size:], batches)
        if steps > whole:
            state, last = run(state, batches)
            losses.append(last)
        return state, losses[0] if len(losses) == 1 else jnp.concatenate(losses)

    def _scan_steps(
        self, state: Any, batches: Any, fetch: Callable[[Any], Any], batch_size: int
    ) -> tuple[Any, jax.Array]:
        """The scan over training steps, all of whose draws are made first."""
        draws = None
        if self.draw is not None:
            # On a mesh, drawn in full as one device would, and sharded with the examples later.
            steps = len(jax.tree.leaves(batches)[0])
            draws, generator = self.draw(state.generator, steps, batch_size)
            draws = self.layout.replicate(draws)
            state = state._replace(generator=generator)

        def body(state, turn):
            batch, drawn = turn
            # Sharded here and not before: the gather of rows, too, is then each device's own.
            batch, drawn = self.layout.shard_batch((fetch(batch), drawn), batch_size)
            state, info = split_step(self.step(state, batch, drawn))
            return self.layout.keep(state), get_loss(info)

        return lax.scan(body, state, (batches, draws))

    def draw_step(self, state: Any, batch_size: int) -> tuple[Any, Any]:
        """The state after what one step draws, and the draws, without an axis of steps."""
        if self.draw is None:
            return state, None
        draws, generator = self.draw(state.generator, 1, batch_size)
        draws = jax.tree.map(lambda values: values[0], draws)
        return state._replace(generator=generator), draws

    def _count_ahead(self, state: Any, batch_size: int) -> int:
        """For how many steps `DRAWN` bytes hold the draws, at least one."""
        draw = self.draw
        if draw is None:
            return 2**31
        shapes = jax.eval_shape(lambda g: draw(g, 1, batch_size)[0], state.generator)
        needs = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(shapes))
        return max(1, DRAWN // needs) if needs else 2**31


def split_step(made: Any) -> tuple[Any, Any]:
    """What a step gave, `(state, info)`; a TypeError where it is something else."""
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"step must give (state, info), not {made!r:.60}")
    return made


def get_loss(info: Any) -> Any:
    """A step's loss, which `info` is or has: as an attribute, or under "loss".

    >>> get_loss({"loss": 0.5})
    0.5
    """
    loss = info.get("loss") if isinstance(info, dict) else getattr(info, "loss", info)
    if loss is None or jnp.shape(loss) != ():
        raise TypeError(
            "step must give (state, info), where info is the loss or has it, as info.loss or "
            f"info['loss'], a scalar; not {info!r:.60}"
        )
    return loss


def begin_epoch(state: Any, batching: Batching) -> tuple[Any, Any]:
    """The state after the draws that begin an epoch, and its examples' order; None: as stored."""
    source = "loader_generator" if batching.own else "generator"
    generator, order = start_epoch(getattr(state, source), batching, state.step == 0)
    return state._replace(**{source: generator}), order


def make_epochs(program: Program, batching: Batching, capacity: int) -> Callable:
    """`run(state, arrays, epochs)`, pure: the state after so many epochs in memory, and the losses.

    The losses are (capacity, steps). The number of epochs is an argument, not a constant: the loop
    has the same machine code however the run is cut, and so the same results, bit for bit.
    """

    @partial(jax.jit, inline=True)  # traced once, though it is called twice
    def run_epoch(state, arrays):
        state, order = begin_epoch(state, batching)

        def fetch(begin, count):
            # Rows that are consecutive are sliced, which copies them; a gather looks each one up.
            if order is None:
                return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, begin, count), arrays)
            rows = lax.dynamic_slice_in_dim(order, begin, count)
            # An order is a permutation: no index is out of bounds, and none needs to be checked.
            return jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), arrays)

        size, left = batching.size, batching.left
        begins = jnp.arange(batching.full, dtype=jnp.int32) * size
        state, losses = program.run_steps(state, begins, partial(fetch, count=size), size)
        if left:
            last = jnp.full(1, batching.full * size, jnp.int32)
            state, rest = program.run_steps(state, last, partial(fetch, count=left), left)
            losses = jnp.append(losses, rest)
        return state, losses

    def run(state, arrays, epochs):
        shape = jax.eval_shape(run_epoch, state, arrays)[1]

        def epoch(index, carry):
            state, losses = carry
            state, row = run_epoch(state, arrays)
            return state, lax.dynamic_update_index_in_dim(losses, row, index, 0)

        # Of a constant length: neither the number of epochs nor that of a report is compiled in.
        losses = program.layout.replicate(jnp.zeros((capacity, *shape.shape), shape.dtype))
        state, losses = lax.fori_loop(0, epochs, epoch, (state, losses))
        # What leaves the program would else be sharded as the compiler likes, and the next call
        # would be compiled anew for it.
        return program.layout.keep(state), program.layout.replicate(losses)

    return run


@memoize
def _compile_epochs(program: Program, batching: Batching, capacity: int) -> Any:
    return jax.jit(make_epochs(program, batching, capacity))


@memoize
def _compile_block(program: Program) -> Any:
    """`block(state, batches)`: a step for each of the stacked batches, as they were streamed."""

    def block(state, batches):
        batch_size = jax.tree.leaves(batches)[0].shape[1]
        state, losses = program.run_steps(state, batches, lambda batch: batch, batch_size)
        return program.layout.keep(state), program.layout.replicate(losses)

    return jax.jit(block)


def count_capacity(batching: Batching) -> int:
    """Epochs whose losses a call has room for.

    >>> count_capacity(Batching(12665, None)), count_capacity(Batching(12665, 16))
    (16384, 20)
    """
    return max(1, LOSSES // batching.steps)


def make_runner(
    program: Program, source: Any, batching: Batching, state: TrainState
) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
    """`run(state, epochs)`, compiled: the state after so many epochs, and every step's loss."""
    make = _make_streamed if source.streamed else _make_in_memory
    return make(program, source, batching, state)


def _make_in_memory(program: Program, source: Any, batching: Batching, state: Any) -> Callable:
    capacity = count_capacity(batching)
    run = _compile_epochs(program, batching, capacity)
    run.lower(state, source.arrays, 1).compile()  # what the calls will find

    def run_epochs(state, epochs):
        losses = []
        for part in split_range(epochs, capacity):
            state, found = run(state, source.arrays, len(part))
            losses.append(np.asarray(found)[: len(part)].reshape(-1))
        return state, np.concatenate(losses)

    return run_epochs


_begin = jit(
    lambda generator, step, batching: start_epoch(generator, batching, step == 0), static_argnums=2
)


def _make_streamed(program: Program, source: Any, batching: Batching, state: Any) -> Callable:
    """Reads a block of batches while the last one is computed.

    A block is some steps of one program; at most two are in memory, and the order of the examples.
    The programs of the blocks, of which there are at most three shapes, are compiled here; nothing
    is read for that.
    """
    block = _compile_block(program)
    length = max(1, source.block // batching.size)
    name = "loader_generator" if batching.own else "generator"

    find_sharding = program.layout.find_shardings(state)

    def load(take: Callable, indices: np.ndarray) -> Any:
        with use(source.precision):  # a thread has JAX's settings of its own
            return place_batches(take, indices, find_sharding(indices.shape[1]))

    blocks = plan_blocks(np.zeros(batching.num_examples, np.int32), batching, length)
    for indices in {indices.shape: indices for indices in blocks}.values():
        block.lower(state, load(source.blank, indices)).compile()
    _begin.lower(getattr(state, name), state.step, batching).compile()

    def run_epochs(state, epochs):
        losses = []
        for _ in range(epochs):
            generator, order = _begin(getattr(state, name), state.step, batching)
            state = state._replace(**{name: generator})
            order = np.arange(batching.num_examples) if order is None else np.asarray(order)
            blocks = plan_blocks(order, batching, length)
            with closing(prefetch(partial(load, source.take), blocks)) as loaded:
                for batches in loaded:
                    state, values = block(state, batches)
                    losses.append(np.asarray(values))  # waits, so that no third block is read
                    del batches
        return state, np.concatenate(losses)

    return run_epochs


def plan_blocks(order: np.ndarray, batching: Batching, length: int) -> list[np.ndarray]:
    """The examples of each block of at most `length` steps, (steps, batch size).

    >>> [block.tolist() for block in plan_blocks(np.array([4, 1, 3, 0, 2]), Batching(5, 2), 9)]
    [[[4, 1], [3, 0]], [[2]]]
    """
    ends = batching.full * batching.size
    whole = order[:ends].reshape(batching.full, batching.size)
    blocks = [whole[part.start : part.stop] for part in split_range(batching.full, length)]
    return [*blocks, order[None, ends:]] if batching.left else blocks
