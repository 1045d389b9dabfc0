"""The state of a run, and the history that it records."""

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
    """What a step computed besides the new state; a compiled run does not compute unused fields."""

    loss: Any
    outputs: Any
    grads: Any
    updates: Any


class Report(NamedTuple):
    """Loss and metrics of a run after an epoch."""

    epoch: int
    """Epochs done."""
    loss: float
    """Loss of the epoch's last step, before its update."""
    metrics: dict[str, float]
    """Mean of each metric over the rows, in evaluation mode, after the update; callbacks may add
    others."""


class History(NamedTuple):
    """Losses, reports and seconds of a run."""

    losses: np.ndarray
    """Loss of every step before its update, shape (steps,)."""
    reports: tuple[Report, ...]
    compile_seconds: float
    """Drawing weights, tracing, compiling and one warm-up report; small where an earlier call
    left the programs in memory."""
    run_seconds: float
    """Training with its callbacks."""
    precision: str
    """How exactly it was computed, by its name in `jaxnet.precision`."""


def check_state(state: Any, name: str = "state") -> None:
    """Reject anything but a `TrainState`."""
    if not isinstance(state, TrainState):
        raise TypeError(f"{name} must be a TrainState, not {type(state).__name__}")
