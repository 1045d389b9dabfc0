"""A run whose arguments were checked, with its arrays placed on devices."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnet._utils.descriptions import describe
from jaxnet._utils.differences import check_same
from jaxnet._utils.digests import digest_array, name_seed
from jaxnet._utils.validation import check_count, check_stream
from jaxnet.data.loader import Batching, batching_of
from jaxnet.precision import Precision, as_array, use
from jaxnet.random.mt19937 import check_generator
from jaxnet.train._checks import check_types, count_epochs
from jaxnet.train.epoch import Draw, Program, begin_epoch, make_runner
from jaxnet.train.sharding import Placement
from jaxnet.train.state import History, TrainState
from jaxnet.train.step import TrainStep


@dataclass
class Run:
    """A run whose arguments were checked: what callbacks get at its start and its end."""

    program: Program
    source: Any
    batching: Batching
    epochs: int
    """Epochs asked for, those of `history` among them."""
    state: TrainState
    history: History
    precision: Precision
    seed: Any
    parts: Mapping[str, Any]
    """What its step is made of, or what the caller says that identifies it."""
    error: BaseException | None = None
    saved_in: Any = None
    """The folder in which the end of the run is saved, if it is."""
    digest: list[str] | None = None
    """Of the data, where it was taken before they were sharded over processes."""
    begun: list[str] | None = None
    """Of the first state, likewise."""
    notes: tuple[dict[str, Any], ...] = ()
    """What the callbacks' `describe` gave."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history.losses) // self.batching.steps

    def make_runner(self) -> Callable[[TrainState, int], tuple[TrainState, np.ndarray]]:
        """`train(state, epochs)`, compiled: the state after so many epochs, and every loss."""
        with use(self.precision):
            train = make_runner(self.program, self.source, self.batching, self.state)
        return use(self.precision)(train)

    def iterate(self, state: TrainState) -> Generator[tuple[np.ndarray, Any, Any, Any], None, None]:
        """One epoch, step by step: indices, batch, draws and (state before, state after, info)."""
        program, batching = self.program, self.batching
        step = jax.jit(program.step)
        with use(self.precision):
            # Draw by draw what the compiled epoch drew: the same generator, in the same order.
            state, order = begin_epoch(state, batching)
            order = np.arange(batching.num_examples) if order is None else np.asarray(order)
            for number in range(batching.steps):
                rows = order[number * batching.size :][: batching.size]
                batch = program.layout.gather(self.source.take(rows))
                state, draws = program.draw_step(state, len(rows))
                after, info = step(state, batch, draws)
                yield rows, batch, draws, (state, after, info)
                state = after

    def describe(self) -> dict[str, Any]:
        """What identifies a run, beside its arrays' shapes; JSON can hold it."""
        begin = f"a state at step {self.state.step}" if self.seed is None else name_seed(self.seed)
        about = {name: describe(part) for name, part in self.parts.items()} | {
            "data": self.source.digest() if self.digest is None else self.digest,
            "batches": describe(self.batching),
            "seed": begin,
            "precision": self.precision,
        }
        for note in self.notes:
            about |= note
        return about

    def check_same(self) -> None:
        """Reject a run that is not the same in every process, where many train it."""
        layout = self.program.layout
        if layout.shared:
            about = {"epochs": self.epochs, "placement": layout.mesh.shape} | self.describe()
            check_same(about | {"the state": " ".join(self.begun or [])})


def name_parts(step: Callable, draw: Draw | None) -> dict[str, Any]:
    """What a step is made of, which identifies a run."""
    if isinstance(step, TrainStep):
        return {"net": step.net, "loss": step.loss, "optimizer": step.optimizer}
    return {"step": step, "draw": draw}


def prepare(
    steps: tuple[Callable, Draw | None],
    started: tuple[TrainState, History],
    loader: Any,
    epochs: int,
    precision: Precision,
    placement: Placement,
    seed: Any,
    parts: Mapping[str, Any],
) -> Run:
    """Check that the arguments fit each other, and place state and data on devices."""
    state, past = started
    check_stream(state.generator)
    check_types(state, precision)
    epochs = check_count("epochs", epochs)
    batching = batching_of(loader)
    count_epochs(past, batching.steps, epochs)
    with use(precision), placement.host():
        state = _attach_generator(state, loader.generator)
        begun = state
        state, source, layout = placement.place(state, loader.data, batching)
    past = past._replace(precision=precision)
    run = Run(
        Program(*steps, layout), source, batching, epochs, state, past, precision, seed, parts
    )
    if layout.shared:
        # Before they are sharded: afterwards a digest would gather all of them in every process.
        run.digest = loader.data.digest()
        # What is sharded over processes is not compared.
        run.begun = [
            digest_array(leaf)
            for leaf in jax.tree.leaves(begun)
            if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        ]
    return run


def _attach_generator(state: TrainState, generator: Any) -> TrainState:
    """The state with the loader's own generator, where there is one and the state has none yet."""
    if generator is None:
        return state
    check_generator(generator)
    if state.loader_generator is None:
        return state._replace(loader_generator=jax.tree.map(as_array, generator))
    if not np.array_equal(state.loader_generator.seed, generator.seed):
        raise ValueError(
            "state has the generator of a loader with another seed: with "
            "state._replace(loader_generator=None), this DataLoader's generator begins"
        )
    return state
