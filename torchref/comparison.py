"""One torch run compared with its port step by step: what `certify` compares, in its order."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

import jaxnet
from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import View
from jaxnet.certificate.comparison import Comparator, Held
from jaxnet.random import Generator
from torchref.candidate import Port, Seen
from torchref.masks import Dropouts, flatten, make_draw, nest
from torchref.plan import FORWARD, Loop, Plan, train
from torchref.recorder import Named, Recorder, Step, copy_named
from torchref.reference.float64 import Reference
from torchref.reference.kinks import Given, explain
from torchref.reference.perturbed import (
    OUTPUTS,
    Run,
    evaluate,
)
from torchref.reference.updates import find_decay, grant, list_updates
from torchref.replay import Views, replaying
from torchref.whole_run import Steps, WholeRun, begin_epoch, compare_bits

_DRAWS = 2
_FIRST, _EVERY = 3, 16
"""Numbers are rounded in the first steps, and then in every so many, to save time."""

_DOUBTED = 6
"""Draws of a step whose numbers seem to diverge, before that is reported."""

_ROWS = 2048
"""Rows that the reference evaluates at once, to save memory."""


class Comparison(Loop):
    """Runs a plan in torch and compares a port with it.

    Args:
      plan: torch's run, which is trained; `begun` is a snapshot of it as it is now.
      port: the port, with torch's weights of the start.
      generator: where the port's random numbers come from.
      comparator: compares, and notes what it saw.
      jnet, jax_loss: the net and the loss for `jaxnet.fit`, where jaxnet made the port.
      progress: called with the number of each step before it is compared.
    """

    def __init__(
        self,
        plan: Plan,
        port: Port,
        generator: Generator,
        comparator: Comparator,
        jnet: Any = None,
        jax_loss: Any = None,
        progress: Callable[[int], Any] | None = None,
    ) -> None:
        self.plan, self.port, self.comparator, self._progress = plan, port, comparator, progress
        self.begun = plan.snapshot()
        """To put back what the run changes."""
        self._jnet = jnet
        self._generator = generator
        self._batching = plan.batching
        self._reference, self._views = Reference(), Views()
        self._recorder = Recorder(
            plan.net, plan.loss, plan.optimizer, each=self._keep, look=self._look
        )
        self._step: Step | None = None
        self._doubted = False
        self._order: np.ndarray | None = None
        self._epoch = self._position = 0
        self._arrays: dict[int, Any] = {}
        self.whole = WholeRun(plan, port, comparator, generator, jnet, jax_loss)
        self.losses: list[float] = []
        self.seen_losses: list[float] = []
        """The port's, from torch's weights."""
        self._loss_bounds: list[float] = []
        # By parameter, the size of all steps, and of what rounding decided of them.
        self._sizes: dict[str, tuple[Any, Any]] = {}
        self._dropouts: list[Dropouts] = []
        self._outputs, self._evaluated = np.zeros(0), 0
        self.overflowed = 0
        """The first step in which torch's loss is not finite, 0 if there is none."""
        self.granted: dict[str, float] = {}
        """Known differences of float32 arithmetic that the port needs, with the largest share of a
        step."""
        self.decay: dict[str, float] = {}
        """That of torch's own decay, whether or not the port has it too."""
        self.kinks = 0
        """How often the port was on another side of a kink than torch, within rounding."""
        self._draw = make_draw(jnet)

    def run(self) -> None:
        """Compare everything; `Diverged` leaves at the first divergence."""
        comparator, port = self.comparator, self.port
        weights, buffers = self._tensors()
        ours = port.name_params(port.params) | port.name_buffers(port.model_state)
        for name, value in (weights | buffers).items():
            if name in ours:
                compare_bits(comparator, "initial weights", name, ours[name], value)
            elif name in port.without:
                comparator.missing(
                    "initial weights", name, "a parameter that no leaf of the port holds"
                )
        stream = torch.get_rng_state()
        with self.plan.kernels():
            with self._recorder:
                handle = self.plan.optimizer.register_step_pre_hook(self._before_update)
                try:
                    train(self.plan, self)
                finally:
                    handle.remove()
            after, generator = torch.get_rng_state(), self._generator
            if not self.plan.scope:
                generator = self._compare_whole_run(weights | buffers, stream)
        comparator.exactly("stream", "generator", jaxnet.random.get_state(generator), after.numpy())

    def _compare_whole_run(self, begin: Named, stream: torch.Tensor) -> Generator:
        weights, buffers = self._tensors()
        last = weights | buffers | {OUTPUTS: self._outputs}
        steps = Steps(
            Run(np.array(self.losses), last),
            begin | {OUTPUTS: np.zeros_like(self._outputs)},
            np.array(self._loss_bounds),
            self._sizes,
            self._dropouts,
            self.granted,
        )
        return self.whole.compare(steps, self.begun, stream)

    def _tensors(self) -> tuple[Named, Named]:
        net = self.plan.net
        return copy_named(net.named_parameters()), copy_named(net.named_buffers())

    def before(self, epoch: int, rows: np.ndarray) -> Any:
        """Which rows the port takes in this step; the reference listens to what torch does."""
        if epoch != self._epoch:
            self._epoch, self._position = epoch, 0
            self._generator, order = begin_epoch(self._generator, self._batching)
            self._order = np.arange(len(self.plan.x)) if order is None else np.asarray(order)
        assert self._order is not None
        ours = self._order[self._position : self._position + self._batching.size]
        self._position += self._batching.size
        self.comparator.epoch, self.comparator.step = epoch, self.comparator.step + 1
        if self._progress is not None:
            self._progress(self.comparator.step)
        self.comparator.exactly("rows", "batch", ours.astype(rows.dtype), rows)
        self._views, self._doubted = Views(), False
        self._forget()
        self._reference.draws = _DRAWS if self._is_rounded() else 0
        return self._reference

    def _forget(self) -> None:
        """Everything but what does not change, and the optimizer's state, which is kept."""
        self._reference.forget([self.plan.x, self.plan.y, *_list_state(self.plan.optimizer)])

    def _is_rounded(self) -> bool:
        return self.comparator.step <= _FIRST or not self.comparator.step % _EVERY

    def _look(self, stage: str, name: str, tensor: torch.Tensor) -> None:
        """The recorder has come upon a tensor."""
        if stage == "update":
            self._views[stage, name] = self._reference.look_step(tensor)
        elif tensor.is_floating_point():
            self._views[stage, name] = self._reference.look(tensor)

    def _before_update(self, *_: Any) -> None:
        """The optimizer continues from torch's gradients, and from its own state in float64."""
        self._forget()
        self._reference.draws = 0
        self._reference.watch_steps(list(self.plan.net.parameters()))

    def _keep(self, step: Step) -> None:
        self._step = step

    def after(self) -> None:
        """A step of torch's is done: compare the port's with it, from the same weights."""
        assert self._step is not None
        step = self._step
        x, y = self._array(step.batch["input"]), self._array(step.batch["target"])
        masks = self._compare_masks(step, x)
        params, model_state = self.port.place(step.weights_before, step.buffers_before)
        seen = self.port.step(params, model_state, x, y, masks)
        for name, noise in seen.noise.items():
            if name in step.noise:
                self.comparator.exactly("masks", name, noise, step.noise[name])
        self._compare_forward(step, seen)
        if self.plan.scope != FORWARD:
            self._compare_loss(step, seen)
            self._compare_gradients(step, seen)
        if not self.plan.scope:
            self._compare_update(step, seen, params)
        self.losses.append(float(step.loss))
        self.seen_losses.append(float(seen.loss))
        self.port.model_state = seen.model_state  # what torch lacks is kept
        self._step = None

    def _compare_masks(self, step: Step, x: Any) -> Any:
        dropouts = tuple(
            (name, self._probability(name), mask.shape) for name, mask in step.masks.items()
        )
        self._dropouts.append(dropouts)
        self._generator, masks = self._draw(self._generator, dropouts, x)
        named = flatten(masks)
        for name, mask in step.masks.items():
            if name not in named:
                self.comparator.missing("masks", name, "a dropout that the port has not")
            self.comparator.exactly("masks", name, named[name], mask)
        return nest(named)

    def _probability(self, name: str) -> float:
        return self.plan.net.get_submodule(name.partition("#")[0]).p  # pyright: ignore

    def _compare_forward(self, step: Step, seen: Seen) -> None:
        views = self._views
        for name, output in step.outputs.items():
            if name in seen.outputs and np.shape(seen.outputs[name]) == output.shape:
                self._hold("outputs", name, seen.outputs[name], output)
        last = list(step.outputs)[-1]
        if last not in seen.outputs:  # what its layers gave is not to be seen
            self._hold("outputs", last, seen.outputs[""], step.outputs[last], shown="(net)")
        for name, buffer in self.port.name_buffers(seen.model_state).items():
            if ("buffers", name) in views:
                self._hold("buffers", name, buffer, step.buffers[name])
            else:
                compare_bits(
                    self.comparator, "buffers", name, np.asarray(buffer), step.buffers[name]
                )

    def _compare_loss(self, step: Step, seen: Seen) -> None:
        held = self._hold("loss", "loss", seen.loss, step.loss)
        self._loss_bounds.append(float(held.bound) if held.compared else np.inf)
        if not np.isfinite(step.loss):
            self.overflowed = self.overflowed or self.comparator.step

    def _hold(self, stage: str, name: str, jax: Any, torch: Any, shown: str = "") -> Held:
        comparator, key, shown = self.comparator, (stage, name), shown or name
        held = comparator.hold(stage, shown, jax, torch, self._views[key])
        if not held.agrees and self._doubt():
            held = comparator.hold(stage, shown, jax, torch, self._views[key])
        comparator.accept(stage, shown, jax, torch, self._views[key], held)
        return held

    def _doubt(self) -> bool:
        """Round the step more often, where that was not done: see whether that explains it."""
        if self._doubted:
            return False
        self._doubted = True
        assert self._step is not None
        with replaying(self.plan, self._recorder, self._step) as replay:
            self._views |= replay(Reference(_DOUBTED))
        return True

    def _compare_gradients(self, step: Step, seen: Seen) -> None:
        """From the last layer to the first, as an error travels back."""
        ours = self.port.name_params(seen.grads)

        def hold_all() -> tuple[Given, dict[str, Held]]:
            given = {
                name: (ours[name], grad, self._views["gradients", name])
                for name, grad in reversed(step.grads.items())
                if name in ours
            }
            return given, {
                n: self.comparator.hold("gradients", n, *each) for n, each in given.items()
            }

        self.comparator.finite = all(map(_is_finite, (*step.outputs.values(), step.loss)))
        given, held = hold_all()
        if not _agree(held) and self._doubt():
            given, held = hold_all()
        if not _agree(held):
            explained = explain(
                self.plan,
                self._recorder,
                step,
                given,
                held,
                comparator=self.comparator,
                shown={name: value for name, value in seen.outputs.items() if name},
            )
            if explained is not None:
                held, count = explained
                self.kinks += count
        for name, each in given.items():
            self.comparator.accept("gradients", name, *each, held[name])
            # By how much of a step the gradient's rounding may change it.
            exact, bound, size = np.abs(each[2].exact), held[name].bound, each[2].size
            unsure = np.divide(bound, exact, where=exact > 0, out=np.ones(exact.shape))
            unsure = np.where(held[name].compared, np.minimum(1.0, unsure), 1.0)
            step_size = self._views["update", name].size
            known = self._sizes.get(name, (0.0, 0.0))
            # An optimizer that divides by its size makes a step of what rounding leaves of a 0.
            rounded = (unsure >= 1) & (bound > 0) & (step_size == 0)
            unsure = np.where(size == 0, 0.0, unsure)
            decided = unsure * np.where(rounded, step_size.max(initial=0.0), step_size)
            self._sizes[name] = known[0] + step_size, known[1] + decided
        for name, leaf in self.port.name_others(seen.grads).items():
            if np.any(np.asarray(leaf) != 0):
                what = "a leaf that torch has not, with a gradient"
                self.comparator.missing("gradients", name, what)

    def _compare_update(self, step: Step, seen: Seen, params: Any) -> None:
        """The optimizer alone: from torch's gradients, and from the same gradients ever since."""
        port, comparator = self.port, self.comparator
        # Where torch has none, the port's own: what torch leaves alone, the port must leave alone.
        grads, _ = port.place(port.name_params(seen.grads) | step.grads, {})
        updates, port.opt_state, weights = port.update(grads, port.opt_state, params)
        named, after = port.name_params(updates), port.name_params(weights)
        for name, weight in step.weights.items():
            before = step.weights_before[name]
            view = self._views["update", name]
            # Of a gradient among float32's smallest numbers the averages have lost digits.
            size = np.abs(step.grads.get(name, np.zeros(weight.shape)))
            view = view._replace(
                size=np.where((size > 0) & (size < bounds.SMALLEST), np.nan, view.size)
            )
            change = weight.astype(np.float64) - before
            view, granted = grant(
                comparator, name, named[name], change, view,
                self._list_updates(name, before, view.exact),
            )  # fmt: skip
            for cause, share in granted.items():
                self.granted[cause] = max(share, self.granted.get(cause, 0.0))
            if comparator.step == 1:
                self.decay |= find_decay(self._list_updates(name, before, view.exact), view)
            comparator.floats("update", name, named[name], change, view, own=False)
            # Added in float32, and once.
            update = named[name].astype(np.float64)
            summed = View(before + update, None, np.abs(before) + np.abs(update))
            comparator.floats("weights", name, after[name], weight, summed, own=False)

    def _list_updates(self, name: str, before: np.ndarray, exact: np.ndarray) -> Any:
        return list_updates(
            self.plan.optimizer,
            self.plan.net.get_parameter(name),
            before,
            exact,
            self._reference,
            optax=self._jnet is None,
        )

    def end(self, epoch: int) -> None:
        """Outputs of all rows in evaluation mode, from torch's weights and buffers.

        After the first epochs, the last one, and whenever enough steps have gone by: where an epoch
        is one step, to evaluate takes as long as that.
        """
        steps = self.comparator.step - self._evaluated
        if _FIRST < epoch < self.plan.epochs and steps < _EVERY:
            return
        self._evaluated = self.comparator.step
        weights, buffers = self._tensors()
        params, model_state = self.port.place(weights, buffers)
        x, draws = self.plan.x, _DRAWS if self._is_rounded() else 0
        self._outputs = output = evaluate(self.plan)
        ours = self.port.predict(params, model_state, self._array(x.numpy()))
        view, place = self._view_rows(x, draws), ("evaluation", "outputs")
        if not self.comparator.hold(*place, ours, output, view).agrees:
            view = self._view_rows(x, _DOUBTED)
        self.comparator.floats(*place, ours, output, view)

    def _view_rows(self, x: torch.Tensor, draws: int) -> View:
        """What the reference knows of the outputs of all rows, some at a time to save memory."""
        views, reference = [], self._reference
        for rows in x.split(_ROWS):
            self._forget()
            reference.draws = draws
            with torch.no_grad(), reference:
                views.append(reference.look(self.plan.net(rows)))
        exact, spread, size = zip(*views, strict=True)
        joined = None if spread[0] is None else np.concatenate(spread)
        return View(np.concatenate(exact), joined, np.concatenate(size))

    def _array(self, array: np.ndarray) -> Any:
        """On JAX's device; the same array again, a full batch, is not moved again."""
        kept = self._arrays.get(id(array))
        if kept is None or kept[0] is not array:
            self._arrays = dict(list(self._arrays.items())[-1:])
            kept = self._arrays[id(array)] = (array, jax.device_put(array))
        return kept[1]


def _list_state(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The tensors that an optimizer holds."""
    states = (value for state in optimizer.state.values() for value in state.values())
    return [value for value in states if isinstance(value, torch.Tensor)]


def _is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _agree(held: dict[str, Held]) -> bool:
    return all(each.agrees for each in held.values())


def relative_gaps(ours: Any, torchs: Any) -> np.ndarray:
    """|a - b| / |b|, 0 where both are the same."""
    a, b = np.asarray(ours, np.float64), np.asarray(torchs, np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1e-30))
