"""A step of torch's once more, from where it began, under another reference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from jaxnet.certificate.bounds import View
from torchref.plan import Plan
from torchref.recorder import Recorder, Step, call_name, leaves, module_names
from torchref.reference.float64 import Reference
from torchref.reference.shadows import write

Views = dict[tuple[str, str], View]
"""What the reference knows, by stage and name."""

Replay = Callable[..., Views]
"""`replay(reference)` runs the step; `seen(name, output)` is told what each layer has given."""


@contextmanager
def replaying(plan: Plan, recorder: Recorder, step: Step) -> Iterator[Replay]:
    """In here a step may be run as often as is asked for; afterwards all is as before."""
    net, stream, after = plan.net, torch.get_rng_state(), plan.snapshot()
    tensors = dict([*net.named_parameters(), *net.named_buffers()])

    def replay(reference: Reference, seen: Callable[..., Any] = lambda name, output: None) -> Views:
        with torch.no_grad():
            for name, value in (step.weights_before | step.buffers_before).items():
                write(tensors[name], torch.as_tensor(value))
        torch.set_rng_state(torch.from_numpy(step.stream))
        for parameter in net.parameters():
            parameter.grad = None
        views: Views = {}
        x, y = (torch.tensor(step.batch[name]) for name in ("input", "target"))

        def note(name: str, output: torch.Tensor) -> None:
            seen(name, output)
            views["outputs", name] = reference.look(output)

        with reference, _told_of_layers(net, note):
            output = net(x)
            if "" in step.outputs:  # not what its last layer gave
                note("", output)
            for name, buffer in net.named_buffers():
                if buffer.is_floating_point():
                    views["buffers", name] = reference.look(buffer)
            loss = plan.loss(output, y)
            views["loss", "loss"] = reference.look(loss)
            loss.backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                views["gradients", name] = reference.look(parameter.grad)
        return views

    with recorder.paused():
        try:
            net.train()
            yield replay
        finally:
            after.restore()
            torch.set_rng_state(stream)


@contextmanager
def _told_of_layers(net: torch.nn.Module, note: Callable[..., Any]) -> Iterator[None]:
    names, calls = module_names(net), {}

    def after(layer: torch.nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            note(call_name(names, calls, layer), output)

    handles = [layer.register_forward_hook(after) for layer in leaves(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
