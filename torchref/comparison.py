"""One torch run, step by step beside its port: what `certify` looks at, in its order."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

import jaxnet
from jaxnet.batches import Batching, make_batching, start_epoch
from jaxnet.cache import jit, memoise
from jaxnet.certificate import bounds
from jaxnet.certificate.bounds import EPS, View
from jaxnet.certificate.comparison import Judge
from jaxnet.masks import draw_masks
from jaxnet.random import Generator, dropout_mask
from torchref.kinks import explain
from torchref.port import Port, Seen
from torchref.recorder import Named, Recorder, Step, copy_array, copy_named
from torchref.reference import Reference
from torchref.updates import list_updates

_begin = jit(start_epoch, static_argnums=1)

_DRAWS = 2
_FIRST, _EVERY = 3, 16
"""Numbers are rounded in the first steps, and then in every so many, to save time."""

_NUMBERS, _ROWS = 2**24, 1024
"""Of data with more numbers than this so many rows are evaluated at once, to save memory."""

_MOVED, _TURNED = 3, 4  # `Drowned.turn` has so many kinds
"""Runs of torch's from weights and rows that were moved by an ulp, and of these with other signs
where rounding decides the sign of a gradient."""

Views = dict[tuple[str, str], View]
"""What the reference knows, by stage and name."""


class Drowned(NamedTuple):
    """Elements of a gradient that rounding may put on either side of 0."""

    name: str
    where: np.ndarray
    """The elements, counted row by row."""
    ours: np.ndarray
    """What rounding has left there in the port."""
    theirs: np.ndarray
    """And in torch."""
    bound: np.ndarray

    def turn(self, parameter: torch.Tensor, kind: int, generator: torch.Generator) -> None:
        """Put there what rounding may leave: an optimizer may divide by its size."""
        up = torch.rand(len(self.where), generator=generator) < 0.5
        drawn = np.where(up.numpy(), self.bound, -self.bound) / bounds.DRAWN
        left = torch.from_numpy((self.ours, -self.theirs, drawn, drawn)[kind])
        if parameter.grad is not None:
            parameter.grad.put_(torch.from_numpy(self.where), left.to(parameter.dtype))


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


class Loop:
    """What goes on around torch's loop."""

    def before(self, epoch: int, rows: np.ndarray) -> Any:
        """A step begins: in here it runs."""
        del epoch, rows
        return nullcontext()

    def after(self) -> None:
        """A step is done."""

    def end(self, epoch: int) -> None:
        """An epoch is done."""


def train(plan: Plan, loop: Loop) -> np.ndarray:
    """The torch loop; gives every loss."""
    losses = []
    for epoch in range(1, plan.epochs + 1):
        plan.net.train()
        for rows, x, y in plan.batches():
            step = loop.before(epoch, rows)
            plan.net.zero_grad()  # those, too, that the optimizer does not have
            with step:
                loss = plan.loss(plan.net(x), y)
                loss.backward()
                plan.optimizer.step()
            losses.append(loss.item())
            loop.after()
        loop.end(epoch)
        if plan.scheduler is not None:
            with warnings.catch_warnings():  # a copied scheduler takes its optimizer for changed
                warnings.simplefilter("ignore", UserWarning)
                plan.scheduler.step()
    return np.array(losses)


class Comparison(Loop):
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
        self._reference, self._views = Reference(), Views()
        self._recorder = Recorder(
            plan.net, plan.loss, plan.optimizer, each=self._keep, look=self._look
        )
        self._step: Step | None = None
        self._order: np.ndarray | None = None
        self._epoch = self._position = 0
        self._arrays: dict[int, Any] = {}
        self._free = (port.params, port.model_state, port.opt_state)
        self.losses: list[float] = []
        self.gaps: list[float] = []
        self.free_losses: list[float] = []
        self._loss_bounds: list[float] = []
        self._strayed: dict[str, np.ndarray] = {}
        self._drowned: list[list[Drowned]] = []
        self.last: Named | None = None
        self.overflowed = 0
        """The first step in which torch's loss is not finite, 0 if there is none."""
        self.chaos = 0
        """The steps up to which the whole runs are compared."""
        self.noise: dict[str, np.ndarray] = {}
        """Elements whose gradient was once not compared, or no larger than its bound."""
        self.granted: dict[str, float] = {}
        """Known differences of float32 arithmetic, with the largest share of a step."""
        self.kinks = 0
        """How often the port was on another side of a kink than torch, within rounding."""
        self._draw = _make_draw(jnet)

    def run(self) -> None:
        """Compare everything; `Diverged` leaves at the first divergence."""
        judge, port = self.judge, self.port
        weights, buffers = self._tensors()
        self._first_buffers = buffers
        ours = port.name_params(port.params) | port.name_buffers(port.model_state)
        for name, value in (weights | buffers).items():
            if name in ours:
                self._same_bits("initial weights", name, ours[name], value)
            elif name in port.without:
                judge.missing("initial weights", name, "a parameter that no leaf of the port holds")
        stream = torch.get_rng_state()
        with self._recorder:
            handle = self.plan.optimizer.register_step_pre_hook(self._before_update)
            try:
                train(self.plan, self)
            finally:
                handle.remove()
        after = torch.get_rng_state()
        self._compare_whole_run(weights, stream)
        judge.exactly(
            "stream", "generator", jaxnet.random.get_state(self._generator), after.numpy()
        )

    def _same_bits(self, stage: str, name: str, ours: np.ndarray, torchs: np.ndarray) -> None:
        integer = torchs.dtype.kind == "i"  # torch counts in int64, JAX in int32
        self.judge.exactly(stage, name, ours.astype(torchs.dtype) if integer else ours, torchs)

    def _tensors(self) -> tuple[Named, Named]:
        net = self.plan.net
        return copy_named(net.named_parameters()), copy_named(net.named_buffers())

    def before(self, epoch: int, rows: np.ndarray) -> Any:
        """Which rows the port takes in this step; the reference listens to what torch does."""
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
        self._views = Views()
        self._forget()
        self._reference.draws = _DRAWS if self._is_rounded() else 0
        return self._reference

    def _forget(self) -> None:
        """Everything but what does not change, and the optimizer's state, which goes on."""
        self._reference.forget([self.plan.x, self.plan.y, *_list_state(self.plan.optimizer)])

    def _is_rounded(self) -> bool:
        return self.judge.step <= _FIRST or not self.judge.step % _EVERY

    def _look(self, stage: str, name: str, tensor: torch.Tensor) -> None:
        """The recorder has come upon a tensor."""
        if stage == "update":
            self._views[stage, name] = self._reference.look_step(tensor)
        elif tensor.is_floating_point():
            self._views[stage, name] = self._reference.look(tensor)

    def _before_update(self, *_: Any) -> None:
        """The optimizer goes on from torch's gradients, and from its own state in float64."""
        self._forget()
        self._reference.draws = 0
        self._reference.watch_steps(list(self.plan.net.parameters()))

    def _keep(self, step: Step) -> None:
        self._step = step

    def after(self) -> None:
        """A step of torch's is done: hold the port's beside it, from the same weights."""
        assert self._step is not None
        step, self._step = self._step, None
        x, y = self._array(step.batch["input"]), self._array(step.batch["target"])
        masks = self._compare_masks(step, x)
        params, model_state = self.port.place(step.weights_before, step.buffers_before)
        seen = self.port.step(params, model_state, x, y, masks)
        for name, noise in seen.noise.items():
            if name in step.noise:
                self.judge.exactly("masks", name, noise, step.noise[name])
        self._compare_forward(step, seen)
        self._compare_gradients(step, seen)
        self._compare_update(step, seen, params)
        self._go_on_alone(x, y, masks)

    def _compare_masks(self, step: Step, x: Any) -> Any:
        dropouts = tuple(
            (name, self._probability(name), mask.shape) for name, mask in step.masks.items()
        )
        self._generator, masks = self._draw(self._generator, dropouts, x)
        named = _flatten(masks)
        for name, mask in step.masks.items():
            if name not in named:
                self.judge.missing("masks", name, "a dropout that the port has not")
            self.judge.exactly("masks", name, named[name], mask)
        return _nest(named)

    def _probability(self, name: str) -> float:
        return self.plan.net.get_submodule(name.partition("#")[0]).p  # pyright: ignore

    def _compare_forward(self, step: Step, seen: Seen) -> None:
        judge, views = self.judge, self._views
        for name, output in step.outputs.items():
            if name in seen.outputs and np.shape(seen.outputs[name]) == output.shape:
                self._hold("outputs", name, seen.outputs[name], output)
        last = list(step.outputs)[-1]
        if last not in seen.outputs:  # what its layers gave is not to be seen
            views["outputs", "(net)"] = views["outputs", last]
            self._hold("outputs", "(net)", seen.outputs[""], step.outputs[last])
        for name, buffer in self.port.name_buffers(seen.model_state).items():
            if ("buffers", name) in views:
                self._hold("buffers", name, buffer, step.buffers[name])
            else:
                self._same_bits("buffers", name, np.asarray(buffer), step.buffers[name])
        held = judge.hold("loss", "loss", seen.loss, step.loss, views["loss", "loss"])
        judge.accept("loss", "loss", seen.loss, step.loss, views["loss", "loss"], held)
        self._loss_bounds.append(float(held.bound) if held.compared else np.inf)
        self.losses.append(float(step.loss))
        self.gaps.append(relative_gap(seen.loss, step.loss))
        if not np.isfinite(step.loss):
            self.overflowed = self.overflowed or judge.step

    def _hold(self, stage: str, name: str, jax: Any, torch: Any) -> np.ndarray:
        return self.judge.floats(stage, name, jax, torch, self._views[stage, name])

    def _compare_gradients(self, step: Step, seen: Seen) -> None:
        """From the last layer to the first, as an error travels back."""
        self._drowned.append([])
        ours = self.port.name_params(seen.grads)
        given = {
            name: (ours[name], grad, self._views["gradients", name])
            for name, grad in reversed(step.grads.items())
            if name in ours
        }
        held = {name: self.judge.hold("gradients", name, *each) for name, each in given.items()}
        if not all(each.agrees for each in held.values()):
            explained = explain(
                self.plan,
                self._recorder,
                step,
                given,
                held,
                judge=self.judge,
                shown={name: value for name, value in seen.outputs.items() if name},
            )
            if explained is not None:
                held, count = explained
                self.kinks += count
        for name, each in given.items():
            self.judge.accept("gradients", name, *each, held[name])
            exact, bound = np.abs(each[2].exact), held[name].bound
            below = ~held[name].compared | ((exact <= bound) & (bound > 0))
            self.noise[name] = self.noise.get(name, np.zeros(below.shape, bool)) | below
            where = np.flatnonzero(below & (bound > 0))
            if len(where):
                numbers = (each[0], each[1], bound)
                picked = (np.asarray(n, np.float64).reshape(-1)[where] for n in numbers)
                self._drowned[-1].append(Drowned(name, where, *picked))
            # By how much of a step the gradient's rounding may change it.
            unsure = np.divide(bound, exact, where=exact > 0, out=np.ones(exact.shape))
            unsure = np.minimum(1.0, np.where(held[name].compared, unsure, 1.0))
            self._strayed[name] = (
                self._strayed.get(name, 0.0) + unsure * self._views["update", name].size
            )
        for name, leaf in self.port.name_others(seen.grads).items():
            if np.any(np.asarray(leaf) != 0):
                what = "a leaf that torch has not, with a gradient"
                self.judge.missing("gradients", name, what)

    def _compare_update(self, step: Step, seen: Seen, params: Any) -> None:
        """The optimizer alone: from torch's gradients, and from the same gradients ever since."""
        port, judge = self.port, self.judge
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
            view = self._grant(name, named[name], change, view, before)
            judge.floats("update", name, named[name], change, view, own=False)
            # Added in float32, and once.
            update = named[name].astype(np.float64)
            summed = View(before + update, None, np.abs(before) + np.abs(update))
            judge.floats("weights", name, after[name], weight, summed, own=False)

    def _grant(
        self, name: str, ours: np.ndarray, change: np.ndarray, view: View, before: np.ndarray
    ) -> View:
        """The update with known differences of float32 arithmetic that explain the port's."""
        if self.judge.hold("update", name, ours, change, view, own=False).agrees:
            return view
        parameter = dict(self.plan.net.named_parameters())[name]
        options = {"optax": self._jnet is None}
        for causes, other in list_updates(
            self.plan.optimizer, parameter, before, view.exact, self._reference, **options
        ):
            changed = view._replace(exact=other)
            if self.judge.hold("update", name, ours, change, changed, own=False).agrees:
                scale = np.abs(view.exact).max(initial=0.0)
                share = float(np.abs(other - view.exact).max(initial=0.0) / scale) if scale else 0.0
                for cause in causes:
                    self.granted[cause] = max(share, self.granted.get(cause, 0.0))
                return changed
        return view

    def _go_on_alone(self, x: Any, y: Any, masks: Any) -> None:
        """A step of a user's port by itself, from its own weights."""
        if self._jnet is not None:
            return
        params, model_state, opt_state = self._free
        seen = self.port.step(params, model_state, x, y, masks)
        _, opt_state, params = self.port.update(seen.grads, opt_state, params)
        self._free = (params, seen.model_state, opt_state)
        self.free_losses.append(float(seen.loss))

    def end(self, epoch: int) -> None:
        """Outputs of all rows in evaluation mode, from torch's weights and buffers."""
        weights, buffers = self._tensors()
        params, model_state = self.port.place(weights, buffers)
        self.plan.net.eval()
        x, draws = self.plan.x, _DRAWS if self._is_rounded() else 0
        with torch.no_grad():
            output = copy_array(self.plan.net(x))
        ours = self.port.predict(params, model_state, self._array(x.numpy()))
        self.judge.floats("evaluation", "outputs", ours, output, self._view_rows(x, draws))

    def _view_rows(self, x: torch.Tensor, draws: int) -> View:
        """What the reference knows of the outputs of all rows, some at a time to save memory."""
        views, reference = [], self._reference
        for rows in x.split(_ROWS if x.numel() > _NUMBERS else len(x)):
            self._forget()
            reference.draws = draws
            with torch.no_grad(), reference:
                views.append(reference.look(self.plan.net(rows)))
        exact, spread, size = zip(*views, strict=True)
        joined = None if spread[0] is None else np.concatenate(spread)
        return View(np.concatenate(exact), joined, np.concatenate(size))

    def _compare_whole_run(self, begin: Named, stream: torch.Tensor) -> None:
        """The port by itself from start to end, beside torch and beside torch moved by an ulp."""
        last, last_buffers = self._tensors()
        own = np.array(self.losses)
        moved = [self._move_run(stream, seed) for seed in range(_MOVED)]
        drowned = any(self._drowned)
        turned = [self._move_run(stream, seed, turn=True) for seed in range(_TURNED * drowned)]
        losses, params, model_state = self._run_alone()
        self.last = self.port.name_params(params)
        alone = np.array(self._loss_bounds) + bounds.TURNED * _find_gap(turned, own)
        bound = bound_losses(own, _find_gap(moved, own), alone)
        self.chaos = int(np.argmax(np.isinf(bound))) if np.isinf(bound).any() else len(own)
        self.free_losses = list(map(float, losses))
        self._point_at(self.free_losses, bound)
        self.judge.trajectory("whole run", "loss", losses, own, bound)
        buffers = {
            name: value
            for name, value in self.port.name_buffers(model_state).items()
            if ("buffers", name) in self._views
        }
        for name, ours in (self.last | buffers).items():
            there = last | last_buffers
            went = np.abs(there[name] - (begin | self._first_buffers)[name])
            limit = bounds.RUN_WEIGHTS * went.max(initial=0.0)
            for runs, factor in ((moved, bounds.RUN), (turned, bounds.TURNED)):
                apart = _find_gap([(run[1][name], None) for run in runs], there[name])
                typical = float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
                limit = limit + factor * (apart + typical)
            limit = limit + 4 * EPS * np.abs(there[name]).max(initial=0.0)
            limit = limit + self._strayed.get(name, 0.0)
            counted = ~self.noise.get(name, np.zeros(ours.shape, bool))
            limit = np.where(self.chaos < len(own), np.inf, limit)
            self.judge.trajectory("whole run", name, ours, there[name], limit, where=counted)

    def _move_run(
        self, stream: torch.Tensor, seed: int, turn: bool = False
    ) -> tuple[np.ndarray, Named]:
        """The losses and last tensors of torch's run from weights and rows moved by an ulp.

        With `turn`, what rounding leaves of a gradient that is 0 has some sign or other.
        """
        beside, generator = self._begun.copy(), torch.Generator().manual_seed(seed)
        torch.set_rng_state(stream)
        with torch.no_grad():
            for parameter in beside.net.parameters():
                _move(parameter, generator)
        if beside.x.is_floating_point():
            x = beside.x.clone()
            _move(x, generator)
            beside = beside._replace(x=x)
        # A gradient may be the same for all weights nearby, and still be rounded otherwise.
        parameters, steps = dict(beside.net.named_parameters()), iter(self._drowned)

        def move(*_: Any) -> None:
            for parameter in parameters.values():
                if parameter.grad is not None:
                    _move(parameter.grad, generator)
            for each in next(steps) if turn else ():
                each.turn(parameters[each.name], seed, generator)

        beside.optimizer.register_step_pre_hook(move)
        losses = train(beside, Loop())
        return losses, copy_named([*beside.net.named_parameters(), *beside.net.named_buffers()])

    def _point_at(self, losses: list[float], bound: np.ndarray) -> None:
        """A divergence of the whole run is reported at its first step out of bounds."""
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(np.array(losses) - np.array(self.losses)) <= bound) & np.isfinite(bound)
        step = int(np.argmax(off)) + 1 if off.any() else len(losses)
        self.judge.step, steps = step, self._batching.steps
        self.judge.epoch = (step - 1) // steps + 1

    def _run_alone(self) -> tuple[np.ndarray, Any, Any]:
        """The port's losses, parameters and other collections."""
        params, model_state, opt_state = self._free
        if self._jnet is None:
            missing = len(self.losses) - len(self.free_losses)
            return np.array(self.free_losses + [np.nan] * missing), params, model_state
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
        return history.losses, state.params, state.model_state

    def _array(self, array: np.ndarray) -> Any:
        """On JAX's device; the same array again, a full batch, is not moved again."""
        kept = self._arrays.get(id(array))
        if kept is None or kept[0] is not array:
            self._arrays = dict(list(self._arrays.items())[-1:])
            kept = self._arrays[id(array)] = (array, jax.device_put(array))
        return kept[1]


def _find_gap(runs: Sequence[tuple[Any, Any]], own: np.ndarray) -> np.ndarray:
    """How far the first of each pair lies from these at most."""
    if not runs:
        return np.zeros(np.shape(own))
    with np.errstate(invalid="ignore"):
        return np.max([np.abs(run[0] - own) for run in runs], axis=0)


def bound_losses(torch: np.ndarray, gap: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """The bound on each loss of a whole run: what an ulp at its start has come to by then.

    Beside it what rounding may make of that loss `alone`, from torch's own weights. It is infinite
    from the step on in which the first is more than `CHAOS` of the loss, and where the loss is not
    finite.
    """
    with np.errstate(invalid="ignore"):
        lost = ~(gap <= bounds.CHAOS * np.abs(torch))
    largest = np.maximum.accumulate(np.where(np.isfinite(gap), gap, 0.0))
    bound = bounds.RUN * largest + bounds.RUN_LOSS * np.abs(np.nan_to_num(torch)) + alone
    return np.where(np.logical_or.accumulate(lost), np.inf, bound)


def _move(tensor: torch.Tensor, generator: torch.Generator) -> None:
    """Each number to one of its neighbours, or a little further; a 0 stays 0."""
    up = torch.rand(tensor.shape, generator=generator) < 0.5
    tensor.mul_(1 + EPS * torch.where(up, 1.0, -1.0).to(tensor.dtype))


def _list_state(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The tensors that an optimizer holds."""
    states = (value for state in optimizer.state.values() for value in state.values())
    return [value for value in states if isinstance(value, torch.Tensor)]


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
