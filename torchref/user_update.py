"""The update of a port that somebody wrote: what explains it, and what of that is granted."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch

from jaxnet.certificate.bounds import View
from jaxnet.certificate.causes import FORMULAS, Diverged
from jaxnet.certificate.comparison import Comparator, Held
from torchref.candidate import Port
from torchref.plan import Plan
from torchref.reference.float64 import Reference
from torchref.replay import Views
from torchref.steps import Named, Step
from torchref.update import UpdateComparison

_FITS = 1e-4
"""Of an update's size, what a cause may leave unexplained."""

SCALES = frozenset({"clip-epsilon", "merged-bias"})
"""Known differences that change the updates, and with them the whole run."""


def check_known(known: object) -> tuple[str, ...]:
    """The names that `certify` was given."""
    names = (known,) if isinstance(known, str) else tuple(known)  # pyright: ignore
    if strange := sorted(set(names) - set(FORMULAS)):
        raise ValueError(f"known must be among {', '.join(FORMULAS)}, not {strange[0]!r}")
    return names


class Moved(NamedTuple):
    """One parameter's step."""

    ours: np.ndarray
    torchs: np.ndarray
    """Exactly, in float64."""
    weights: np.ndarray
    """Before the step."""
    grads: np.ndarray
    terms: int = 1
    """How many of torch's tensors the port holds as one sum."""


def explain_update(moved: Mapping[str, Moved], first: str) -> str:
    """The simplest cause of the divergence of the parameter `first`; "" where none explains it.

    >>> step = np.array([0.5, -1.0])
    >>> explain_update({"w": Moved(step / 2, step, step * 0, step)}, "w")
    "the update is 0.5 times torch's: another learning rate, or a sum where torch takes a mean"
    """
    step = moved[first]
    ratio = _ratio(step.ours, step.torchs)
    if step.terms > 1 and ratio is not None and abs(ratio - 1 / step.terms) < _FITS:
        return (
            f"merged-bias: torch has {_count(step.terms)} biases where the port has their sum, "
            f"which therefore moves {step.terms} times as far in torch"
        )
    norm = float(
        np.sqrt(sum((each.grads.astype(np.float64) ** 2).sum() for each in moved.values()))
    )
    if ratio is not None and all(_near(_ratio(m.ours, m.torchs), ratio) for m in moved.values()):
        if 0 < abs(ratio - 1) < 1e-3 and abs((ratio - 1) * norm - 1e-6) < 2e-7:
            return (
                "clip-epsilon: clip_grad_norm_ divides by the norm + 1e-6, "
                "optax.clip_by_global_norm by the norm"
            )
        return (
            f"the update is {ratio:.4g} times torch's: another learning rate, or a sum where torch "
            "takes a mean"
        )
    if share := _ratio(step.ours - step.torchs, step.weights):
        return (
            f"weight decay is another: the steps differ by {share:.3g} of the weight, so that the "
            f"port decays {'less' if share > 0 else 'more'} than torch"
        )
    return _explain_clipping(moved)


def _explain_clipping(moved: Mapping[str, Moved]) -> str:
    """Whether each element is a multiple of its gradient, cut at one value."""
    ours = np.concatenate([m.ours.ravel() for m in moved.values()])
    grads = np.concatenate([m.grads.ravel() for m in moved.values()]).astype(np.float64)
    most = np.abs(ours).max(initial=0.0)
    cut = np.abs(ours) > (1 - 1e-5) * most
    if most and 1 < cut.sum() < len(ours):
        rate = _ratio(ours[~cut], grads[~cut])
        if rate and (np.abs(rate * grads[cut]) >= most * (1 - 1e-4)).all():
            return f"gradients are clipped by value, at {most / abs(rate):.3g}, not by their norm"
    return ""


def _ratio(ours: np.ndarray, torchs: np.ndarray) -> float | None:
    """The one number by which torch's differ from the port's; None where there is none."""
    size = float((torchs * torchs).sum())
    if not size or not np.isfinite(ours).all():
        return None
    ratio = float((ours * torchs).sum() / size)
    left = np.linalg.norm(ours - ratio * torchs)
    return ratio if left <= _FITS * max(abs(ratio), 1e-3) * size**0.5 else None


def _near(ratio: float | None, other: float) -> bool:
    return ratio is None or abs(ratio - other) <= _FITS * max(abs(other), 1e-3)


def _count(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))


class UserUpdate(UpdateComparison):
    """Compares updates, beyond differences of formula that are `known`."""

    def __init__(
        self,
        plan: Plan,
        port: Port,
        comparator: Comparator,
        reference: Reference,
        known: Collection[str],
    ) -> None:
        super().__init__(plan, port, comparator, reference, optax=True)
        self._known = SCALES & set(known)

    def compare_one(
        self, name: str, named: Named, change: np.ndarray, view: View, step: Step, views: Views
    ) -> None:
        """One parameter's update; where it diverges, with the causes that the numbers show."""
        if self._hold(name, named, change, view).agrees:
            super().compare_one(name, named, change, view, step, views)
            return
        moved = {key: self._gather(key, ours, step, views) for key, ours in named.items()}
        words = explain_update(moved, name)
        cause = words.partition(":")[0]
        if cause in self._known:
            ours, theirs, *_, terms = moved[name]
            by_size = float((ours * theirs).sum() / (theirs**2).sum())
            ratio = 1 / terms if cause == "merged-bias" else by_size
            changed = view._replace(exact=view.exact * ratio)
            if self._hold(name, named, change, changed).agrees:
                self.grant({cause: abs(ratio - 1)})
                return
        try:
            super().compare_one(name, named, change, view, step, views)
        except Diverged as diverged:
            raise diverged.because(*filter(None, [words])) from None

    def _hold(self, name: str, named: Named, change: np.ndarray, view: View) -> Held:
        return self._comparator.hold("update", name, named[name], change, view, own=False)

    def _gather(self, name: str, ours: np.ndarray, step: Step, views: Views) -> Moved:
        grads = step.grads.get(name, np.zeros(ours.shape))
        terms = self._port.weights.terms.get(name, 1)
        exact = views["update", name].exact
        return Moved(ours.astype(np.float64), exact, step.weights_before[name], grads, terms)


def bias_variance(net: torch.nn.Module, name: str, step: Step, view: View) -> View | None:
    """The running variance that a layer would have, did it keep the biased variance of the batch.

    With m the momentum, n the numbers of a channel and v the variance that torch divides by n - 1,
    torch keeps (1 - m) old + m v, and the others (1 - m) old + m v (n - 1) / n.
    """
    layer, _, last = name.rpartition(".")
    module = net.get_submodule(layer)
    momentum = getattr(module, "momentum", None)
    if last != "running_var" or momentum is None or layer not in step.outputs:
        return None
    count = step.outputs[layer].size / step.buffers[name].size
    kept = (1 - momentum) * step.buffers_before[name].astype(np.float64)
    return view._replace(exact=kept + (view.exact - kept) * (count - 1) / count)
