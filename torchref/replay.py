"""A step of torch's once more, from where it began, under another reference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import torch

from jaxnet.certificate.bounds import View
from torchref.names import Calls, following
from torchref.plan import Plan
from torchref.recorder import Recorder
from torchref.reference.float64 import Reference
from torchref.reference.shadows import write
from torchref.steps import Step

Views = dict[tuple[str, str], View]
"""What the reference knows, by stage and name."""

Replay = Callable[..., Views]
"""`replay(reference)` runs the step; `seen(name, output)` is told what each module has given."""


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
        batch = jax.tree.map(torch.tensor, plan.data.like(step.batch))

        calls = Calls(net)

        def note(module: torch.nn.Module, outputs: Any) -> None:
            for name, output in calls.end(module, outputs).items():
                if output.is_floating_point():
                    seen(name, output)
                    views["outputs", name] = reference.look(output)

        with reference, following(net, calls.begin, note):
            loss = plan.differentiate(batch)
        views["loss", "loss"] = reference.look(loss)
        for name, buffer in net.named_buffers():
            if buffer.is_floating_point():
                views["buffers", name] = reference.look(buffer)
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
