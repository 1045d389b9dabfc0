"""What a run is made of: its state, and what it lets one look at."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class TrainState(NamedTuple):
    """What the next step needs, and nothing else."""

    params: Any
    """Weights, nested by layer."""
    model_state: Any
    """The net's other collections of variables, `{}` where it has none."""
    opt_state: Any
    """The optimizer's state."""
    generator: Any
    """Where randomness comes from: a `jaxnet.random.Generator` or a `jax.random.key`."""
    step: Any
    """Steps taken, an int32 scalar."""
    loader_generator: Any = None
    """The generator of a `DataLoader` that has its own."""


class StepInfo(NamedTuple):
    """What a step lets one look at; what is not looked at costs nothing in a compiled run."""

    loss: Any
    outputs: Any
    grads: Any
    updates: Any


class Report(NamedTuple):
    """The state of a run after an epoch."""

    epoch: int
    """Epochs done."""
    loss: float
    """Loss of the epoch's last step, before its update."""
    metrics: dict[str, float]
    """Mean of each metric over the rows, in evaluation mode, after the update; a hook may add."""


class History(NamedTuple):
    """What `fit` saw on the way."""

    losses: np.ndarray
    """Loss of every step before its update, shape (steps,)."""
    reports: tuple[Report, ...]
    compile_seconds: float
    """Drawing weights, tracing, compiling and one warm-up report; small where an earlier call
    left the programs in memory."""
    run_seconds: float
    """Training with its reports and hooks."""
    precision: str
    """How exactly it was computed, by its name in `jaxnet.precision`."""


class Chunk(NamedTuple):
    """What a hook is shown between two pieces of a run."""

    epoch: int
    """Epochs done."""
    epochs: int
    """Epochs asked for."""
    state: TrainState
    losses: np.ndarray
    """Loss of every step since the last call of the hooks."""
    report: Report | None
    """The report that ended this piece, if one did; its metrics are the history's own."""
    history: History
    """The whole run so far."""


Hook = Callable[[Chunk], Any]
