"""How far rounding alone takes torch's own run: the run again, from weights and rows moved by an
ulp."""

from collections.abc import Collection, Iterator, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import EPS
from torchref.plan import Loop, Plan, Snapshot, train
from torchref.recorder import Named, copy_named
from torchref.reference import Reference
from torchref.updates import list_updates

_MOVED, _TURNED = 3, 4  # `Drowned.turn` has so many kinds
"""Runs from weights and rows that were moved by an ulp, and of these with other signs where
rounding decides the sign of a gradient."""


_AROUND = 16
"""Steps to both sides."""


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
    granted: list[Run]
    """The one, if any, with the known differences of float32 arithmetic that a port was granted."""


def perturb(
    plan: Plan,
    begin: Snapshot,
    stream: torch.Tensor,
    drowned: Sequence[Sequence[Drowned]],
    granted: Collection[str] = (),
) -> Perturbed:
    """The runs; afterwards the plan's objects are as before.

    Args:
      plan: the run.
      begin: its objects when it began.
      stream: torch's generator then.
      drowned: step by step, what rounding decides the sign of.
      granted: names of known differences, as `torchref.updates` has them.
    """
    now, after = plan.snapshot(), torch.get_rng_state()

    def run(seed: int, steps: Sequence[Sequence[Drowned]]) -> Run:
        begin.restore()
        torch.set_rng_state(stream)
        return _run_moved(plan, torch.Generator().manual_seed(seed), iter(steps), seed)

    def run_granted() -> Run:
        begin.restore()
        torch.set_rng_state(stream)
        return _run_granted(plan, frozenset(granted))

    try:
        return Perturbed(
            [run(seed, ()) for seed in range(_MOVED)],
            [run(seed, drowned) for seed in range(_TURNED if any(drowned) else 0)],
            [run_granted()] if granted else [],
        )
    finally:
        now.restore()
        torch.set_rng_state(after)


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

    return _run_hooked(plan, plan.optimizer.register_step_pre_hook(move))


def _run_granted(plan: Plan, causes: Set[str]) -> Run:
    """The run with the coefficients rounded as they are in the port."""
    before: dict[str, torch.Tensor] = {}
    reference = Reference()

    def keep(*_: object) -> None:
        before.update({name: p.detach().clone() for name, p in plan.net.named_parameters()})

    def change(*_: object) -> None:
        for name, parameter in plan.net.named_parameters():
            old = before[name].double().numpy()
            update = parameter.detach().double().numpy() - old
            others = list_updates(plan.optimizer, parameter, old, update, reference, optax=True)
            for names, other in others:
                if set(names) <= causes:
                    parameter.data.copy_(torch.from_numpy(old + other))
        reference.forget()

    hooks = (
        plan.optimizer.register_step_pre_hook(keep),
        plan.optimizer.register_step_post_hook(change),
    )
    return _run_hooked(plan, *hooks)


def _run_hooked(plan: Plan, *handles: Any) -> Run:
    try:
        losses = train(plan, Loop())
    finally:
        for handle in handles:
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


def bound_losses(own: np.ndarray, runs: Perturbed, alone: np.ndarray) -> tuple[np.ndarray, int]:
    """The bound on each loss of a whole run, and how many steps it decides.

    It is what an ulp at the run's start has come to by about that step, beside what rounding may
    make of that loss `alone`, from torch's `own` weights. From the step on in which an ulp has come
    to `CHAOS` of the loss, nothing counts as compared, and the bound is what it comes to anywhere
    in the run; it is infinite where that, or the loss, is not finite.
    """
    moved, turned, granted = (
        _find_gap([run.losses for run in each], own)
        for each in (runs.moved, runs.turned, runs.granted)
    )
    bound = bounds.RUN * _widen(moved) + bounds.TURNED * _widen(turned) + bounds.GRANTED * granted
    with np.errstate(invalid="ignore"):
        lost = ~(moved <= bounds.CHAOS * np.abs(own))
    count = int(np.argmax(lost)) if lost.any() else len(own)
    bound[count:] = bound.max(initial=0.0)  # nan, too
    bound = bound + bounds.RUN_LOSS * np.abs(own) + alone
    return np.where(np.isfinite(bound), bound, np.inf), count


def _widen(gap: np.ndarray) -> np.ndarray:
    """The largest gap of the steps around each: at one of them all runs may meet by chance."""
    padded = np.pad(gap, _AROUND, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1).max(axis=-1)


def bound_last(name: str, begin: np.ndarray, own: np.ndarray, runs: Perturbed) -> np.ndarray:
    """The bound on a tensor at the end of a whole run, of which torch's `own` is known."""
    moved = np.abs(own - begin).max(initial=0.0)
    limit = bounds.RUN_WEIGHTS * moved + 4 * EPS * np.abs(own).max(initial=0.0)
    factors = bounds.RUN, bounds.TURNED, bounds.GRANTED
    for each, factor in zip(runs, factors, strict=True):
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
