"""Looks into a torch run: the loss of every step, and at chosen steps everything else."""

import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from torchref.lecture import run


class Step(NamedTuple):
    """One step, seen between `backward` and the optimizer's `step`."""

    output: np.ndarray
    weights: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]


class Recorder:
    """A `watch` for `torchref.lecture`: `losses` of every step, `steps[i]` of those asked for."""

    def __init__(self, keep: Iterable[int] = ()) -> None:
        self.keep = frozenset(keep)
        self.losses: list[float] = []
        self.steps: dict[int, Step] = {}

    def __call__(self, net: torch.nn.Module, output: torch.Tensor, loss: torch.Tensor) -> None:
        """Copy what the step holds now: the next one overwrites it in place."""
        if (step := len(self.losses)) in self.keep:
            named = dict(net.named_parameters())
            self.steps[step] = Step(
                copy_array(output),
                {name: copy_array(weight) for name, weight in named.items()},
                {name: copy_array(weight.grad) for name, weight in named.items()},
            )
        self.losses.append(loss.item())


def copy_array(tensor: torch.Tensor | None) -> np.ndarray:
    """A NumPy copy that shares nothing with torch."""
    assert tensor is not None, "the tensor has no gradient yet: record after backward"
    return tensor.detach().cpu().numpy().copy()


class _Enough(Exception):
    """Ends a run that has shown what was asked."""


def record_first_step(name: str, dtype: torch.dtype, **options: Any) -> tuple[Step, float]:
    """The first step of one of the lecture's experiments, and its loss; the run ends there."""
    recorder = Recorder([0])

    def watch(*seen):
        recorder(*seen)
        raise _Enough

    with contextlib.suppress(_Enough):
        run(name, dtype=dtype, watch=watch, **options)
    return recorder.steps[0], recorder.losses[0]
