"""The state of a run, and the history that it records."""

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

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


class Reports(Sequence[Report]):
    """Reports that grow: adding one costs no copy of the others, which nobody may change.

    Equal to a tuple of the same; what was given out before stays as it was.

    >>> first = Reports().add(Report(1, 0.5, {}))
    >>> len(first.add(Report(2, 0.25, {}))), len(first), first == (Report(1, 0.5, {}),)
    (2, 1, True)
    """

    def __init__(self, reports: Sequence[Report] = ()):
        self._all, self._count = list(reports), len(reports)

    def add(self, report: Report) -> "Reports":
        """These and one more."""
        made = object.__new__(type(self))
        # Two may be added to the same: the second needs a list of its own.
        made._all = self._all if len(self._all) == self._count else self._all[: self._count]
        made._all.append(report)
        made._count = self._count + 1
        return made

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Report: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Report, ...]: ...

    def __getitem__(self, index: int | slice) -> Report | tuple[Report, ...]:
        places = range(self._count)[index]
        return self._all[places] if isinstance(places, int) else tuple(self._all[i] for i in places)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)


class History(NamedTuple):
    """Losses, reports and seconds of a run."""

    losses: np.ndarray
    """Loss of every step before its update, shape (steps,)."""
    reports: Sequence[Report]
    """A tuple where the run has ended."""
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
