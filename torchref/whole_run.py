"""The port by itself from start to end, beside torch's own run."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from jaxnet.certificate import bounds
from jaxnet.certificate.comparison import Comparator
from torchref.batch import Batch
from torchref.candidate import Port
from torchref.names import name_arrays
from torchref.plan import Plan
from torchref.reference.perturbed import (
    DOUBTED,
    Perturbed,
    Run,
    bound_last,
    bound_losses,
    is_unsteady,
    name_last,
    perturb,
)
from torchref.snapshot import Snapshot
from torchref.steps import Drawn, Named, copy_array


class Steps(NamedTuple):
    """What the steps have shown of torch's run."""

    own: Run
    begin: Named
    """The tensors before the first step, and zeros for the outputs."""
    alone: np.ndarray
    """What rounding may make of each loss, from torch's own weights."""
    sizes: Mapping[str, tuple[Any, Any]]
    """By parameter, the size of all steps, and of what rounding decided of them."""
    granted: Collection[str]
    draws: tuple[Drawn, ...]
    """What the last evaluation drew at random."""
    turned: Mapping[int, Named]
    """By step, the gradients of the other side of a kink."""


RunAlone = Callable[[Any, Any, Any, Any], tuple[np.ndarray, Any, Any]]
"""`run(params, model_state, opt_state, still)` trains a port by itself, with the elements of its
parameters held that are True in `still`; gives losses, parameters and other collections."""


class WholeRun:
    """A run of a port by itself that is compared with torch's.

    Args:
      plan, port, comparator: as for `torchref.comparison.Comparison`.
      run: trains the port.
      skip: whether a tensor at the end is left out, for a known difference that was granted.
    """

    def __init__(
        self,
        plan: Plan,
        port: Port,
        comparator: Comparator,
        run: RunAlone,
        skip: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._plan, self._port, self._comparator = plan, port, comparator
        self._run, self._skip = run, skip
        self._first: Any = None
        self._steps: Any = None
        self.losses = self.own = np.zeros(0)
        """The losses: the port's, and torch's."""
        self.last: Named | None = None
        self.chaos: int | None = None
        """The steps up to which the losses are compared; None where no run was."""
        self.still: dict[str, np.ndarray] = {}
        """Elements whose steps rounding decides, which both runs hold where they begin."""

    def begin(self) -> None:
        """The port is as it begins."""
        self._first = self._port.params, self._port.model_state, self._port.opt_state

    def compare(self, steps: Steps, begun: Snapshot, stream: torch.Tensor) -> None:
        """Compare with torch and with torch perturbed by an ulp; by more where that does not do.

        Elements whose steps rounding decides are held still on both sides: else each run would go
        its own way, and so would torch's with other kernels.
        """
        self._steps, comparator = steps, self._comparator
        self.still = {
            name: decided > bounds.DECIDED * size
            for name, (size, decided) in steps.sizes.items()
            if (decided > bounds.DECIDED * size).any()
        }
        given = self._plan, steps.own, begun, stream, self.still
        runs = perturb(*given, steps.granted)
        params, model_state, opt_state = self._first
        still = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), bool), params)
        still = self._port.weights.place(still, self.still)
        self.losses, last, model_state = self._run(params, model_state, opt_state, still)
        self.last = self._port.name_weights(last, params, steps.begin)
        self.own = runs.own.losses
        buffers, data = self._port.name_buffers(model_state), self.data()
        outputs = self._port.predict(last, model_state, data[:2], steps.draws)
        found = {**self.last, **buffers, **name_last(name_arrays(outputs))}
        floats = {n: a for n, a in found.items() if runs.own.last[n].dtype.kind == "f"}
        if self._leaves(floats, runs):
            further = perturb(*given, turned=steps.turned, moves=DOUBTED).moved
            runs = runs._replace(further=further)
        bound, self.chaos = bound_losses(runs, steps.alone)
        self._point_at(bound)
        counted = np.arange(len(self.own)) < self.chaos
        comparator.trajectory("whole run", "loss", self.losses, self.own, bound, where=counted)
        for name, buffer in buffers.items():
            if name not in floats:
                comparator.exactly("whole run", name, buffer, runs.own.last[name])
        for name, ours in floats.items():
            if not self._skip(name):
                self._compare_last(name, ours, runs)

    def _leaves(self, found: Named, runs: Perturbed) -> bool:
        """Whether the losses, or what is there at the end, leave the bounds of a few runs."""
        bound, _ = bound_losses(runs, self._steps.alone)
        if _find_off(self.losses, self.own, bound).any():
            return True
        return any(
            self._bound_last(name, ours, runs)[1].any()
            for name, ours in found.items()
            if not self._skip(name)
        )

    def data(self) -> Batch:
        """All rows, in NumPy."""
        return jax.tree.map(copy_array, self._plan.data)

    def _bound_last(self, name: str, ours: np.ndarray, runs: Perturbed) -> tuple[Any, np.ndarray]:
        """The bound on a tensor at the end, and where it is left, but for a few by little."""
        begin, there = self._steps.begin[name], runs.own.last[name]
        limit = bound_last(name, begin, runs) + self._steps.sizes.get(name, (0.0, 0.0))[1]
        still = self.still.get(name, np.zeros(there.shape, bool))
        went = np.abs(there - begin).max(initial=0.0)
        off = _find_off(ours, there, limit) & ~still
        if off.sum() <= max(1, bounds.FEW * off.size):
            limit = np.where(off, np.maximum(limit, bounds.LONE * went), limit)
            off = _find_off(ours, there, limit) & ~still
        return limit, off

    def _compare_last(self, name: str, ours: np.ndarray, runs: Perturbed) -> None:
        begin, there = self._steps.begin[name], runs.own.last[name]
        limit, _ = self._bound_last(name, ours, runs)
        still = self.still.get(name, np.zeros(there.shape, bool))
        went = np.abs(there - begin).max(initial=0.0)
        # All runs that were moved may then have missed what may happen.
        unsteady = bool(is_unsteady(self.own, self._steps.alone).any())
        limit = np.where(still, 0.0, np.inf if unsteady else limit)
        # Of what does not move at all, that it stays is compared.
        counted = ((limit <= bounds.TOLD * went) | (went == 0)) & ~still
        if not counted.any():
            self._comparator.why["whole run", name] = (
                "rounding decides its steps" if still.all() else "rounding may move it as far"
            )
        self._comparator.trajectory("whole run", name, ours, there, limit, where=counted)

    def _point_at(self, bound: np.ndarray) -> None:
        """A divergence of the whole run is reported at its first step out of bounds."""
        off = _find_off(self.losses, self.own, bound)
        step = int(np.argmax(off)) + 1 if off.any() else len(self.losses)
        self._comparator.step, steps = step, self._plan.batching.steps
        self._comparator.epoch = (step - 1) // steps + 1


def _find_off(ours: np.ndarray, own: np.ndarray, bound: Any) -> np.ndarray:
    """Where a number is further off than its bound, or is none."""
    with np.errstate(invalid="ignore"):
        near = (ours == own) | (np.isnan(ours) & np.isnan(own)) | (np.abs(ours - own) <= bound)
    return ~near & np.isfinite(bound)
