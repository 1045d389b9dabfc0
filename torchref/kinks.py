"""A gradient that is off because the port stands on another side of a kink, within rounding.

Where a ReLU takes a number that lies within rounding of 0, or two numbers of a pool lie within
rounding of each other, float32 may choose either way, and gradients follow. A gradient that parts
from torch's is accepted where flipping some of these choices explains it within the plain bound.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxnet.certificate.bounds import DRAWN, EPS, LIMIT, View
from jaxnet.certificate.comparison import Held, Judge
from torchref.operations import Call, edges
from torchref.plan import Plan
from torchref.recorder import Recorder, Step
from torchref.reference import Reference
from torchref.replay import replaying

MOST = 64
"""Kinks within rounding that are tried, a backward pass each."""

_NEAR = 4.0
"""A number is within rounding of a kink where it lies this many times as far from it as a draw was
seen to move a number of the tensor, relative to its size."""

_WORST = 4096
"""Elements of a tensor that choose which kinks are turned; afterwards all are compared."""

_POOLS = ("max_pool2d_with_indices",)
_CHOICES = ("maximum", "minimum")

Reach = Callable[[torch.Tensor], torch.Tensor]
"""How far rounding may move each number of a tensor."""


class Kink(NamedTuple):
    """A choice that rounding may turn: which operation, in their order, and how it is turned."""

    number: int
    argument: int
    element: int
    """Of the argument, counted row by row."""
    value: float
    """What turns it, in place of torch's number."""


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
        if edges(call) or call.name in _POOLS or call.base in _CHOICES:
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
        if shown is None or np.shape(shown) != tuple(x.shape) or call.base in _CHOICES:
            self.possible += _list_possible(number, call, self._reach)
        else:
            self.known += _list_known(number, call, torch.from_numpy(np.array(shown)))

    def _reach(self, tensor: torch.Tensor) -> torch.Tensor:
        """How far rounding may move each number of a tensor, on two sides."""
        view = self.look(tensor)
        assert view.spread is not None
        share = np.zeros(view.size.shape)
        np.divide(view.spread, EPS * view.size, where=view.size > 0, out=share)
        rounded = float(np.max(share, where=share <= LIMIT / (EPS * DRAWN), initial=0.0))
        return torch.from_numpy(EPS * view.size * (_NEAR * rounded + 1.0))

    def _turn(self, tensor: torch.Tensor, kink: Kink) -> None:
        """Below autograd, so that nothing of it is recorded."""
        index = np.unravel_index(kink.element, tensor.shape)
        tensor.detach()[index] = kink.value


def _list_known(number: int, call: Call, shown: torch.Tensor) -> Iterator[Kink]:
    """Where the port's own numbers choose otherwise than torch's."""
    x = call.args[0].detach()
    if call.name in _POOLS:
        windows = _Windows(call)
        ours, theirs = (windows.cut(values).argmax(1) for values in (shown, x))
        for row, column in (ours != theirs).nonzero().tolist():
            for element in windows.elements[row, :, column].long().tolist():
                if element >= 0:
                    yield Kink(number, 0, element, float(shown.reshape(-1)[element]))
        return
    other = torch.zeros(x.shape, dtype=torch.bool)
    for edge in edges(call):
        other |= torch.sign(shown - edge) != torch.sign(x - edge)
    for element in _elements(other):
        yield Kink(number, 0, element, float(shown.reshape(-1)[element]))


def _list_possible(number: int, call: Call, reach: Reach) -> Iterator[Kink]:
    """What lies within rounding of a kink; numbers that are equal are taken for equal."""
    if call.name in _POOLS:
        yield from _list_pooled(number, call, reach)
        return
    first = call.args[0].detach()
    flat = first.reshape(-1)
    if call.base in _CHOICES:
        other = call.args[1].detach().expand_as(first)
        near = (first - other).abs() <= reach(first) + reach(call.args[1]).expand_as(first)
        for element in _elements(near & (first != other)):
            value, own = float(other.reshape(-1)[element]), float(flat[element])
            yield Kink(number, 0, element, _beyond(value, -np.inf if own > value else np.inf))
        return
    near = reach(first)
    for edge in edges(call):
        for element in _elements(((first - edge).abs() <= near) & (first != edge)):
            yield Kink(number, 0, element, 2 * edge - float(flat[element]))


def _list_pooled(number: int, call: Call, reach: Reach) -> Iterator[Kink]:
    """Windows whose two largest numbers lie within rounding of each other."""
    x, windows = call.args[0].detach(), _Windows(call)
    cut = windows.cut(x)
    if cut.shape[1] < 2:
        return
    top = cut.topk(2, dim=1)
    chosen = windows.elements.gather(1, top.indices).long().clamp(min=0)
    near, gap = reach(call.args[0]).reshape(-1), top.values[:, 0] - top.values[:, 1]
    close = torch.isfinite(gap) & (gap > 0) & (gap <= near[chosen[:, 0]] + near[chosen[:, 1]])
    for row, column in close.nonzero().tolist():
        first, second = chosen[row, :, column].tolist()
        yield Kink(number, 0, second, _beyond(float(x.reshape(-1)[first]), np.inf))


class _Windows:
    """The windows of a pool over images."""

    def __init__(self, call: Call) -> None:
        def pair(place: int, default: Any) -> tuple[int, int]:
            given = call.args[place] if len(call.args) > place else default
            values = [given] if isinstance(given, int) else list(given) or list(default)
            return values[0], values[-1]

        kernel = pair(1, ())
        stride, padding = pair(2, kernel), pair(3, (0, 0))
        self._options = {"kernel_size": kernel, "dilation": pair(4, (1, 1)), "stride": stride}
        self._sides = tuple(
            side for k in (1, 0) for side in (padding[k], padding[k] + stride[k] - 1)
        )
        x = call.args[0]
        self.elements = self._unfold(torch.arange(x.numel()).reshape(x.shape), -1.0)
        """Which element of the input stands in each place; -1 for none."""

    def cut(self, values: torch.Tensor) -> torch.Tensor:
        """(images and channels, places of a window, windows)"""
        return self._unfold(values, -torch.inf)

    def _unfold(self, values: torch.Tensor, outside: float) -> torch.Tensor:
        images = values.double().reshape(-1, 1, *values.shape[-2:])
        padded = torch.nn.functional.pad(images, self._sides, value=outside)
        return torch.nn.functional.unfold(padded, **self._options)


def _beyond(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))


def _elements(where: torch.Tensor) -> list[int]:
    return where.reshape(-1).nonzero().reshape(-1).tolist()


Given = Mapping[str, tuple[Any, np.ndarray, View]]
"""By parameter: the port's gradient, torch's, and what the reference knows of it."""


def explain(
    plan: Plan,
    recorder: Recorder,
    step: Step,
    given: Given,
    held: Mapping[str, Held],
    *,
    judge: Judge,
    shown: Mapping[str, Any],
) -> tuple[dict[str, Held], int] | None:
    """The gradients held anew against those of a step in which some kinks are turned.

    Gives them, and how many kinks were turned; None where that explains nothing. Where there are
    more kinks than are tried, the elements that they reach are left out of the comparison.
    """

    def hold(turned: Sequence[Kink]) -> tuple[dict[str, Held], int] | None:
        views = run(_Finder(turned, draws=2))
        found = {
            # torch stands on the other side, and tells nothing of rounding on this one.
            name: judge.hold("gradients", name, ours, torchs, views[name], own=False)
            for name, (ours, torchs, _) in given.items()
        }
        return (found, len(turned)) if all(each.agrees for each in found.values()) else None

    with replaying(plan, recorder, step) as replay:

        def run(finder: _Finder) -> dict[str, View]:
            views = replay(finder, finder.name)
            return {name: view for (stage, name), view in views.items() if stage == "gradients"}

        finder = _Finder(shown=shown, draws=2)
        exact = _list_exact(run(finder))
        known, possible = (list(dict.fromkeys(k)) for k in (finder.known, finder.possible))
        if known and (found := hold(known)):
            return found
        if not possible:
            return None
        turned = _list_exact(run(_Finder([*known, *possible])))
        if not _may_explain(_subtract(turned, exact), held):
            return None
        if len(possible) > MOST:
            return _leave_out(exact, turned, held), len(possible)
        begin = _list_exact(run(_Finder(known))) if known else exact
        effects = [_subtract(_list_exact(run(_Finder([*known, kink]))), begin) for kink in possible]
        shares = _solve(effects, begin, given, held)
        chosen = [k for k, share in zip(possible, shares, strict=True) if share > 0.5]
        return hold([*known, *chosen]) if chosen else None


def _list_exact(views: Mapping[str, View]) -> dict[str, np.ndarray]:
    return {name: view.exact for name, view in views.items()}


def _solve(
    effects: list[dict[str, np.ndarray]],
    begin: dict[str, np.ndarray],
    given: Given,
    held: Mapping[str, Held],
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


def _may_explain(effects: dict[str, np.ndarray], held: Mapping[str, Held]) -> bool:
    """Whether the choices, all turned, reach most of what is out of bounds."""
    reached = [
        np.abs(effects[name])[off] * MOST >= each.error[off]
        for name, each in held.items()
        if (off := each.error > each.bound).any()
    ]
    return bool(np.concatenate(reached).mean() > 0.5) if reached else True


def _leave_out(
    exact: dict[str, np.ndarray], turned: dict[str, np.ndarray], held: Mapping[str, Held]
) -> dict[str, Held]:
    found = {}
    for name, each in held.items():
        effect = np.abs(turned[name] - exact[name])
        typical = np.sqrt(np.mean(effect**2))
        compared = each.compared & (
            (effect <= each.bound) | (each.error > MOST * (effect + typical))
        )
        error = np.where(compared, each.error, 0.0)
        why = "" if compared.any() else f"they lie behind more than {MOST} kinks within rounding"
        found[name] = each._replace(error=error, compared=compared, why=why)
    return found


def _subtract(ours: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value - others[name] for name, value in ours.items()}
