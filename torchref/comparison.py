"""One torch run compared with a port step by step: what `certify` compares, in its order."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

from jaxnet.certificate.comparison import Comparator, Held
from torchref.batch import Batch
from torchref.candidate import Port, Seen
from torchref.evaluation import Evaluating
from torchref.matching.linear import FunctionMap
from torchref.plan import FORWARD, Loop, Plan, train
from torchref.recorder import Recorder
from torchref.reference.float64 import Reference
from torchref.reference.kinks import Given, explain
from torchref.reference.perturbed import Run, name_last
from torchref.replay import Views, replaying
from torchref.snapshot import list_state
from torchref.steps import Named, Step, copy_array, copy_named
from torchref.update import UpdateComparison
from torchref.whole_run import Steps, WholeRun

_DRAWS = 2
_FIRST, _EVERY = 3, 16
"""Numbers are rounded in the first steps, and then in every so many, to save time."""

_TURNED = 2**28
"""Bytes of gradients from another side of a kink that are kept."""

_DOUBTED = 6
"""Draws of a step whose numbers seem to diverge, before that is reported."""


class Comparison(Loop):
    """Runs a plan in torch and compares a port with it.

    Args:
      plan: torch's run, which is trained; `begun` is a snapshot of it as it is now.
      port: the port, with torch's weights of the start.
      progress: called with the number of each step before it is compared.
    """

    whole: WholeRun
    """The whole run, which a subclass gives, as it does the next."""
    update: UpdateComparison

    def __init__(
        self, plan: Plan, port: Port, *, progress: Callable[[int], Any] | None = None
    ) -> None:
        self.plan, self.port, self._progress = plan, port, progress or (lambda step: None)
        self.comparator = comparator = Comparator()
        """Compares, and notes what it saw."""
        self.begun = plan.snapshot()
        """To put back what the run changes."""
        self.reference, self.views = Reference(), Views()
        self.recorder = Recorder(
            plan.net, plan.loss, plan.optimizer,
            each=partial(setattr, self, "_step"), look=self._look, begin_update=self._before_update,
        )  # fmt: skip
        self._step: Any = None
        self.losses: list[float] = []
        self.seen_losses: list[float] = []
        """The port's, from torch's weights."""
        self._loss_bounds: list[float] = []
        self.first: Named = {}
        """The port's weights as it begins."""
        self._evaluating = Evaluating(
            plan, port, comparator, self.reference, forget=self._forget, draws=_DOUBTED
        )
        self._evaluated = 0
        self.overflowed = 0
        """The first step in which torch's loss is not finite, 0 if there is none."""
        self.matches: Mapping[str, str] = {}
        """By leaf of the port, what it holds and how that was decided, where it had to be."""
        self.unseen: list[str] = []
        """torch's layers whose outputs the port computes nowhere by themselves."""
        self.kinks = 0
        """How often the port was on another side of a kink than torch, within rounding."""
        self._turned: dict[int, Named] = {}
        """By step, the port's gradients there: so may torch's own run go."""

    def check_rows(self, epoch: int, rows: np.ndarray) -> None:
        """Which rows torch takes in this step."""

    def give_draws(self, step: Step, batch: Batch) -> Any:
        """What the port is given for torch's draws."""
        raise NotImplementedError

    def observe(self, step: Step, arguments: Sequence[Any]) -> Seen:
        """The port's step; `arguments` are what `Port.step` takes."""
        del step
        return self.port.step(*arguments)

    def compare_outputs(self, step: Step, seen: Seen, arguments: Sequence[Any]) -> None:
        """Outputs and buffers."""
        raise NotImplementedError

    def time_port(self, batch: Batch) -> Callable[[int], float]:
        """How long so many of the port's training steps on a batch take."""
        raise NotImplementedError

    def end_stream(self, after: torch.Tensor) -> None:
        """torch's generator at the end."""

    def run(self) -> None:
        """Compare everything; `Diverged` leaves at the first divergence."""
        weights, buffers = self._tensors()
        self.compare_initial(weights, buffers)
        stream = torch.get_rng_state()
        with self.plan.kernels():
            with self.recorder:
                train(self.plan, self)
            after = torch.get_rng_state()
            if not self.plan.scope:
                self.compare_whole_run(weights | buffers, stream)
        self.end_stream(after)

    def compare_initial(self, weights: Named, buffers: Named) -> None:
        """The weights and buffers before the first step."""
        port = self.port
        placed, _ = port.place(weights, buffers)
        if isinstance(port.weights, FunctionMap):  # it gives the port its weights
            port.params = placed
        ours = port.name_weights(port.params, placed, weights)
        ours = {name: array.astype(weights[name].dtype) for name, array in ours.items()}
        self.first = ours
        ours |= port.name_buffers(port.model_state)
        for name, value in (weights | buffers).items():
            if name in ours:
                self.comparator.exactly("initial weights", name, ours[name], value)
            elif name in port.weights.without:
                self.comparator.missing("initial weights", name, port.weights.without[name])
        self.whole.begin()

    def compare_whole_run(self, begin: Named, stream: torch.Tensor) -> None:
        """The port by itself, from where both began."""
        weights, buffers = self._tensors()
        last = name_last(self._evaluating.last.outputs)
        steps = Steps(
            Run(np.array(self.losses), weights | buffers | last),
            begin | {name: np.zeros_like(output) for name, output in last.items()},
            np.array(self._loss_bounds),
            self.update.sizes,
            self.update.granted,
            self._evaluating.last.draws,
            self._turned,
        )
        self.whole.compare(steps, self.begun, stream)

    def _tensors(self) -> tuple[Named, Named]:
        net = self.plan.net
        return copy_named(net.named_parameters()), copy_named(net.named_buffers())

    def before(self, epoch: int, rows: np.ndarray) -> Any:
        """A step begins; the reference listens to what torch does."""
        self.comparator.epoch, self.comparator.step = epoch, self.comparator.step + 1
        self._progress(self.comparator.step)
        self.check_rows(epoch, rows)
        self.views, self._doubted = Views(), False
        self._forget()
        self.reference.draws = self._draws()
        return self.reference

    def _forget(self) -> None:
        """Everything but what does not change, and the optimizer's state, which is kept."""
        kept = [*jax.tree.leaves(self.plan.data), *list_state(self.plan.optimizer)]
        self.reference.forget(kept)

    def _draws(self) -> int:
        """How many times the numbers of this step are rounded."""
        step = self.comparator.step
        return 0 if step > _FIRST and step % _EVERY else _DRAWS

    def _look(self, stage: str, name: str, tensor: torch.Tensor) -> None:
        """The recorder has come upon a tensor."""
        if stage == "update":
            self.views[stage, name] = self.reference.look_step(tensor)
        elif tensor.is_floating_point():
            self.views[stage, name] = self.reference.look(tensor)

    def _before_update(self) -> None:
        """The optimizer continues from torch's gradients, and from its own state in float64."""
        self._forget()
        self.reference.draws = 0
        self.reference.watch_steps(list(self.plan.net.parameters()))

    def after(self) -> None:
        """A step of torch's is done: compare the port's with it, from the same weights."""
        self.compare_step(self._step)

    def compare_step(self, step: Step) -> None:
        """Compare one step."""
        batch = jax.device_put(self.plan.data.like(step.batch))
        draws = self.give_draws(step, batch)
        params, model_state = self.port.place(step.weights_before, step.buffers_before)
        arguments = params, model_state, batch[:2], batch.y, draws
        seen = self.observe(step, arguments)
        self.compare_outputs(step, seen, arguments)
        if self.plan.scope != FORWARD:
            self._compare_loss(step, seen)
            self._compare_gradients(step, seen)
        if not self.plan.scope:
            self.update.compare(step, seen, params, self.views)
        self.losses.append(float(step.loss))
        self.seen_losses.append(float(seen.loss))
        self.port.model_state = seen.model_state  # what torch lacks is kept

    def _compare_loss(self, step: Step, seen: Seen) -> None:
        held = self.hold("loss", "loss", seen.loss, step.loss)
        assert held is not None
        self._loss_bounds.append(float(held.bound) if held.compared else np.inf)
        if not np.isfinite(step.loss):
            self.overflowed = self.overflowed or self.comparator.step

    def hold(self, stage: str, name: str, jax: Any, torch: Any, shown: str = "") -> Held | None:
        """Compare a tensor of this step's, with more draws where it seems to diverge."""
        comparator, key, shown = self.comparator, (stage, name), shown or name
        if key not in self.views:  # integers and choices
            comparator.exactly(stage, shown, jax, torch)
            return None
        held = self.look_at(stage, name, jax, torch)
        comparator.accept(stage, shown, jax, torch, self.views[key], held)
        return held

    def look_at(self, stage: str, name: str, jax: Any, torch: Any) -> Held:
        """The same without a verdict."""
        held = self.comparator.hold(stage, name, jax, torch, self.views[stage, name])
        if not held.agrees and self._doubt():
            held = self.comparator.hold(stage, name, jax, torch, self.views[stage, name])
        return held

    def _doubt(self) -> bool:
        """Round the step more often, where that was not done: see whether that explains it."""
        if self._doubted:
            return False
        self._doubted = True
        with replaying(self.plan, self.recorder, self._step) as replay:
            self.views |= replay(Reference(_DOUBTED))
        return True

    def _compare_gradients(self, step: Step, seen: Seen) -> None:
        """From the last layer to the first, as an error travels back."""
        ours, weights = self.port.weights.pull_grads(seen.grads), self.port.weights
        outputs = (*step.outputs.values(), step.loss)
        self.comparator.finite = all(bool(np.isfinite(each).all()) for each in outputs)
        given, held = self._hold_gradients(step, ours)
        if not _agree(held) and self._doubt():
            given, held = self._hold_gradients(step, ours)
        if not _agree(held):
            shown = seen.inner if self.port.shows_layers else {}
            held = self._explain_kinks(step, ours, given, held, shown)
        for name, each in given.items():
            self.comparator.accept("gradients", name, *each, held[name])
            self.update.note_rounding(name, each[2], held[name], self.views["update", name].size)
        for name, leaf in weights.others(seen.grads).items():
            if np.any(np.asarray(leaf) != 0):
                what = "a leaf that torch has not, with a gradient"
                self.comparator.missing("gradients", name, what)

    def _hold_gradients(self, step: Step, ours: Named) -> tuple[Given, dict[str, Held]]:
        given = {
            name: (ours[name], grad, self.views["gradients", name])
            for name, grad in reversed(step.grads.items())
            if name in ours
        }
        return given, {n: self.comparator.hold("gradients", n, *each) for n, each in given.items()}

    def _explain_kinks(
        self, step: Step, ours: Named, given: Given, held: dict[str, Held], shown: Named
    ) -> dict[str, Held]:
        """Against the gradients of the port's side of kinks, where these explain it."""
        with replaying(self.plan, self.recorder, step) as replay:
            explained = explain(replay, given, held, comparator=self.comparator, shown=shown)
        if explained is None:
            return held
        held, count = explained
        self.kinks += count
        size = sum(array.nbytes for array in ours.values())
        if (len(self._turned) + 1) * size <= _TURNED:
            self._turned[self.comparator.step] = ours
        return held

    def end(self, epoch: int) -> None:
        """Outputs of all rows in evaluation mode, after the first epochs, the last one, and
        whenever enough steps have gone by: where an epoch is one step, to evaluate takes as long.
        """
        steps = self.comparator.step - self._evaluated
        if _FIRST < epoch < self.plan.epochs and steps < _EVERY:
            return
        self._evaluated = self.comparator.step
        tensors, data = self._tensors(), jax.device_put(jax.tree.map(copy_array, self.plan.data))
        self._evaluating.compare(self.port.place(*tensors), data, self._draws())


def _agree(held: dict[str, Held]) -> bool:
    return all(each.agrees for each in held.values())
