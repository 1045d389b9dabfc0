"""How far rounding alone takes torch's own run: the run again, from weights and rows moved by an
ulp."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import EPS
from torchref.plan import Loop, Plan, Snapshot, train
from torchref.recorder import Named, copy_named

_MOVED, _TURNED = 3, 4  # `Drowned.turn` has so many kinds
"""Runs from weights and rows that were moved by an ulp, and of these with other signs where
rounding decides the sign of a gradient."""


class Drowned(NamedTuple):
    """Elements of a gradient that rounding may put on either side of 0."""

    name: str
    where: np.ndarray
    """The elements, counted row by row."""
    ours: np.ndarray
    """What rounding has left there in the port."""
    theirs: np.ndarray
    """And in torch."""
    bound: np.ndarray

    def turn(self, parameter: torch.Tensor, kind: int, generator: torch.Generator) -> None:
        """Put there what rounding may leave: an optimizer may divide by its size."""
        up = torch.rand(len(self.where), generator=generator) < 0.5
        drawn = np.where(up.numpy(), self.bound, -self.bound) / bounds.DRAWN
        left = torch.from_numpy((self.ours, -self.theirs, drawn, drawn)[kind])
        if parameter.grad is not None:
            parameter.grad.put_(torch.from_numpy(self.where), left.to(parameter.dtype))


class Run(NamedTuple):
    """A run's losses, and its last weights and buffers."""

    losses: np.ndarray
    last: Named


class Perturbed(NamedTuple):
    """Runs of torch's that differ from its own by rounding alone."""

    moved: list[Run]
    turned: list[Run]
    """Those in which, too, gradients that are nothing but rounding have other signs."""


def perturb(
    plan: Plan, begin: Snapshot, stream: torch.Tensor, drowned: Sequence[Sequence[Drowned]]
) -> Perturbed:
    """The runs; afterwards the plan's objects are as before.

    Args:
      plan: the run.
      begin: its objects when it began.
      stream: torch's generator then.
      drowned: step by step, what rounding decides the sign of.
    """
    now, after = plan.snapshot(), torch.get_rng_state()

    def run(seed: int, steps: Sequence[Sequence[Drowned]]) -> Run:
        begin.restore()
        torch.set_rng_state(stream)
        return _run_moved(plan, torch.Generator().manual_seed(seed), iter(steps), seed)

    try:
        moved = [run(seed, ()) for seed in range(_MOVED)]
        turned = [run(seed, drowned) for seed in range(_TURNED if any(drowned) else 0)]
    finally:
        now.restore()
        torch.set_rng_state(after)
    return Perturbed(moved, turned)


def _run_moved(
    plan: Plan, generator: torch.Generator, steps: Iterator[Sequence[Drowned]], kind: int
) -> Run:
    parameters = dict(plan.net.named_parameters())
    move_one = _Mover(generator)
    with torch.no_grad():
        for parameter in parameters.values():
            move_one(parameter)
    if plan.x.is_floating_point():
        x = plan.x.clone()
        move_one(x)
        plan = plan._replace(x=x)

    def move(*_: object) -> None:
        # A gradient may be the same for all weights nearby, and still be rounded otherwise.
        for parameter in parameters.values():
            if parameter.grad is not None:
                move_one(parameter.grad)
        for each in next(steps, ()):
            each.turn(parameters[each.name], kind, generator)

    handle = plan.optimizer.register_step_pre_hook(move)
    try:
        losses = train(plan, Loop())
    finally:
        handle.remove()
    return Run(losses, copy_named([*plan.net.named_parameters(), *plan.net.named_buffers()]))


class _Mover:
    """Moves each number to one of its neighbours, or a little further; a 0 stays 0."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self._factors = generator, torch.ones(0)

    def __call__(self, tensor: torch.Tensor) -> None:
        # To draw signs for every gradient of every step takes longer than a small net's step: each
        # takes a piece of what was drawn for the largest, from somewhere.
        if len(self._factors) < 2 * tensor.numel():
            up = torch.rand(2 * tensor.numel(), generator=self._generator) < 0.5
            self._factors = 1 + EPS * torch.where(up, 1.0, -1.0)
        last = len(self._factors) - tensor.numel()
        begin = int(torch.randint(last + 1, (), generator=self._generator))
        factors = self._factors[begin : begin + tensor.numel()].to(tensor.dtype)
        tensor.mul_(factors.view(tensor.shape))


def bound_losses(own: np.ndarray, runs: Perturbed, alone: np.ndarray) -> np.ndarray:
    """The bound on each loss of a whole run: what an ulp at its start has come to by then.

    Beside it what rounding may make of that loss `alone`, from torch's `own` weights. It is
    infinite from the step on in which the first is more than `CHAOS` of the loss, and where the
    loss is not finite.
    """
    gap = _find_gap([run.losses for run in runs.moved], own)
    alone = alone + bounds.TURNED * _find_gap([run.losses for run in runs.turned], own)
    with np.errstate(invalid="ignore"):
        lost = ~(gap <= bounds.CHAOS * np.abs(own))
    largest = np.maximum.accumulate(np.where(np.isfinite(gap), gap, 0.0))
    bound = bounds.RUN * largest + bounds.RUN_LOSS * np.abs(np.nan_to_num(own)) + alone
    return np.where(np.logical_or.accumulate(lost), np.inf, bound)


def bound_last(name: str, begin: np.ndarray, own: np.ndarray, runs: Perturbed) -> np.ndarray:
    """The bound on a tensor at the end of a whole run, of which torch's `own` is known."""
    moved = np.abs(own - begin).max(initial=0.0)
    limit = bounds.RUN_WEIGHTS * moved + 4 * EPS * np.abs(own).max(initial=0.0)
    for each, factor in ((runs.moved, bounds.RUN), (runs.turned, bounds.TURNED)):
        apart = _find_gap([run.last[name] for run in each], own)
        typical = float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
        limit = limit + factor * (apart + typical)
    return limit


def _find_gap(others: Sequence[np.ndarray], own: np.ndarray) -> np.ndarray:
    """How far the others lie from these at most."""
    if not others:
        return np.zeros(np.shape(own))
    with np.errstate(invalid="ignore"):
        return np.max([np.abs(other - own) for other in others], axis=0)
