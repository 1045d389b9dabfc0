"""A recorded step again in float64: the exact answer, and how far rounding alone may lead from it.

Each layer can start from what a float32 computation made of the one before: then a layer's own
error is what is left, and an output that rounding put on one side of 0 turns no gradient.

Nudged "apart", each weight, each input, each layer's output and each gradient that flows back is
multiplied by 1 + eps * u with u drawn from [-1, 1]: an ulp of float32 here and there. Nudged
"together", all numbers of a layer's output, or of a gradient, move by an ulp in one direction. What
this does to a number says how well conditioned it is, for any net, without an analysis of the net.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from torchref.recorder import (
    Named,
    Step,
    call_name,
    copy_array,
    copy_named,
    leaves,
    module_names,
)
from torchref.tolerances import EPS

Nudged = Literal["apart", "together"] | None


Shake = Callable[..., torch.Tensor]

_NEAR = 16.0
"""How near to 0 rounding may turn a sign: in eps of the layer's largest output."""


class Evaluation(NamedTuple):
    """A step's forward and backward."""

    outputs: Named
    buffers: Named
    loss: np.ndarray
    grads: Named
    flows: Named
    """The gradient that flows back into each layer's output."""


class Referee:
    """Copies of a net, its loss and its optimizer, in float64."""

    def __init__(self, net: Any, loss: Any, optimizer: Any) -> None:
        self._net, self._loss, self._optimizer = copy.deepcopy((net, loss, optimizer))
        self._net.double()
        self._loss.double()
        for state in self._optimizer.state.values():
            state |= {k: _widen(v) if k != "step" else v for k, v in state.items()}
        self._generator = torch.Generator()
        self._wide: dict[int, tuple[Any, torch.Tensor]] = {}

    def evaluate(
        self,
        step: Step,
        values: Named,
        *,
        nudged: Nudged = None,
        noise: Mapping[str, float] | None = None,
        turn: bool = False,
    ) -> Evaluation:
        """The forward and backward of a recorded step, from its weights, batch and masks.

        Args:
          step: torch's.
          values: the layers' outputs as someone rounded them. Each layer starts from these, so that
            what is found is its own error alone, and a ReLU is on the side on which it was there.
          nudged: the values, weights and gradients are nudged.
          noise: by layer, how far the gradient that flows into its output moves at least. Where a
            layer's own terms cancel on the way back (a BatchNorm's do), what is left says nothing
            of their rounding; what nudges further on did to it does.
          turn: outputs within rounding of 0 change their sign: what a ReLU makes of that.
        """
        self._load(step.weights_before, step.buffers_before)
        net, outputs, flows = self._net.train(), {}, {}
        net.zero_grad()
        x, y = self._wide_copy(step.batch["input"]), self._wide_copy(step.batch["target"])
        shake = self._shake(nudged)
        if nudged is not None:
            nudge_weights(net, EPS, self._generator)
            x = shake(x) if x.is_floating_point() else x

        def follow(name: str, output: torch.Tensor) -> torch.Tensor | None:
            outputs[name] = copy_array(output)
            if not output.is_floating_point():
                return None
            if name in values:
                given = torch.from_numpy(np.array(values[name], np.float64))
                output = output + (given - output).detach()
            if turn:
                near = output.abs() <= _NEAR * EPS * output.abs().max()
                output = output - 2 * torch.where(near, output, 0).detach()
            if output.requires_grad:
                output.register_hook(lambda grad: flows.__setitem__(name, copy_array(grad)))
            if nudged is None:
                return output
            return _Nudge.apply(output, shake, (noise or {}).get(name, 0.0))

        with _stream(step.stream), _hooks(net, follow), _in_float64():
            out = net(x)
            if "" not in outputs:
                outputs[""] = copy_array(out)
            loss = self._loss(out, y)
            loss.backward()
        grads = copy_named((name, p.grad) for name, p in net.named_parameters())
        buffers = copy_named(net.named_buffers())
        return Evaluation(outputs, buffers, copy_array(loss), grads, flows)

    def update(self, step: Step, rates: list[Any]) -> Named:
        """What the optimizer adds to the weights of a step, given its float32 gradients."""
        self._load(step.weights_before, step.buffers_before)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for name, parameter in self._net.named_parameters():
            grad = step.grads.get(name)
            parameter.grad = None if grad is None else torch.from_numpy(grad).double()
        self._optimizer.step()
        return {
            name: copy_array(parameter) - step.weights_before[name]
            for name, parameter in self._net.named_parameters()
        }

    def predict(
        self, weights: Named, buffers: Named, x: np.ndarray, *, nudged: Nudged = None
    ) -> np.ndarray:
        """The outputs in evaluation mode."""
        self._load(weights, buffers)
        net, wide, shake = self._net.eval(), self._wide_copy(x), self._shake(nudged)
        if nudged is not None:
            nudge_weights(net, EPS, self._generator)
            wide = shake(wide) if wide.is_floating_point() else wide

        def follow(name: str, output: torch.Tensor) -> torch.Tensor | None:
            still = nudged is None or not output.is_floating_point()
            return None if still else _Nudge.apply(output, shake, 0.0)

        with torch.no_grad(), _hooks(net, follow):
            return copy_array(net(wide))

    def _load(self, weights: Named, buffers: Named) -> None:
        with torch.no_grad():
            for name, tensor in [*self._net.named_parameters(), *self._net.named_buffers()]:
                source = weights[name] if name in weights else buffers[name]
                tensor.copy_(torch.from_numpy(np.asarray(source)))

    def _wide_copy(self, array: np.ndarray) -> torch.Tensor:
        """In float64; the same array again, a full batch, is not converted again."""
        kept = self._wide.get(id(array))
        if kept is None or kept[0] is not array:
            self._wide = dict(list(self._wide.items())[-2:])
            kept = self._wide[id(array)] = (array, _widen(torch.from_numpy(array)))
        return kept[1].clone() if kept[1].ndim == 0 else kept[1]

    def _shake(self, nudged: Nudged) -> Shake:
        kind = _together if nudged == "together" else _apart
        return partial(kind, size=EPS, generator=self._generator)


def nudge_weights(
    net: torch.nn.Module, size: float, generator: torch.Generator | None = None
) -> None:
    """Multiply each weight by 1 + size * u, with u drawn from [-1, 1], in place."""
    generator = torch.Generator() if generator is None else generator
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(_apart(parameter.double(), size=size, generator=generator))


def _apart(
    values: torch.Tensor, least: float = 0.0, *, size: float, generator: torch.Generator
) -> torch.Tensor:
    """Each by itself, up or down by no more than `size` of itself, or by `least`."""
    u = 2 * torch.rand(values.shape, generator=generator, dtype=torch.float64) - 1
    return values + u * (size * values.abs()).clamp(min=least)


def _together(
    values: torch.Tensor, least: float = 0.0, *, size: float, generator: torch.Generator
) -> torch.Tensor:
    """All up or all down: as where a mean that all of them share was rounded."""
    up = bool(torch.randint(2, (), generator=generator))
    moved = (size * values.abs()).clamp(min=least)
    return values + moved if up else values - moved


@contextmanager
def nudging(net: torch.nn.Module, noise: Mapping[str, float], *, seed: int) -> Iterator[None]:
    """While this lasts, each layer's outputs and gradients are nudged, in the net's own type.

    `noise` is that of `Referee.evaluate`.
    """
    shake = partial(_apart, size=EPS, generator=torch.Generator().manual_seed(seed))

    def follow(name: str, output: torch.Tensor) -> torch.Tensor | None:
        least = noise.get(name, 0.0)
        return _Nudge.apply(output, shake, least) if output.is_floating_point() else None

    with _hooks(net, follow):
        yield


class _Nudge(torch.autograd.Function):
    """Shakes what goes forward and what flows back."""

    @staticmethod
    def forward(ctx, x, shake, least):
        ctx.shake, ctx.least = shake, least
        y = shake(x).to(x.dtype)
        # A probability stays one: a loss refuses others.
        return y.clamp(0, 1) if x.numel() and x.min() >= 0 and x.max() <= 1 else y

    @staticmethod
    def backward(ctx, *grads):
        return ctx.shake(grads[0], ctx.least).to(grads[0].dtype), None, None


@contextmanager
def _in_float64() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            "net and loss must compute in float64 too, for the exact answer: each tensor of theirs "
            f"a parameter or a buffer, and none made float32 on the way ({error})"
        ) from error


def _widen(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if floating else value


@contextmanager
def _stream(state: np.ndarray) -> Iterator[None]:
    """torch's stream as it was at some time, and afterwards as it is now."""
    now = torch.get_rng_state()
    torch.set_rng_state(torch.from_numpy(state))
    try:
        yield
    finally:
        torch.set_rng_state(now)


@contextmanager
def _hooks(
    net: torch.nn.Module, follow: Callable[[str, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """Every layer's output goes through `follow`, with the name that the recorder gives it."""
    names, calls = module_names(net), {}

    def after(layer, arguments, output):
        if isinstance(output, torch.Tensor):
            return follow(call_name(names, calls, layer), output)
        return None

    handles = [layer.register_forward_hook(after) for layer in leaves(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
