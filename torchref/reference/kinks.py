"""A gradient that is off because the port is on another side of a kink, within rounding.

Where a ReLU takes a number that lies within rounding of 0, or two numbers of a pool lie within
rounding of each other, float32 may choose either way, and gradients follow. A gradient that differs
from torch's is accepted where flipping some of these choices explains it within the plain bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from jaxnet.certificate.bounds import DRAWN, EPS, LIMIT, MOST, NEAR, View
from jaxnet.certificate.comparison import Comparator, Held
from torchref.reference.choices import Kink, Near, is_choice, is_seen, list_known, list_possible
from torchref.reference.float64 import Reference
from torchref.reference.operations import Call
from torchref.replay import Replay

_WORST = 4096
"""Elements of a tensor that choose which kinks are turned; afterwards all are compared."""


class _Finder(Reference):
    """Lists the kinks of a step, or turns some of them.

    Args:
      turned: those that are.
      shown: the port's numbers by the names of torch's layers, where they can be seen. There its
        choices are known; elsewhere whatever lies within rounding of a kink may be one.
      draws: as for `Reference`; nothing is listed without.
    """

    def __init__(
        self, turned: Sequence[Kink] = (), shown: Mapping[str, Any] | None = None, draws: int = 0
    ) -> None:
        super().__init__(draws)
        self.known: list[Kink] = []
        """Choices that the port is seen to make otherwise."""
        self.possible: list[Kink] = []
        self._turned, self._shown, self._number = tuple(turned), shown or {}, 0
        self._names: dict[int, str] = {}

    def name(self, name: str, tensor: torch.Tensor) -> None:
        """The output of this layer."""
        self._names[tensor.untyped_storage()._cdata] = name

    def _align(self, call: Call) -> None:
        if is_choice(call):
            number, self._number = self._number, self._number + 1
            if self.draws:
                self._list(number, call)
            for kink in self._turned:
                if kink.number == number:
                    self._turn(call.args[kink.argument], kink)
        super()._align(call)

    def _list(self, number: int, call: Call) -> None:
        x = call.args[0].detach()
        shown = self._shown.get(self._names.get(x.untyped_storage()._cdata, ""))
        if shown is None or np.shape(shown) != tuple(x.shape) or not is_seen(call):
            self.possible += list_possible(number, call, self._look_near)
        else:
            self.known += list_known(number, call, torch.from_numpy(np.array(shown)))

    def _look_near(self, tensor: torch.Tensor) -> Near:
        """A tensor's exact numbers, and how far rounding may move each, on two sides."""
        view = self.look(tensor)
        assert view.spread is not None
        share = np.zeros(view.size.shape)
        np.divide(view.spread, EPS * view.size, where=view.size > 0, out=share)
        rounded = float(np.max(share, where=share <= LIMIT / (EPS * DRAWN), initial=0.0))
        reach = EPS * view.size * (NEAR * rounded + 1.0)
        return Near(torch.as_tensor(view.exact), torch.as_tensor(reach))

    def _turn(self, tensor: torch.Tensor, kink: Kink) -> None:
        """Below autograd, so that nothing of it is recorded."""
        index = np.unravel_index(kink.element, tensor.shape)
        tensor.detach()[index] = kink.value


Given = Mapping[str, tuple[Any, np.ndarray, View]]
"""By parameter: the port's gradient, torch's, and what the reference knows of it."""

Exact = dict[str, np.ndarray]


def explain(
    replay: Replay,
    given: Given,
    held: Mapping[str, Held],
    *,
    comparator: Comparator,
    shown: Mapping[str, Any],
) -> tuple[dict[str, Held], int] | None:
    """The gradients held anew against those of a step in which some kinks are turned.

    Gives them, and how many kinks were turned; None where that explains nothing. Where there are
    more kinks than are tried, the elements that they reach are left out of the comparison.
    """

    def hold(turned: Sequence[Kink]) -> tuple[dict[str, Held], int] | None:
        views = _run(replay, _Finder(turned, draws=2))
        found = {
            # torch is on the other side, and tells nothing of rounding on this one.
            name: comparator.hold("gradients", name, ours, torchs, views[name], own=False)
            for name, (ours, torchs, _) in given.items()
        }
        return (found, len(turned)) if all(each.agrees for each in found.values()) else None

    def run(*turned: Kink) -> Exact:
        return _list_exact(_run(replay, _Finder(turned)))

    finder = _Finder(shown=shown, draws=2)
    exact = _list_exact(_run(replay, finder))
    known, possible = (list(dict.fromkeys(kinks)) for kinks in (finder.known, finder.possible))
    if known and (found := hold(known)):
        return found
    if not possible:
        return None
    # A number on the very edge may be turned to both sides: of all, the last one counts.
    whole = [_subtract(run(*known, *order), exact) for order in (possible, possible[::-1])]
    reached = {name: np.maximum(*(np.abs(each[name]) for each in whole)) for name in exact}
    if not _may_explain(reached, held):
        return None
    if len(possible) > MOST:
        return _leave_out(reached, held), len(possible)
    begin = run(*known) if known else exact
    effects = [_subtract(run(*known, kink), begin) for kink in possible]
    shares = _solve(effects, begin, given, held)
    chosen = [kink for kink, share in zip(possible, shares, strict=True) if share > 0.5]
    return hold([*known, *chosen]) if chosen else None


def _run(replay: Replay, finder: _Finder) -> dict[str, View]:
    """The gradients of the step, with the finder's kinks turned."""
    views = replay(finder, finder.name)
    return {name: view for (stage, name), view in views.items() if stage == "gradients"}


def _list_exact(views: Mapping[str, View]) -> Exact:
    return {name: view.exact for name, view in views.items()}


def _solve(
    effects: list[Exact], begin: Exact, given: Given, held: Mapping[str, Held]
) -> np.ndarray:
    """How much of each kink's effect is in the port's gradients: 0 or 1, where it explains them."""
    columns, rest = [], []
    for name, (ours, _, _) in given.items():
        each = held[name]
        where = np.flatnonzero(each.compared & (each.bound > 0))
        # The worst ones tell: of many numbers all would take long.
        over = (each.error / np.where(each.bound > 0, each.bound, 1.0)).reshape(-1)[where]
        where = where[np.argsort(-over)[:_WORST]]
        scale = each.bound.reshape(-1)[where]
        off = np.asarray(ours, np.float64) - begin[name]
        rest.append(off.reshape(-1)[where] / scale)
        columns.append(np.stack([e[name].reshape(-1)[where] / scale for e in effects], 1))
    solved, *_ = np.linalg.lstsq(np.concatenate(columns), np.concatenate(rest), rcond=None)
    return solved


def _may_explain(effects: Exact, held: Mapping[str, Held]) -> bool:
    """Whether the choices, all turned, reach most of what is out of bounds."""
    reached = [
        effects[name][off] * MOST >= each.error[off]
        for name, each in held.items()
        if (off := each.error > each.bound).any()
    ]
    return bool(np.concatenate(reached).mean() > 0.5) if reached else True


def _leave_out(effects: Exact, held: Mapping[str, Held]) -> dict[str, Held]:
    found = {}
    for name, each in held.items():
        effect = effects[name]
        typical = np.sqrt(np.mean(effect**2))
        compared = each.compared & (
            (effect <= each.bound) | (each.error > MOST * (effect + typical))
        )
        error = np.where(compared, each.error, 0.0)
        why = "" if compared.any() else f"they lie behind more than {MOST} kinks within rounding"
        found[name] = each._replace(error=error, compared=compared, why=why)
    return found


def _subtract(ours: Exact, others: Exact) -> Exact:
    return {name: value - others[name] for name, value in ours.items()}
