"""All rows' outputs in evaluation mode, a port's beside torch's."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from jaxnet.certificate.bounds import View
from jaxnet.certificate.comparison import Comparator
from torchref.batch import Batch
from torchref.candidate import Port
from torchref.names import name_arrays, name_outputs
from torchref.plan import Plan
from torchref.reference.float64 import Reference
from torchref.reference.perturbed import Evaluation, evaluate

_ROWS = 2048
"""Rows that the reference evaluates at once, to save memory."""


class Evaluating:
    """Evaluates a net and its port, both with torch's weights and buffers of now.

    Args:
      plan, port, comparator: as for `Comparison`.
      reference: measures torch's rounding.
      forget: empties the reference between two parts of the rows.
      draws: how often numbers are rounded where the port's seem to differ.
    """

    def __init__(
        self,
        plan: Plan,
        port: Port,
        comparator: Comparator,
        reference: Reference,
        *,
        forget: Callable[[], None],
        draws: int,
    ) -> None:
        self._plan, self._port, self._comparator = plan, port, comparator
        self._reference, self._forget, self._draws = reference, forget, draws
        self.last = Evaluation({}, torch.get_rng_state(), ())
        """What torch's net gave at last."""

    def compare(self, tensors: tuple[Any, Any], data: Batch, draws: int) -> None:
        """Hold the port's outputs against torch's.

        Args:
          tensors: the port's parameters and other collections.
          data: all rows, on JAX's device.
          draws: how often numbers are rounded at first.
        """
        self.last = evaluate(self._plan)
        ours = name_arrays(self._port.predict(*tensors, data[:2], self.last.draws))
        views = self._view_rows(draws)
        more: dict[str, View] = {}
        for name, output in self.last.outputs.items():
            place = "evaluation", f"outputs{name}"
            if name not in ours:
                self._comparator.missing(*place, "an output that the port has not")
            if name not in views:
                self._comparator.exactly(*place, ours[name], output)
                continue
            if not self._comparator.hold(*place, ours[name], output, views[name]).agrees:
                more = more or self._view_rows(self._draws)
            self._comparator.floats(*place, ours[name], output, (more or views)[name])

    def _view_rows(self, draws: int) -> dict[str, View]:
        """What the reference knows of the outputs, some rows at a time to save memory."""
        reference, rows, (outputs, stream, drawn) = (
            self._reference, self._plan.data.num_examples, self.last,
        )  # fmt: skip
        apart = all(output.shape[:1] == (rows,) for output in outputs.values()) and not drawn
        size, after = _ROWS if apart else rows, torch.get_rng_state()
        found: dict[str, list[View]] = {}
        torch.set_rng_state(stream)
        for begin in range(0, rows, size):
            self._forget()
            reference.draws = draws
            place = slice(begin, begin + size)
            part = jax.tree.map(lambda tensor, place=place: tensor[place], self._plan.data)
            with torch.no_grad(), reference, self._plan.dropping():
                for name, output in name_outputs("", self._plan.forward(part)).items():
                    if output.is_floating_point():
                        found.setdefault(name, []).append(reference.look(output))
        torch.set_rng_state(after)
        return {name: _join(views) for name, views in found.items()}


def _join(views: list[View]) -> View:
    if len(views) == 1:
        return views[0]
    exact, spread, size = zip(*views, strict=True)
    joined = None if spread[0] is None else np.concatenate(spread)
    return View(np.concatenate(exact), joined, np.concatenate(size))
