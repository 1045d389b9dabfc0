"""The update of a port that somebody wrote: what explains it, and what of that is granted."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from jaxnet.certificate.bounds import View
from jaxnet.certificate.comparison import Comparator, Diverged
from torchref.candidate import Port
from torchref.known import SCALES
from torchref.plan import Plan
from torchref.reference.float64 import Reference
from torchref.replay import Views
from torchref.steps import Named, Step
from torchref.update import UpdateComparison
from torchref.update_causes import Moved, explain_update


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
        held = self._comparator.hold("update", name, named[name], change, view, own=False)
        if held.agrees:
            super().compare_one(name, named, change, view, step, views)
            return
        moved = {key: self._gather(key, ours, step, views) for key, ours in named.items()}
        causes = explain_update(moved, name)
        cause = causes[0].partition(":")[0] if causes else ""
        if cause in self._known:
            ratio = 1 / moved[name].terms if cause == "merged-bias" else _ratio(moved[name])
            changed = view._replace(exact=view.exact * ratio)
            if self._comparator.hold(
                "update", name, named[name], change, changed, own=False
            ).agrees:
                self.grant({cause: abs(ratio - 1)})
                return
        try:
            super().compare_one(name, named, change, view, step, views)
        except Diverged as diverged:
            found = diverged.divergence
            causes = (*causes, *found.causes)
            raise Diverged(replace(found, causes=causes)) from None

    def _gather(self, name: str, ours: np.ndarray, step: Step, views: Views) -> Moved:
        grads = step.grads.get(name, np.zeros(ours.shape))
        terms = self._port.weights.terms.get(name, 1)
        exact = views["update", name].exact
        return Moved(ours.astype(np.float64), exact, step.weights_before[name], grads, terms)


def _ratio(moved: Moved) -> float:
    """By how much the port's step is another multiple of torch's."""
    return float((moved.ours * moved.torchs).sum() / (moved.torchs**2).sum())
