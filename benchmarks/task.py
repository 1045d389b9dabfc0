"""What every contestant is given, and what it gives back: the lecture's `minibatch`, in order."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Params = Mapping[str, np.ndarray]
"""`0.weight` (32, 784), `0.bias` (32,), `3.weight` (1, 32), `3.bias` (1,), as torch has them."""


class Task(NamedTuple):
    """Training 784-32-1 (Dropout, ReLU, Sigmoid; BCE; plain SGD) in batches, in the rows' order."""

    x: np.ndarray
    """(n, 784), float32."""
    y: np.ndarray
    """(n, 1), float32: 0 or 1."""
    params: Params
    """Initial weights, torch's from `seed`."""
    p: float = 0.5
    """Probability of dropping a hidden unit, before the ReLU; 0 for none."""
    lr: float = 1e-3
    batch_size: int = 16
    epochs: int = 2
    seed: int = 1

    @property
    def steps(self) -> int:
        """Of the whole run; the last batch of an epoch takes the rows that are left."""
        return self.epochs * -(-len(self.x) // self.batch_size)


class Trained(NamedTuple):
    """What a run leaves: the trained weights, and each step's loss where the contestant has it."""

    params: Params
    losses: np.ndarray | None = None


Prepared = tuple[Callable[[], Any], Callable[[Any], Trained]]
"""A function that trains from `task.params`, again and again, and returns when the work is done;
and one that reads what it left, apart, so that copying weights out is not timed."""


class Missing(Exception):
    """A contestant cannot run here; says what it would need."""


class Contestant(NamedTuple):
    """One way to train the task; what `prepare` gives compiles at its first call."""

    name: str
    """As the table prints it, at most 34 characters."""
    form: str
    """"lecture" for a Python loop over steps, "fast" for the fastest idiomatic form."""
    prepare: Callable[[Task], Prepared]
    threads: int = 1
    """How many threads it may use."""
    stream: str = "own"
    """Whose dropout masks: "torch" for those of torch's CPU generator, "own", or "none"."""
