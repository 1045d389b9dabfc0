"""What an optimizer does in one step of torch's, compared with what the port's does."""

from typing import Any

import numpy as np

from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import View
from jaxnet.certificate.comparison import Comparator, Held
from torchref.candidate import Port, Seen
from torchref.plan import Plan
from torchref.reference.float64 import Reference
from torchref.reference.updates import find_decay, grant, list_updates
from torchref.replay import Views
from torchref.steps import Named, Step


class UpdateComparison:
    """The optimizer alone: from torch's gradients, and from the same gradients ever since.

    Args:
      plan, port, comparator, reference: of the comparison that this is a part of.
      optax: whether the port's optimizer may be optax's.
    """

    def __init__(
        self, plan: Plan, port: Port, comparator: Comparator, reference: Reference, *, optax: bool
    ) -> None:
        self._plan, self._port, self._comparator = plan, port, comparator
        self._reference, self._optax = reference, optax
        self.sizes: dict[str, tuple[Any, Any]] = {}
        """By parameter, the size of all steps, and of what rounding decided of them."""
        self.granted: dict[str, float] = {}
        """Known differences that the port needs, with the largest share of a step."""
        self.decay: dict[str, float] = {}
        """That of torch's own decay, whether or not the port has it too."""

    def grant(self, causes: dict[str, float]) -> None:
        """Note known differences."""
        for cause, share in causes.items():
            self.granted[cause] = max(share, self.granted.get(cause, 0.0))

    def note_rounding(self, name: str, view: View, held: Held, step_size: np.ndarray) -> None:
        """By how much of a parameter's step the rounding of its gradient may change it."""
        exact, bound, size = np.abs(view.exact), held.bound, view.size
        unsure = np.divide(bound, exact, where=exact > 0, out=np.ones(exact.shape))
        unsure = np.where(held.compared, np.minimum(1.0, unsure), 1.0)
        known = self.sizes.get(name, (0.0, 0.0))
        # An optimizer that divides by its size makes a step of what rounding leaves of a 0.
        rounded = (unsure >= 1) & (bound > 0) & (step_size == 0)
        unsure = np.where(size == 0, 0.0, unsure)
        decided = unsure * np.where(rounded, step_size.max(initial=0.0), step_size)
        self.sizes[name] = known[0] + step_size, known[1] + decided

    def compare(self, step: Step, seen: Seen, params: Any, views: Views) -> None:
        """The updates and the weights after them; `params` hold torch's before the step."""
        port, comparator = self._port, self._comparator
        # Where torch has none, the port's own: what torch leaves alone, the port must leave alone.
        grads = port.weights.push_grads(seen.grads, step.grads)
        updates, port.opt_state, weights = port.update(grads, port.opt_state, params)
        named = port.weights.pull(updates)
        after = port.name_weights(weights, params, step.weights_before)
        for name in named:
            before, weight = step.weights_before[name], step.weights[name]
            change = weight.astype(np.float64) - before
            view = self._view(name, step, named[name], change, views["update", name])
            self.compare_one(name, named, change, view, step, views)
            # Added in float32, and once.
            update = named[name].astype(np.float64)
            summed = View(before + update, None, np.abs(before) + np.abs(update))
            comparator.floats("weights", name, after[name], weight, summed, own=False)

    def compare_one(
        self, name: str, named: Named, change: np.ndarray, view: View, step: Step, views: Views
    ) -> None:
        """One parameter's update, of all those that are `named`."""
        del step, views
        self._comparator.floats("update", name, named[name], change, view, own=False)

    def _view(
        self, name: str, step: Step, ours: np.ndarray, change: np.ndarray, view: View
    ) -> View:
        """The exact update, with the known differences that explain the port's."""
        before = step.weights_before[name]
        # Of a gradient among float32's smallest numbers the averages have lost digits.
        size = np.abs(step.grads.get(name, np.zeros(before.shape)))
        lost = (size > 0) & (size < bounds.SMALLEST)
        view = view._replace(size=np.where(lost, np.nan, view.size))
        others = self._list_updates(name, before, view.exact)
        view, granted = grant(self._comparator, name, ours, change, view, others)
        self.grant(granted)
        if self._comparator.step == 1:
            self.decay |= find_decay(self._list_updates(name, before, view.exact), view)
        return view

    def _list_updates(self, name: str, before: np.ndarray, exact: np.ndarray) -> Any:
        return list_updates(
            self._plan.optimizer,
            self._plan.net.get_parameter(name),
            before,
            exact,
            self._reference,
            optax=self._optax,
        )
