"""One torch run, step by step beside its port: what `certify` looks at, in its order."""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

import jaxnet
from jaxnet.batches import Batching, make_batching, start_epoch
from jaxnet.cache import jit, memoise
from jaxnet.masks import draw_masks
from jaxnet.random import Generator, dropout_mask
from torchref.audit import OVERFLOW, Judge, loss_bound
from torchref.port import Port, Seen
from torchref.recorder import Named, Recorder, Step, copy_array, copy_named
from torchref.referee import Evaluation, Referee, nudge_weights, nudging
from torchref.tolerances import (
    CERTIFIED_UPDATE,
    EPS,
    FINAL_WEIGHTS,
    OWN_UPDATE,
    WHOLE_RUN_NUDGES,
    WHOLE_RUN_TURNS,
)

_begin = jit(start_epoch, static_argnums=1)

EVALUATED = 256
"""Rows whose outputs in evaluation mode are compared after each epoch."""

_OFTEN = 1024, 2**16
"""A batch of more rows, or a net of more weights, is nudged at the first two steps and at every
16th alone, to save time."""

_DROWNED = 0.5
"""The rounding error of an element, as a share of it, from which its sign is anyone's guess."""


class Views(NamedTuple):
    """What the referee makes of a step."""

    exact: Evaluation
    """From the port's own layer outputs."""
    own: Evaluation | None
    """From torch's, in the steps in which torch's error is measured."""
    nudged: list[Evaluation]
    turned: Evaluation | None
    """With outputs near 0 on the other side, where the port does not show all of its own."""


class Drowned(NamedTuple):
    """Elements of a gradient in whose place rounding has put some number or other."""

    name: str
    where: np.ndarray
    """The elements, counted row by row."""
    others: np.ndarray
    """What may as well stand there, an element each."""


class Plan(NamedTuple):
    """A torch run: everything that decides it but the stream."""

    net: torch.nn.Module
    loss: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    x: torch.Tensor
    y: torch.Tensor
    epochs: int
    batch_size: int | None
    shuffle: bool

    def copy(self) -> "Plan":
        """The same run with a net, a loss, an optimizer and a scheduler of its own."""
        return self._replace(
            **dict(zip(self._fields[:4], copy.deepcopy(tuple(self[:4])), strict=True))
        )

    @property
    def batching(self) -> Batching:
        """How the rows are cut."""
        return make_batching(len(self.x), self.batch_size, self.shuffle)

    def batches(self) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """An epoch's batches, each with the numbers of its rows."""
        rows = torch.arange(len(self.x))
        if self.batch_size is None:
            yield rows.numpy(), self.x, self.y
            return
        data = torch.utils.data.TensorDataset(self.x, self.y, rows)
        for x, y, own in torch.utils.data.DataLoader(data, self.batch_size, self.shuffle):
            yield own.numpy(), x, y


def train(
    plan: Plan,
    before: Callable[[int, np.ndarray], Any] = lambda epoch, rows: None,
    after: Callable[[int], Any] = lambda epoch: None,
) -> np.ndarray:
    """The torch loop; calls `before` each step and `after` each epoch, and gives every loss."""
    losses = []
    for epoch in range(1, plan.epochs + 1):
        plan.net.train()
        for rows, x, y in plan.batches():
            before(epoch, rows)
            plan.net.zero_grad()  # those, too, that the optimizer does not have
            loss = plan.loss(plan.net(x), y)
            loss.backward()
            plan.optimizer.step()
            losses.append(loss.item())
        after(epoch)
        if plan.scheduler is not None:
            with warnings.catch_warnings():  # a copied scheduler takes its optimizer for changed
                warnings.simplefilter("ignore", UserWarning)
                plan.scheduler.step()
    return np.array(losses)


class Comparison:
    """Runs a plan in torch and holds a port beside it.

    Args:
      plan: torch's run; it is trained, so hand over a copy.
      port: the port, with torch's weights of the start.
      generator: where the port's random numbers come from.
      judge: compares, and notes what it saw.
      jnet, jax_loss: the net and the loss for `jaxnet.fit`, where jaxnet made the port; a port of
        the user's own runs alone step by step beside torch.
      progress: called with the number of each step before it is compared.
    """

    def __init__(
        self,
        plan: Plan,
        port: Port,
        generator: Generator,
        judge: Judge,
        jnet: Any = None,
        jax_loss: Any = None,
        progress: Callable[[int], Any] | None = None,
    ) -> None:
        self.plan, self.port, self.judge, self._progress = plan, port, judge, progress
        self._begun, self._jnet, self._jax_loss = plan.copy(), jnet, jax_loss
        self._generator = self._first_generator = generator
        self._batching = plan.batching
        self._referee = Referee(plan.net, plan.loss, plan.optimizer)
        self._order: np.ndarray | None = None
        self._epoch = self._position = 0
        self._arrays: dict[int, Any] = {}
        self._free = (port.params, port.model_state, port.opt_state)
        self.losses: list[float] = []
        self.gaps: list[float] = []
        self.free_losses: list[float] = []
        self.last: Named | None = None
        self.overflowed = 0
        """The step in which torch's loss left float32's range, 0 if there is none."""
        self.chaos = 0
        """The step from which rounding alone decides the losses, 0 if there is none."""
        self.noise: dict[str, np.ndarray] = {}
        self._flow_noise: dict[str, float] = {}
        self._drowned: dict[int, list[Drowned]] = {}
        self._rates = [group["lr"] for group in plan.optimizer.param_groups]
        self._draw = _make_draw(jnet)

    def run(self) -> None:
        """Compare everything; `Parted` leaves at the first divergence."""
        judge, port = self.judge, self.port
        weights, buffers = self._tensors()
        ours = port.name_params(port.params) | port.name_buffers(port.model_state)
        for name, value in (weights | buffers).items():
            if name in ours:
                self._same_bits("initial weights", name, ours[name], value)
            elif name in port.without:
                judge.missing("initial weights", name, "a parameter that no leaf of the port holds")
        stream = torch.get_rng_state()
        with Recorder(self.plan.net, self.plan.loss, self.plan.optimizer, each=self._each):
            train(self.plan, self._before, self._after_epoch)
        after = torch.get_rng_state()
        self._compare_whole_run(weights, stream)
        if self.overflowed:
            return
        judge.exactly(
            "stream", "generator", jaxnet.random.get_state(self._generator), after.numpy()
        )

    def _same_bits(self, stage: str, name: str, ours: np.ndarray, torchs: np.ndarray) -> None:
        integer = torchs.dtype.kind == "i"  # torch counts in int64, JAX in int32
        self.judge.exactly(stage, name, ours.astype(torchs.dtype) if integer else ours, torchs)

    def _tensors(self) -> tuple[Named, Named]:
        net = self.plan.net
        return copy_named(net.named_parameters()), copy_named(net.named_buffers())

    def _before(self, epoch: int, rows: np.ndarray) -> None:
        """Which rows the port takes in this step."""
        if self.overflowed:  # its stream has stopped where the comparison did
            return
        if epoch != self._epoch:
            self._epoch, self._position = epoch, 0
            self._generator, order = _begin(self._generator, self._batching)
            self._order = np.arange(len(self.plan.x)) if order is None else np.asarray(order)
        assert self._order is not None
        ours = self._order[self._position : self._position + self._batching.size]
        self._position += self._batching.size
        self.judge.epoch, self.judge.step = epoch, self.judge.step + 1
        if self._progress is not None:
            self._progress(self.judge.step)
        self.judge.exactly("rows", "batch", ours.astype(rows.dtype), rows)
        self._rates = [copy.copy(group["lr"]) for group in self.plan.optimizer.param_groups]

    def _each(self, step: Step) -> None:
        """A step of torch's is done: hold the port's beside it, from the same weights."""
        x, y = self._array(step.batch["input"]), self._array(step.batch["target"])
        dropouts = tuple(
            (name, self._probability(name), mask.shape) for name, mask in step.masks.items()
        )
        if self.overflowed or not abs(step.loss) < OVERFLOW:
            self.overflowed = self.overflowed or self.judge.step
            self.losses.append(float(step.loss))
            self.gaps.append(0.0)
            return
        self._generator, masks = self._draw(self._generator, dropouts, x)
        named_masks = _flatten(masks)
        for name, mask in step.masks.items():
            if name not in named_masks:
                self.judge.missing("masks", name, "a dropout that the port has not")
            self.judge.exactly("masks", name, named_masks[name], mask)
        masks = _nest(named_masks)
        params, model_state = self.port.place(step.weights_before, step.buffers_before)
        seen = self.port.step(params, model_state, x, y, masks)
        for name, noise in seen.noise.items():
            if name in step.noise:
                self.judge.exactly("masks", name, noise, step.noise[name])
        views = self._consult(step, seen)
        self._compare_forward(step, seen, views)
        self._compare_gradients(step, seen, views)
        self._compare_update(step, seen, params)
        self._go_on_alone(x, y, masks)

    def _consult(self, step: Step, seen: Seen) -> Views:
        """The referee's views of a step: from the port's outputs, from torch's, and nudged."""
        values = {name: np.asarray(value) for name, value in seen.outputs.items() if name}
        shapes = {name: output.shape for name, output in step.outputs.items()}
        values = {name: v for name, v in values.items() if shapes.get(name) == v.shape}
        exact, number = self._referee.evaluate(step, values), self.judge.step
        hidden = set(step.outputs) - set(values)
        turned = self._referee.evaluate(step, values, turn=True) if hidden else None
        weights = sum(weight.size for weight in step.weights.values())
        large = self._batching.size > _OFTEN[0] or weights > _OFTEN[1]
        if large and number > 2 and number % 16:
            return Views(exact, None, [], turned)
        apart = self._referee.evaluate(step, values, nudged="apart")
        noise = {
            name: float(np.abs(flow - exact.flows[name]).max(initial=0.0))
            for name, flow in apart.flows.items()
        }
        for name, size in noise.items():
            self._flow_noise[name] = max(size, self._flow_noise.get(name, 0.0))
        together = self._referee.evaluate(step, values, nudged="together", noise=noise)
        own = self._referee.evaluate(step, step.outputs)
        return Views(exact, own, [apart, together], turned)

    def _probability(self, name: str) -> float:
        return self.plan.net.get_submodule(name.partition("#")[0]).p  # pyright: ignore

    def _compare_forward(self, step: Step, seen: Seen, views: Views) -> None:
        for name, output in step.outputs.items():
            if name in seen.outputs and np.shape(seen.outputs[name]) == output.shape:
                self._hold("outputs", name, seen.outputs[name], output, views, lambda v: v.outputs)
        last = list(step.outputs)[-1]
        if last not in seen.outputs:  # what its layers gave is not to be seen
            self._hold(
                "outputs",
                "(net)",
                seen.outputs[""],
                step.outputs[last],
                views,
                lambda v: {"(net)": v.outputs[last]},
            )
        for name, buffer in self.port.name_buffers(seen.model_state).items():
            self._hold("buffers", name, buffer, step.buffers[name], views, lambda v: v.buffers)
        self._hold("loss", "loss", seen.loss, step.loss, views, lambda v: {"loss": v.loss})
        self.losses.append(float(step.loss))
        self.gaps.append(relative_gap(seen.loss, step.loss))

    def _compare_gradients(self, step: Step, seen: Seen, views: Views) -> None:
        """From the last layer to the first, as an error travels back."""
        grads = self.port.name_params(seen.grads)
        for name, grad in reversed(step.grads.items()):
            exact, slack = views.exact.grads[name], 0.0
            if views.turned is not None:
                slack = 2 * np.abs(views.turned.grads[name] - exact).max(initial=0.0)
            bound = self._hold(
                "gradients", name, grads[name], grad, views, lambda v: v.grads, slack=slack
            )
            below = (np.abs(exact) < bound) & ((grad != 0) | (exact != 0))
            self.noise[name] = self.noise.get(name, np.zeros(grad.shape, bool)) | below
            apart = np.maximum(np.abs(grads[name] - exact), np.abs(grad - exact))
            drowned = below & (apart >= _DROWNED * np.abs(exact))
            if drowned.any():
                others = np.where(grad != 0, -grad, grads[name])[drowned]
                found = self._drowned.setdefault(self.judge.step, [])
                found.append(Drowned(name, np.flatnonzero(drowned), others))

    def _hold(
        self,
        stage: str,
        name: str,
        jax: Any,
        torch: Any,
        views: Views,
        part: Callable[[Evaluation], Named],
        slack: float = 0.0,
    ) -> np.ndarray:
        """Both numbers before the judge, with that part of the referee's views."""
        return self.judge.floats(
            stage,
            name,
            jax,
            torch,
            part(views.exact)[name],
            own=None if views.own is None else part(views.own)[name],
            nudged=[part(view)[name] for view in views.nudged],
            slack=slack,
        )

    def _compare_update(self, step: Step, seen: Seen, params: Any) -> None:
        """The optimizer alone: from torch's gradients, and from the same gradients ever since."""
        port, judge = self.port, self.judge
        tolerance = CERTIFIED_UPDATE if self._jnet is not None else OWN_UPDATE
        # Where torch has none, the port's own: what torch leaves alone, the port must leave alone.
        grads, _ = port.place(port.name_params(seen.grads) | step.grads, {})
        updates, port.opt_state, weights = port.update(grads, port.opt_state, params)
        exact = self._referee.update(step, self._rates)
        named, after = port.name_params(updates), port.name_params(weights)
        for name, weight in step.weights.items():
            spacing = np.spacing(np.maximum(np.abs(weight), np.abs(step.weights_before[name])))
            judge.floats(
                "update",
                name,
                named[name],
                weight.astype(np.float64) - step.weights_before[name],
                exact[name],
                own=exact[name],
                slack=spacing.astype(np.float64),
                rtol=tolerance.rtol,
            )
            judge.floats(
                "weights",
                name,
                after[name],
                weight,
                exact[name] + step.weights_before[name],
                own=exact[name] + step.weights_before[name],
                slack=spacing + tolerance.rtol * np.abs(exact[name]).max(initial=0.0),
            )

    def _go_on_alone(self, x: Any, y: Any, masks: Any) -> None:
        """A step of a user's port by itself, from its own weights."""
        if self._jnet is not None:
            return
        params, model_state, opt_state = self._free
        seen = self.port.step(params, model_state, x, y, masks)
        _, opt_state, params = self.port.update(seen.grads, opt_state, params)
        self._free = (params, seen.model_state, opt_state)
        self.free_losses.append(float(seen.loss))

    def _after_epoch(self, epoch: int) -> None:
        """Outputs in evaluation mode, from torch's weights and buffers."""
        if self.overflowed:
            return
        weights, buffers = self._tensors()
        rows = self.plan.x[:EVALUATED]
        self.plan.net.eval()
        with torch.no_grad():
            output = copy_array(self.plan.net(rows))
        x = copy_array(rows)
        params, model_state = self.port.place(weights, buffers)
        exact = self._referee.predict(weights, buffers, x)
        self.judge.floats(
            "evaluation",
            "outputs",
            self.port.predict(params, model_state, x),
            output,
            exact,
            own=exact,
            nudged=[
                self._referee.predict(weights, buffers, x, nudged="apart"),
                self._referee.predict(weights, buffers, x, nudged="together"),
            ],
        )

    def _compare_whole_run(self, begin: Named, stream: torch.Tensor) -> None:
        """The port by itself from start to end, beside torch and beside torch nudged by an ulp."""
        last, _ = self._tensors()
        own = np.array(self.losses)
        nudged, weights_nudged = self._nudged_run(stream)
        turned, weights_turned = self._turned_run(stream) if self._drowned else (own, last)
        losses, params = self._run_alone()
        self.last = self.port.name_params(params)
        bound = loss_bound(own, nudged, turned, WHOLE_RUN_NUDGES, WHOLE_RUN_TURNS)
        self.chaos = int(np.argmax(np.isinf(bound))) + 1 if np.isinf(bound).any() else 0
        self.free_losses = list(map(float, losses))
        self._point_at(self.free_losses, bound)
        self.judge.trajectory("whole run", "loss", losses, own, bound)
        for name, weight in self.last.items():
            moved = np.abs(last[name] - begin[name]).max(initial=0.0)
            gap = np.abs(weights_nudged[name] - last[name]).max(initial=0.0)
            counted = ~self.noise.get(name, np.zeros(weight.shape, bool))
            turn = np.abs(weights_turned[name] - last[name]).max(initial=0.0, where=counted)
            bound = FINAL_WEIGHTS.rtol * moved + WHOLE_RUN_NUDGES * gap + WHOLE_RUN_TURNS * turn
            bound = bound + 4 * EPS * np.abs(last[name]).max(initial=0.0)
            bound = np.inf if self.chaos else bound
            self.judge.trajectory("whole run", name, weight, last[name], bound, where=counted)

    def _nudged_run(self, stream: torch.Tensor) -> tuple[np.ndarray, Named]:
        """The losses and last weights of torch's run where every layer is nudged by an ulp."""
        beside = self._begun.copy()
        torch.set_rng_state(stream)
        nudge_weights(beside.net, EPS)
        with nudging(beside.net, self._flow_noise, seed=0):
            losses = train(beside)
        return losses, copy_named(beside.net.named_parameters())

    def _turned_run(self, stream: torch.Tensor) -> tuple[np.ndarray, Named]:
        """The same where what rounding alone left of a gradient has another sign.

        An optimizer that divides by a gradient's size, as Adam does, takes a whole step on it. A
        bias before a BatchNorm has such a gradient: the exact one is 0.
        """
        beside = self._begun.copy()
        torch.set_rng_state(stream)
        parameters, steps = dict(beside.net.named_parameters()), itertools.count(1)

        def turn(*_: Any) -> None:
            for name, where, others in self._drowned.get(next(steps), ()):
                grad = parameters[name].grad
                if grad is not None:
                    grad.put_(torch.from_numpy(where), torch.from_numpy(others))

        beside.optimizer.register_step_pre_hook(turn)
        return train(beside), copy_named(parameters.items())

    def _point_at(self, losses: list[float], bound: np.ndarray) -> None:
        """A divergence of the whole run is reported at its first step out of bounds."""
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(np.array(losses) - np.array(self.losses)) <= bound) & np.isfinite(bound)
        step = int(np.argmax(off)) + 1 if off.any() else len(losses)
        self.judge.step, steps = step, self._batching.steps
        self.judge.epoch = (step - 1) // steps + 1

    def _run_alone(self) -> tuple[np.ndarray, Any]:
        if self._jnet is None:
            missing = len(self.losses) - len(self.free_losses)
            return np.array(self.free_losses + [np.nan] * missing), self._free[0]
        params, model_state, opt_state = self._free
        state = jaxnet.train.start(
            self.port.optimizer, {"params": params, **model_state}, self._first_generator
        )
        state, history = jaxnet.fit(
            self._jnet,
            (copy_array(self.plan.x), copy_array(self.plan.y)),
            loss=self._jax_loss,
            optimizer=self.port.optimizer,
            epochs=self.plan.epochs,
            batch_size=self.plan.batch_size,
            shuffle=self.plan.shuffle,
            state=state._replace(opt_state=opt_state),
        )
        self._generator = state.generator
        return history.losses, state.params

    def _array(self, array: np.ndarray) -> Any:
        """On JAX's device; the same array again, a full batch, is not moved again."""
        kept = self._arrays.get(id(array))
        if kept is None or kept[0] is not array:
            self._arrays = dict(list(self._arrays.items())[-1:])
            kept = self._arrays[id(array)] = (array, jax.device_put(array))
        return kept[1]


@memoise
def _make_draw(jnet: Any) -> Callable[..., Any]:
    """The masks of a step: of jaxnet's net, or of as many dropouts as torch's net ran."""

    def draw(generator: Generator, drops: tuple[tuple[str, float, Any], ...], x: Any) -> Any:
        if jnet is not None:
            return draw_masks(jnet, generator, x)
        masks = {}
        for name, p, shape in drops:
            generator, masks[name] = dropout_mask(generator, p, shape)
        return generator, masks

    return jax.jit(draw, static_argnums=1)


def relative_gap(ours: Any, torchs: Any) -> float:
    """|a - b| / |b|, 0 where both are the same."""
    ours, torchs = float(ours), float(torchs)
    if ours == torchs or (np.isnan(ours) and np.isnan(torchs)):
        return 0.0
    return abs(ours - torchs) / max(abs(torchs), 1e-30)


def _flatten(masks: Any, prefix: str = "") -> dict[str, Any]:
    """Masks nested by layer under dotted names; those that are flat already stay."""
    if not isinstance(masks, dict):
        return {prefix: masks}
    named = {}
    for key, value in masks.items():
        named |= _flatten(value, f"{prefix}.{key}" if prefix else key)
    return named


def _nest(named: dict[str, Any]) -> Any:
    """The way back; the mask itself where the net is one dropout."""
    if list(named) == [""]:
        return named[""]
    tree: dict[str, Any] = {}
    for name, mask in named.items():
        *layers, last = name.split(".")
        place = tree
        for layer in layers:
            place = place.setdefault(layer, {})
        place[last] = mask
    return tree
