"""A recorded step again in float64: the exact answer, and how far rounding alone may lead from it.

Nudged "apart", each weight, each input, each layer's output and each gradient that flows back is
multiplied by 1 + eps * u with u drawn from [-1, 1]: an ulp of float32 here and there. Nudged
"together", all numbers of a layer's output, or of a gradient, move by an ulp in one direction. What
this does to a number says how well conditioned it is, for any net, without an analysis of the net.
"""

import copy
from collections.abc import Callable, Iterator
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


class Evaluation(NamedTuple):
    """A step's forward and backward."""

    outputs: Named
    buffers: Named
    loss: np.ndarray
    grads: Named


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

    def evaluate(self, step: Step, *, nudged: Nudged = None) -> Evaluation:
        """The forward and backward of a recorded step, from its weights, batch and masks."""
        self._load(step.weights_before, step.buffers_before)
        net, outputs = self._net.train(), {}
        net.zero_grad()
        x, y = self._wide_copy(step.batch["input"]), self._wide_copy(step.batch["target"])
        with _stream(step.stream), _watch(net, outputs), self._nudge(nudged, x) as x:
            out = net(x)
            loss = self._loss(out, y)
            loss.backward()
        outputs.setdefault("", copy_array(out))
        grads = copy_named((name, p.grad) for name, p in net.named_parameters())
        return Evaluation(outputs, copy_named(net.named_buffers()), copy_array(loss), grads)

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
        net, wide = self._net.eval(), self._wide_copy(x)
        with torch.no_grad(), self._nudge(nudged, wide) as x_wide:
            return copy_array(net(x_wide))

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

    @contextmanager
    def _nudge(self, nudged: Nudged, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """A net whose layers are nudged while this lasts; gives the batch, nudged too."""
        if nudged is None:
            yield x
            return
        kind = _apart if nudged == "apart" else _together
        shake = partial(kind, size=EPS, generator=self._generator)

        def after(layer, arguments, output):
            floating = isinstance(output, torch.Tensor) and output.is_floating_point()
            return _Nudge.apply(output, shake) if floating else None

        nudge_weights(self._net, EPS, self._generator)
        handles = [layer.register_forward_hook(after) for layer in leaves(self._net)]
        try:
            yield shake(x) if x.is_floating_point() else x
        finally:
            for handle in handles:
                handle.remove()


def nudge_weights(
    net: torch.nn.Module, size: float, generator: torch.Generator | None = None
) -> None:
    """Multiply each weight by 1 + size * u, with u drawn from [-1, 1], in place."""
    generator = torch.Generator() if generator is None else generator
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(_apart(parameter.double(), size, generator))


Shake = Callable[[torch.Tensor], torch.Tensor]


def _apart(values: torch.Tensor, size: float, generator: torch.Generator) -> torch.Tensor:
    u = torch.rand(values.shape, generator=generator, dtype=torch.float64)
    return values * (1 + size * (2 * u - 1))


def _together(values: torch.Tensor, size: float, generator: torch.Generator) -> torch.Tensor:
    """All up or all down: as where a mean that all of them share was rounded."""
    up = bool(torch.randint(2, (), generator=generator))
    return values + (size if up else -size) * values.abs()


class _Nudge(torch.autograd.Function):
    """Shakes what goes forward and what flows back."""

    @staticmethod
    def forward(ctx, x, shake):
        ctx.shake = shake
        y = shake(x)
        # A probability stays one: a loss refuses others.
        return y.clamp(0, 1) if x.numel() and x.min() >= 0 and x.max() <= 1 else y

    @staticmethod
    def backward(ctx, *grads):
        return ctx.shake(grads[0]), None


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
def _watch(net: torch.nn.Module, outputs: Named) -> Iterator[None]:
    """Copies of every layer's output, under the names that the recorder gives them."""
    names, calls = module_names(net), {}

    def after(layer, arguments, output):
        if isinstance(output, torch.Tensor):
            outputs[call_name(names, calls, layer)] = copy_array(output)

    handles = [layer.register_forward_hook(after) for layer in leaves(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
