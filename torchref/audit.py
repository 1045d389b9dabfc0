"""Holds two computations of the same number beside the exact one, and stops where they part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from torchref.causes import likely_causes
from torchref.tolerances import (
    CERTIFIED_FLOOR,
    CERTIFIED_NUDGES,
    CERTIFIED_RATIO,
    CHAOS,
    EPS,
    TRAJECTORY,
)

STAGES = (
    "initial weights",
    "rows",
    "masks",
    "outputs",
    "buffers",
    "loss",
    "gradients",
    "update",
    "weights",
    "evaluation",
    "whole run",
    "stream",
)
"""In the order in which an error travels."""

OVERFLOW = 1e15
"""A loss from which on a run has left float32: its squares overflow, and nothing is compared."""

_SOONER = 4
"""Steps before a run turns chaotic in which nothing is held against the port either."""

_MEMORY = 0.5
"""How much of what rounding did to a tensor is expected of it again, at least."""


@dataclass(frozen=True)
class Divergence:
    """The first place where a port parts from torch."""

    epoch: int
    """Counted from 1; 0 before the first."""
    step: int
    """Counted from 1 over the whole run; 0 before the first."""
    stage: str
    tensor: str
    jax: Any
    torch: Any
    causes: tuple[str, ...]
    index: tuple[int, ...] | None = None
    """Of the element that is furthest off; None where shapes differ or something is missing."""
    exact: Any = None
    """The element in float64; None where it is an integer or a choice."""
    ulps: float | None = None
    """Between the two, in float32's spacing at torch's value."""
    error: float | None = None
    """The port's, against float64."""
    torch_error: float | None = None
    """torch's largest error in the tensor."""
    bound: float | None = None


class Parted(Exception):
    """Ends the comparison; `divergence` says where."""

    def __init__(self, divergence: Divergence) -> None:
        self.divergence = divergence
        super().__init__(divergence.stage)


class Stage(NamedTuple):
    """A stage's figures over a run: its worst tensor."""

    tensor: str
    step: int
    share: float
    """The largest error as a share of its bound."""
    error: float
    """The port's largest error in eps of the tensor's largest element."""
    torch_error: float
    """torch's."""


class Judge:
    """Compares number with number; raises `Parted` at the first that is out of bounds."""

    def __init__(self) -> None:
        self.epoch = self.step = 0
        self.stages: dict[str, Stage] = {}
        self.checked: dict[str, int] = {}
        """Numbers compared at each stage."""
        self._seen: dict[tuple[str, str, str], float] = {}

    def exactly(
        self, stage: str, tensor: str, jax: Any, torch: Any, causes: tuple[str, ...] = ()
    ) -> None:
        """Integers, choices and bits, which must be equal; nan equals nan of the same bits.

        `causes` are of a difference that somebody has looked into already.
        """
        jax, torch = np.asarray(jax), np.asarray(torch)
        self._same_shape(stage, tensor, jax, torch)
        self.checked[stage] = self.checked.get(stage, 0) + torch.size
        self.stages.setdefault(stage, Stage(tensor, self.step, 0.0, 0.0, 0.0))
        if jax.dtype == torch.dtype and jax.tobytes() == torch.tobytes():
            return
        if torch.dtype.kind == "f":
            same = jax.astype(torch.dtype).view(f"u{torch.itemsize}") == torch.view(
                f"u{torch.itemsize}"
            )
        else:
            same = jax == torch
        if not same.all():
            error = np.where(same, 0.0, 1.0)
            self._part(stage, tensor, np.argmin(same), jax, torch, None, error, 0, causes=causes)

    def floats(
        self,
        stage: str,
        tensor: str,
        jax: Any,
        torch: Any,
        exact: Any,
        *,
        own: Any = None,
        nudged: Sequence[Any] = (),
        slack: Any = 0.0,
        rtol: float = 0.0,
    ) -> np.ndarray:
        """Numbers with rounding errors; gives the bound that held, per element.

        Args:
          stage, tensor: for the report.
          jax, torch, exact: the port's, torch's, and float64's from what the port started from.
          own: float64's from what torch started from, where it was computed in this step.
          nudged: float64's after nudges of an ulp, where they were computed in this step. Between
            two such steps, torch's error and the nudges' effect are taken to stay as they were.
          slack: added to the bound, per element.
          rtol: of the largest element, added to the bound.
        """
        jax, torch = np.asarray(jax, np.float64), np.asarray(torch, np.float64)
        self._same_shape(stage, tensor, jax, torch)
        self.checked[stage] = self.checked.get(stage, 0) + torch.size
        if not torch.size:
            return np.zeros(torch.shape)
        exact = np.asarray(exact, np.float64)
        finite = np.isfinite(torch)
        # Where torch overflows and the exact number does not, a port need not overflow too; where
        # the exact number does, inf and nan are as good.
        free = (np.isfinite(jax) & np.isfinite(exact)) | (np.abs(exact) > np.finfo(np.float32).max)
        odd = ~finite & ~free & ~((jax == torch) | (np.isnan(jax) & np.isnan(torch)))
        counted = finite & np.isfinite(exact)
        with np.errstate(invalid="ignore"):
            error = np.where(counted, np.abs(jax - exact), 0.0)
        error = np.where(odd | np.isnan(error), np.inf, error)
        key = (stage, tensor)
        torch_error = self._recall(key, "torch", [] if own is None else [(torch, own)], counted)
        shaken = self._recall(key, "nudged", [(n, exact) for n in nudged], counted)
        scale = _largest(np.abs(exact), counted)
        whole = CERTIFIED_RATIO * torch_error + CERTIFIED_NUDGES * shaken
        bound = whole + (CERTIFIED_FLOOR * EPS + rtol) * scale + slack
        self._note(stage, tensor, error, torch_error, scale, bound)
        if (error > bound).any():
            self._part(
                stage,
                tensor,
                np.argmax(error - bound),
                jax,
                torch,
                exact,
                error,
                bound,
                torch_error,
            )
        return np.broadcast_to(bound, torch.shape)

    def _recall(self, key: tuple[str, str], kind: str, pairs: Any, counted: np.ndarray) -> float:
        """The largest gap of these pairs, or what is remembered of earlier ones."""
        before = self._seen.get((*key, kind), 0.0)
        if pairs:
            now = max(_apart(values, exact, counted) for values, exact in pairs)
            self._seen[*key, kind] = before = max(now, _MEMORY * before)
        return before

    def trajectory(
        self, stage: str, tensor: str, jax: Any, torch: Any, bound: Any, where: Any = True
    ) -> None:
        """Numbers at the end of many steps, within `bound` of torch's own."""
        jax, torch = np.asarray(jax, np.float64), np.asarray(torch, np.float64)
        self._same_shape(stage, tensor, jax, torch)
        self.checked[stage] = self.checked.get(stage, 0) + torch.size
        if not torch.size:
            return
        same = (jax == torch) | (np.isnan(jax) & np.isnan(torch)) | ~np.asarray(where)
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(jax - torch))
        error = np.where(np.isnan(error), np.inf, error)
        self._note(stage, tensor, error, 0.0, _largest(np.abs(torch), np.isfinite(torch)), bound)
        if (error > bound).any():
            self._part(stage, tensor, np.argmax(error - bound), jax, torch, None, error, bound)

    def missing(self, stage: str, tensor: str, what: str) -> NoReturn:
        """Something of torch's that the port has not."""
        self._stop(stage, tensor, None, what, likely_causes(stage, None, None))

    def _same_shape(self, stage: str, tensor: str, jax: np.ndarray, torch: np.ndarray) -> None:
        if jax.shape != torch.shape:
            shapes = f"shape {jax.shape}", f"shape {torch.shape}"
            self._stop(stage, tensor, *shapes, likely_causes(stage, jax, torch))

    def _stop(
        self,
        stage: str,
        tensor: str,
        jax: Any,
        torch: Any,
        causes: tuple[str, ...],
        **figures: Any,
    ) -> NoReturn:
        place = self.epoch, self.step, stage, tensor
        raise Parted(Divergence(*place, jax, torch, causes, **figures))

    def _note(
        self, stage: str, tensor: str, error: Any, own: float, scale: float, bound: Any
    ) -> None:
        tiny = float(np.finfo(np.float32).tiny)
        with np.errstate(invalid="ignore", over="ignore"):
            share = float(np.nan_to_num(np.max(error / np.maximum(bound, tiny))))
            unit = EPS * max(scale, tiny)
            errors = float(np.max(error)) / unit, own / unit
        if stage not in self.stages or share > self.stages[stage].share:
            self.stages[stage] = Stage(tensor, self.step, share, *errors)

    def _part(
        self,
        stage: str,
        tensor: str,
        worst: Any,
        jax: np.ndarray,
        torch: np.ndarray,
        exact: np.ndarray | None,
        error: np.ndarray,
        bound: Any,
        own: float | None = None,
        causes: tuple[str, ...] = (),
    ) -> NoReturn:
        index = tuple(int(i) for i in np.unravel_index(int(worst), torch.shape))
        value, ours = torch[index].item(), jax[index].item()
        ulps = None
        if torch.dtype.kind == "f" and np.isfinite(value) and np.isfinite(ours):
            ulps = abs(ours - value) / float(np.spacing(np.float32(abs(value))))
        rounded = exact is not None or torch.dtype.kind == "f"
        self._stop(
            stage,
            tensor,
            ours,
            value,
            causes or likely_causes(stage, jax, torch),
            index=index,
            exact=None if exact is None else exact[index].item(),
            ulps=ulps,
            error=float(error[index]) if rounded else None,
            torch_error=own,
            bound=float(np.broadcast_to(bound, torch.shape)[index]) if rounded else None,
        )


def loss_bound(
    torch: np.ndarray, nudged: np.ndarray, turned: np.ndarray, nudges: float, turns: float
) -> np.ndarray:
    """The bound on each loss of a whole run: what an ulp here and there has come to by then.

    It is infinite from the step on in which that is more than `CHAOS` of the loss. `turned` is the
    run in which gradients that are rounding alone have another sign.
    """
    torch, nudged = np.asarray(torch, np.float64), np.asarray(nudged, np.float64)
    with np.errstate(invalid="ignore"):
        gap, turn = np.abs(nudged - torch), np.abs(turned - torch)
    lost = ~(np.abs(torch) < OVERFLOW) | ~(gap <= CHAOS * np.abs(torch)) & ~(
        np.isnan(torch) & np.isnan(nudged)
    )
    chaotic = np.logical_or.accumulate(lost)
    if chaotic.any():  # what grows so fast may have grown a little sooner
        chaotic[max(0, int(np.argmax(chaotic)) - _SOONER) :] = True
    bound = nudges * _largest_so_far(gap) + turns * _largest_so_far(turn)
    bound = bound + TRAJECTORY.rtol * np.abs(np.nan_to_num(torch))
    return np.where(chaotic, np.inf, bound)


def _largest_so_far(gap: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(np.where(np.isfinite(gap), gap, 0.0))


def _largest(values: np.ndarray, where: np.ndarray) -> float:
    return float(np.max(values, where=where, initial=0.0))


def _apart(values: Any, exact: np.ndarray, where: np.ndarray) -> float:
    """The largest gap, of the finite ones."""
    with np.errstate(invalid="ignore"):
        return _largest(np.nan_to_num(np.abs(np.asarray(values) - exact), posinf=0.0), where)
