"""Compares two computations of the same numbers with the exact ones; stops where they diverge."""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxnet.certificate.bounds import (
    DRAWN,
    EPS,
    FLOORS,
    GROSS,
    LIMIT,
    MEMORY,
    SMALLEST,
    Numbers,
    View,
)
from jaxnet.certificate.causes import HINTS, Diverged, Divergence, list_causes

_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


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


class Held(NamedTuple):
    """The comparison of a tensor of floating-point numbers."""

    error: Numbers
    """The port's distance from the exact numbers; 0 where nothing is compared."""
    torch_error: Numbers
    bound: Numbers
    compared: Numbers
    """Which elements are."""
    rounded: float = 0.0
    """The largest error by rounding that was seen of the tensor, in eps of the size."""
    why: str = ""
    """Why no element is compared, where none is."""

    @property
    def agrees(self) -> bool:
        """Whether every compared element lies within its bound."""
        return not (self.error > self.bound).any()

    @property
    def share(self) -> float:
        """The largest error as a share of its bound."""
        return _find_share(self.error, self.bound)


def _find_share(error: Any, bound: Any) -> float:
    """The largest error as a share of its bound."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.nan_to_num(np.max(error / np.maximum(bound, _TINY), initial=0.0)))


def _find_worst(error: Any, bound: Any) -> tuple[Any, ...]:
    """The element that is furthest out of its bound."""
    with np.errstate(invalid="ignore"):
        over = np.where(error > bound, error - bound, -1.0)
    return np.unravel_index(int(np.argmax(over)), over.shape)


class Comparator:
    """Compares number with number; raises `Diverged` at the first that is out of bounds."""

    def __init__(self) -> None:
        self.epoch = self.step = 0
        self.stages: dict[str, Stage] = {}
        self.checked: dict[str, int] = {}
        """Numbers compared at each stage."""
        self.given: dict[str, int] = {}
        """Numbers that were there to compare."""
        self.tensors: dict[tuple[str, str], bool] = {}
        """By stage and name, whether an element was compared at any step."""
        self.why: dict[tuple[str, str], str] = {}
        """Why not, where none was at the last one."""
        self.finite = True
        """Whether torch's outputs and loss are, in this step."""
        self._rounded: dict[tuple[str, str], float] = {}

    def exactly(
        self, stage: str, tensor: str, jax: Any, torch: Any, causes: tuple[str, ...] = ()
    ) -> None:
        """Integers, choices and bits, which must be equal; nan equals nan of the same bits.

        `causes` are those of a difference whose causes are known already.
        """
        jax, torch = np.asarray(jax), np.asarray(torch)
        self.same_shape(stage, tensor, jax, torch)
        self.count(stage, tensor, torch.size, torch.size)
        self.stages.setdefault(stage, Stage(tensor, self.step, 0.0, 0.0, 0.0))
        if jax.dtype == torch.dtype and jax.tobytes() == torch.tobytes():
            return
        if torch.dtype.kind == "f":
            bits = f"u{torch.itemsize}"
            same = jax.astype(torch.dtype).view(bits) == torch.view(bits)
        else:
            same = jax == torch
        if not same.all():
            worst = np.unravel_index(int(np.argmin(same)), torch.shape)
            self._diverge(stage, tensor, worst, jax, torch, causes=causes)

    def floats(
        self, stage: str, tensor: str, jax: Any, torch: Any, view: View, *, own: bool = True
    ) -> Numbers:
        """Numbers with rounding errors, each within its bound; gives which were compared.

        `view` is what the reference knows of torch's, `own` is as for `hold`.
        """
        held = self.hold(stage, tensor, jax, torch, view, own=own)
        self.accept(stage, tensor, jax, torch, view, held)
        return held.compared

    def hold(
        self, stage: str, tensor: str, jax: Any, torch: Any, view: View, *, own: bool = True
    ) -> Held:
        """The errors of a tensor beside their bounds, without a verdict.

        `own` says whether torch's numbers tell what rounding does: an update is seen through its
        weights alone, which were rounded once more.
        """
        jax, torch = np.asarray(jax), np.asarray(torch)
        self.same_shape(stage, tensor, jax, torch)
        size = view.size
        known = np.isfinite(torch) & np.isfinite(view.exact) & np.isfinite(size)
        known &= (size == 0) | (size >= SMALLEST)
        known &= size <= _LARGEST  # beyond, terms may overflow in either
        with np.errstate(invalid="ignore", over="ignore"):
            error, torch_error = np.abs(jax - view.exact), np.abs(torch - view.exact)
            seen = torch_error if own else np.zeros_like(torch_error)
            seen = seen if view.spread is None else np.fmax(seen, view.spread)
            unknown = np.where(seen > 0, np.inf, 0.0)  # terms that are all 0 make 0
            share = np.divide(seen, EPS * size, where=known & (size > 0), out=unknown)
        compared = known & (share <= LIMIT / (EPS * DRAWN))
        rounded = float(np.max(share, where=compared, initial=0.0))
        before = self._rounded.get((stage, tensor), 0.0)
        rounded = max(rounded, before if view.spread is None else MEMORY * before)
        floor = FLOORS.get(stage, FLOORS["outputs"])
        floor += self.step**0.5 if stage == "update" else 0.0
        error = np.where(compared, np.where(np.isnan(error), np.inf, error), 0.0)
        if not np.isfinite(torch).all():
            free = stage == "gradients" and not self.finite
            error = np.where(_is_odd(jax, torch, view) & (not free), np.inf, error)
        error = np.where(_is_gross(jax, torch, view, seen) & ~compared, np.inf, error)
        with np.errstate(invalid="ignore", over="ignore"):
            bound = np.where(known, EPS * size * (DRAWN * rounded + floor), 0.0)
        why = "" if compared.any() else _tell_why(torch, view)
        return Held(error, np.where(compared, torch_error, 0.0), bound, compared, rounded, why)

    def accept(self, stage: str, tensor: str, jax: Any, torch: Any, view: View, held: Held) -> None:
        """Record a comparison; stop where it is out of bounds."""
        self._rounded[stage, tensor] = held.rounded
        self.count(stage, tensor, int(held.compared.sum()), held.compared.size)
        self.why[stage, tensor] = held.why
        self.note(stage, tensor, held.error, held.bound, view.exact, held.torch_error)
        if not held.agrees:
            worst = _find_worst(held.error, held.bound)
            figures = {
                "exact": view.exact[worst].item(),
                "error": held.error[worst].item(),
                "torch_error": held.torch_error[worst].item(),
                "bound": held.bound[worst].item(),
            }
            self._diverge(stage, tensor, worst, np.asarray(jax), np.asarray(torch), **figures)

    def trajectory(
        self, stage: str, tensor: str, jax: Any, torch: Any, bound: Any, where: Any = True
    ) -> None:
        """Numbers at the end of many steps, within `bound` of torch's own.

        `where` says which count as compared; the others, too, must lie within their bound, which
        may be infinite.
        """
        jax, torch = np.asarray(jax, np.float64), np.asarray(torch, np.float64)
        self.same_shape(stage, tensor, jax, torch)
        bound = np.broadcast_to(bound, torch.shape)
        where = np.asarray(where) & np.isfinite(bound) & np.ones(torch.shape, bool)
        self.count(stage, tensor, int(where.sum()), torch.size)
        if not torch.size:
            return
        same = (jax == torch) | (np.isnan(jax) & np.isnan(torch)) | np.isinf(bound)
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(jax - torch))
        error = np.where(np.isnan(error), np.inf, error)
        seen = np.where(where, error, 0.0), np.where(where, bound, 0.0)
        self.note(stage, tensor, *seen, torch, np.zeros_like(error))
        if (error > bound).any():
            worst = _find_worst(error, bound)
            figures = {"error": error[worst].item(), "bound": bound[worst].item()}
            self._diverge(stage, tensor, worst, jax, torch, **figures)

    def missing(self, stage: str, tensor: str, what: str) -> NoReturn:
        """Stop: one of the two lacks something."""
        self._stop(stage, tensor, None, what, ())

    def count(self, stage: str, tensor: str, compared: int, given: int) -> None:
        """So many of a tensor's numbers were compared."""
        self.checked[stage] = self.checked.get(stage, 0) + compared
        self.given[stage] = self.given.get(stage, 0) + given
        key = stage, tensor
        self.tensors[key] = self.tensors.get(key, False) or compared > 0 or not given

    def same_shape(self, stage: str, tensor: str, jax: Numbers, torch: Numbers) -> None:
        """Stop where the shapes differ."""
        if jax.shape != torch.shape:
            shapes = f"shape {jax.shape}", f"shape {torch.shape}"
            self._stop(stage, tensor, *shapes, list_causes(jax, torch))

    def note(
        self, stage: str, tensor: str, error: Any, bound: Any, exact: Any, torch_error: Any
    ) -> None:
        """The figures of a tensor, for the table."""
        exact = np.asarray(exact)
        scale = float(np.max(np.abs(exact), where=np.isfinite(exact), initial=_TINY))
        share = _find_share(error, bound)
        with np.errstate(invalid="ignore", over="ignore"):
            errors = [float(np.max(e, initial=0.0)) / (EPS * scale) for e in (error, torch_error)]
        if stage not in self.stages or share > self.stages[stage].share:
            self.stages[stage] = Stage(tensor, self.step, share, *errors)

    def _diverge(
        self,
        stage: str,
        tensor: str,
        worst: tuple[Any, ...],
        jax: Numbers,
        torch: Numbers,
        causes: tuple[str, ...] = (),
        **figures: Any,
    ) -> NoReturn:
        index = tuple(int(place) for place in worst)
        value, ours = torch[index].item(), jax[index].item()
        if torch.dtype.kind == "f" and np.isfinite(value) and np.isfinite(ours):
            figures["ulps"] = abs(ours - value) / float(np.spacing(np.float32(abs(value))))
        causes = causes or list_causes(jax, torch)
        self._stop(stage, tensor, ours, value, causes, index=index, **figures)

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
        raise Diverged(Divergence(*place, jax, torch, causes, HINTS[stage], **figures))


def _tell_why(torch: Numbers, view: View) -> str:
    """Why no element of a tensor can be compared, and what would change that."""
    if not (np.isfinite(torch) & np.isfinite(view.exact)).any():
        return "torch's own numbers are not finite"
    with np.errstate(invalid="ignore"):
        if not (view.size >= SMALLEST).any():
            return "they are below float32's normal numbers: float64, or data on another scale"
        if not (view.size <= _LARGEST).any():
            return "their terms are beyond float32: float64, or data on another scale"
    return "rounding may make anything of them: float64, more rows or a smaller rate"


def _is_gross(jax: Numbers, torch: Numbers, view: View, seen: Numbers) -> Numbers:
    """Where a number is more than what rounding might make of it, by `GROSS` times what was seen.

    What is not compared may not be anything.
    """
    size = view.size
    with np.errstate(invalid="ignore", over="ignore"):
        gross = GROSS * (np.nan_to_num(seen) + EPS * size) + SMALLEST
        # Of an infinite size, where rounding may make any number, it makes no nan.
        strange = np.where(np.isinf(size), np.isnan(jax), ~(np.abs(jax - view.exact) <= gross))
    known = np.isfinite(torch) & np.isfinite(view.exact) & ((size <= _LARGEST) | np.isinf(size))
    return known & strange


def _is_odd(jax: Numbers, torch: Numbers, view: View) -> Numbers:
    """Where torch is not finite, and the port neither is so too nor has a reason to be otherwise.

    Where the exact number is inf or nan itself, the port must be so too. Where it is finite, and it
    or its terms are too large for float32, inf and nan are as good, and finite numbers anyway.
    """
    with np.errstate(invalid="ignore"):
        beyond = (np.abs(view.exact) > _LARGEST) | ~(view.size <= _LARGEST) | np.isfinite(jax)
        free = beyond & np.isfinite(view.exact)
        return ~np.isfinite(torch) & ~free & ~((jax == torch) | (np.isnan(jax) & np.isnan(torch)))
