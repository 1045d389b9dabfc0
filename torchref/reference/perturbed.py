"""How far rounding alone takes torch's own run: the run again, from weights and rows moved by an
ulp."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import EPS
from torchref.draws import Listener
from torchref.hooks import StepHooks
from torchref.names import Calls, following, name_outputs
from torchref.plan import Loop, Plan, train
from torchref.reference.float64 import Reference
from torchref.reference.updates import list_updates
from torchref.snapshot import Snapshot
from torchref.steps import Drawn, Named, copy_named

MOVES = tuple((seed, 1.0) for seed in range(3))
"""Runs from weights and rows that were moved: the seeds of their signs, and by how many ulp."""

DOUBTED = tuple((seed, 16.0) for seed in range(3, 11))
"""Further ones, before a run is said to diverge: few runs see none of the kinks near by."""

_SPARE = 2**12
"""Signs that are drawn beyond those of the largest tensor."""

_BEFORE = 16
"""Steps before each, of which the largest gap counts."""

Still = Mapping[str, np.ndarray]
"""By parameter, the elements that are held where they begin: rounding decides their steps."""

OUTPUTS = "(outputs)"
"""The name of what the net gives at the end of a run, beside those of its tensors."""


class Run(NamedTuple):
    """A run's losses, and its last weights, buffers and outputs."""

    losses: np.ndarray
    last: Named


class Perturbed(NamedTuple):
    """Torch's run, and runs that differ from it by rounding alone."""

    own: Run
    moved: list[Run]
    """From weights and rows that were moved by an ulp, as is each gradient."""
    granted: list[Run]
    """The one, if any, with the known differences of float32 arithmetic that a port was granted."""
    further: Sequence[Run] = ()
    """Where the port's own run left the bounds: moved further, and on the other side of kinks."""


def perturb(
    plan: Plan,
    own: Run,
    begin: Snapshot,
    stream: torch.Tensor,
    still: Still,
    granted: Collection[str] = (),
    turned: Mapping[int, Named] | None = None,
    moves: Sequence[tuple[int, float]] = MOVES,
) -> Perturbed:
    """The runs; afterwards the plan's objects are as before.

    Args:
      plan: the run.
      own: what came of it.
      begin: its objects when it began.
      stream: torch's generator then.
      still: elements that all these runs hold where they begin.
      granted: names of known differences, as `torchref.reference.updates` has them.
      turned: by step, the gradients that rounding may give there instead: of the other side of a
        kink.
      moves: which runs there are to be.
    """
    now, after = plan.snapshot(), torch.get_rng_state()

    def run(change: Callable[[Plan], tuple[Plan, list[Any]]]) -> Run:
        begin.restore()
        torch.set_rng_state(stream)
        changed, handles = change(plan)
        handles.append(_hold(changed, still))
        try:
            losses = train(changed, Loop())
        finally:
            for handle in handles:
                handle.remove()
        named = [*plan.net.named_parameters(), *plan.net.named_buffers()]
        return Run(losses, copy_named(named) | name_last(evaluate(plan).outputs))

    changes: list[Callable[[Plan], Any]] = [partial(_move, *each) for each in moves]
    changes += [partial(_turn, turned)] if turned else []
    try:
        return Perturbed(
            run(lambda plan: (plan, [])) if still else own,
            [run(change) for change in changes],
            [run(partial(_grant, frozenset(granted)))] if granted else [],
        )
    finally:
        now.restore()
        torch.set_rng_state(after)


def _hold(plan: Plan, still: Still) -> Any:
    """Put the elements back after each step of the optimizer."""
    held = [
        (parameter, torch.from_numpy(still[name]), parameter.detach().clone())
        for name, parameter in plan.net.named_parameters()
        if name in still
    ]

    def put_back() -> None:
        for parameter, where, first in held:
            parameter.data[where] = first[where]

    return StepHooks(plan.optimizer, after=put_back)


def _move(seed: int, ulps: float, plan: Plan) -> tuple[Plan, list[Any]]:
    """Weights and rows moved, and each gradient on its way to the optimizer."""
    parameters, move = (
        list(plan.net.parameters()),
        _Mover(torch.Generator().manual_seed(seed), ulps),
    )
    with torch.no_grad():
        for parameter in parameters:
            move(parameter)
    inputs = plan.data._replace(y=None)
    moved = jax.tree.map(lambda x: move(x.clone()) if x.is_floating_point() else x, inputs)
    plan = plan._replace(data=moved._replace(y=plan.data.y))

    def move_gradients() -> None:
        # A gradient may be the same for all weights nearby, and still be rounded otherwise.
        for parameter in parameters:
            if parameter.grad is not None:
                move(parameter.grad)

    return plan, [StepHooks(plan.optimizer, before=move_gradients)]


def _turn(turned: Mapping[int, Named], plan: Plan) -> tuple[Plan, list[Any]]:
    """Some steps with the port's gradients, of the other side of a kink."""
    steps = itertools.count(1)

    def turn() -> None:
        gradients = turned.get(next(steps), {})
        for name, parameter in plan.net.named_parameters():
            if name in gradients and parameter.grad is not None:
                parameter.grad.copy_(torch.tensor(gradients[name]))

    return plan, [StepHooks(plan.optimizer, before=turn)]


def _grant(causes: Set[str], plan: Plan) -> tuple[Plan, list[Any]]:
    """The coefficients rounded as they are in the port."""
    before: dict[str, torch.Tensor] = {}
    reference, optimizer = Reference(), plan.optimizer

    def keep() -> None:
        before.update({name: p.detach().clone() for name, p in plan.net.named_parameters()})

    def change() -> None:
        for name, parameter in plan.net.named_parameters():
            old = before[name].double().numpy()
            update = parameter.detach().double().numpy() - old
            others = list_updates(optimizer, parameter, old, update, reference, optax=True)
            for names, other in others:
                if set(names) <= causes:
                    parameter.data.copy_(torch.from_numpy(old + other))
        reference.forget()

    return plan, [StepHooks(optimizer, keep, change)]


class Evaluation(NamedTuple):
    """A forward of all rows in evaluation mode."""

    outputs: Named
    stream: torch.Tensor
    """torch's generator before, and after."""
    draws: tuple[Drawn, ...]
    """What it drew at random: most nets draw nothing."""


def evaluate(plan: Plan) -> Evaluation:
    """What the net gives for all rows, by name; torch's stream stays where it is."""
    net, stream = plan.net.eval(), torch.get_rng_state()
    calls = Calls(net)
    listener = Listener(calls)
    with torch.no_grad(), plan.dropping(), following(net, calls.begin, calls.end), listener:
        outputs = name_outputs("", plan.forward(plan.data))
    torch.set_rng_state(stream)
    return Evaluation(copy_named(outputs.items()), stream, tuple(listener.draws))


def name_last(outputs: Named) -> Named:
    """What the net gives at the end of a run, by other names than its tensors'."""
    return {f"{OUTPUTS}{name}": output for name, output in outputs.items()}


class _Mover:
    """Moves each number by so many ulp, or a little further; a 0 stays 0."""

    def __init__(self, generator: torch.Generator, ulps: float) -> None:
        self._generator, self._factors, self._ulps = generator, torch.ones(0), ulps

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        # To draw signs for every gradient of every step takes longer than a small net's step: each
        # takes a slice of what was drawn for the largest, at a random offset.
        enough = tensor.numel() + _SPARE
        if len(self._factors) < enough:
            up = torch.rand(enough, generator=self._generator) < 0.5
            self._factors = 1 + self._ulps * EPS * torch.where(up, 1.0, -1.0)
        last = len(self._factors) - tensor.numel()
        begin = int(torch.randint(last + 1, (), generator=self._generator))
        factors = self._factors[begin : begin + tensor.numel()].to(tensor.dtype)
        return tensor.mul_(factors.view(tensor.shape))


def bound_losses(runs: Perturbed, alone: np.ndarray) -> tuple[np.ndarray, int]:
    """The bound on each loss of a whole run, and how many steps it decides.

    It is what an ulp at the run's start has come to by about that step, beside what rounding may
    make of that loss `alone`, from torch's own weights, and as far as further runs went. From the
    step on in which one of them has come to `GROWN` of the loss, nothing counts as compared, and
    the bound is what an ulp comes to anywhere in the run; where that is much, the largest loss,
    too, and infinite where these are not finite, or have grown: of a run that explodes nobody knows
    how far another goes.
    """
    own = runs.own.losses
    moved, granted, further = (
        _find_gap([run.losses for run in each], own)
        for each in (runs.moved, runs.granted, runs.further)
    )
    bound = bounds.RUN * _widen(moved, np.abs(own))
    bound += bounds.GRANTED * (granted + _widen(further, np.abs(own)))
    with np.errstate(invalid="ignore"):
        moved = np.maximum(moved, further)
        lost = ~((moved <= bounds.GROWN * np.abs(own)) & (bound <= bounds.TOLD * np.abs(own)))
        lost |= is_unsteady(own, alone)
    count = int(np.argmax(lost)) if lost.any() else len(own)
    scale = _find_scale(own)
    decided = (moved > bounds.GROWN * scale).any() or is_unsteady(own, alone).any()
    grown = decided and scale.max(initial=0.0) * bounds.TOLD > np.abs(own[:1]).max(initial=0.0)
    largest = bound.max(initial=0.0) + (scale.max(initial=0.0) if decided else 0.0)
    bound[count:] = largest if np.isfinite(moved).all() and not grown else np.inf
    bound = bound + bounds.RUN_LOSS * np.abs(own) + alone
    return np.where(np.isfinite(bound), bound, np.inf), count


def is_unsteady(own: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Where rounding changed a step's own loss by more than `GROWN` of the largest up to it."""
    scale = _find_scale(own)
    seen = alone / bounds.DRAWN
    return (seen > bounds.GROWN * scale) & np.isfinite(alone) & (scale > 0)


def _find_scale(own: np.ndarray) -> np.ndarray:
    """The largest loss up to each step: what a run explodes to says nothing of its first steps."""
    return np.maximum.accumulate(np.nan_to_num(np.abs(own), nan=np.inf))


def _widen(gap: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The largest gap of the last steps, as a share of the loss: all runs may cross in one step."""
    with np.errstate(invalid="ignore"):
        share = np.divide(gap, size, where=size > 0, out=np.zeros(gap.shape))
    padded = np.pad(np.where(np.isfinite(share), share, 0.0), (_BEFORE, 0))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _BEFORE + 1)
    with np.errstate(invalid="ignore"):
        return np.maximum(gap, windows.max(axis=-1) * size)


def bound_last(name: str, begin: np.ndarray, runs: Perturbed) -> np.ndarray:
    """The bound on a tensor at the end of a whole run."""
    own = runs.own.last[name]
    went = np.abs(own - begin).max(initial=0.0)
    limit = bounds.RUN_WEIGHTS * went + 4 * EPS * np.abs(own).max(initial=0.0)
    factors = bounds.RUN, bounds.GRANTED, bounds.GRANTED
    for each, factor in zip((runs.moved, runs.granted, runs.further), factors, strict=True):
        apart = _find_gap([run.last[name] for run in each], own)
        typical = float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
        limit = limit + factor * (apart + typical)
    return limit


def _find_gap(others: Sequence[np.ndarray], own: np.ndarray) -> np.ndarray:
    """The largest distance of the others from these."""
    if not others:
        return np.zeros(np.shape(own))
    with np.errstate(invalid="ignore"):
        return np.max([np.abs(other - own) for other in others], axis=0)
