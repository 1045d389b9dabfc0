"""A torch run recorded step by step: batch, layer outputs, draws, loss, gradients, updates.

The loop stays as it is: hooks see what passes by. A step ends with the optimizer's `step`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from torchref.batch import name_batch
from torchref.draws import Listener
from torchref.hooks import StepHooks
from torchref.names import Calls, following, name_outputs
from torchref.steps import Step, copy_array, copy_named


class Recorder:
    """Records the training steps of a net: `with Recorder(net, loss, optimizer) as recorder: ...`.

    Afterwards `recorder[i]` is the `Step` number i, and `len(recorder)` how many there are. Only
    forwards in training mode with gradients count, and only calls of the loss with what such a
    forward gave. The run's numbers, draws and orders are those of the same loop without a recorder.

    The steps stay in memory. With `each`, they are handed to it one by one as they end, and none is
    kept.

    Args:
      net, loss, optimizer: of the loop.
      each: takes the steps.
      look: called with the stage and the name of each tensor, as it is come upon.
      begin_update: called before the optimizer's step, when the gradients have been recorded.

    Raises:
      ValueError: the net runs twice before the optimizer's step, so that gradients add up over
        several batches.
      TypeError: `loss` is a function: a `torch.nn.Module` can be watched; or the net gives no
        tensor.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        loss: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        each: Callable[[Step], Any] | None = None,
        look: Callable[[str, str, torch.Tensor], Any] = lambda stage, name, tensor: None,
        begin_update: Callable[[], Any] = lambda: None,
    ) -> None:
        if not isinstance(loss, torch.nn.Module):
            raise TypeError(f"loss must be a torch.nn.Module, not {type(loss).__name__}")
        self._net, self._loss, self._optimizer = net, loss, optimizer
        self._each, self._look_at, self._begin_update = each, look, begin_update
        self._steps: list[Step] = []
        self._hooks = ExitStack()
        self._now: dict[str, Any] = {}
        self._looking = self._paused = False
        self._batch: dict[str, Any] = {}
        self._calls = Calls(net)

    def __enter__(self) -> "Recorder":
        enter = self._hooks.enter_context
        enter(self._net.register_forward_pre_hook(self._begin, with_kwargs=True))
        enter(following(self._net, self._begin_call, self._end_call))
        # Also where the forward fails: a mode that stayed would hear everything from there on.
        enter(self._net.register_forward_hook(self._end_of_forward, always_call=True))
        enter(self._loss.register_forward_hook(self._after_loss, with_kwargs=True))
        self._step_hooks = StepHooks(self._optimizer, self._before_step, self._after_step)
        self._hooks.callback(self._step_hooks.remove)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hooks.close()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Step:
        return self._steps[index]

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """In here the net may run without being recorded."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _begin(self, net: torch.nn.Module, arguments: Any, keywords: Any) -> None:
        self._looking = net.training and torch.is_grad_enabled() and not self._paused
        if not self._looking:
            return
        if "output" in self._now:  # one that was left by an exception has none
            self._looking = False
            raise ValueError(
                "net ran twice before optimizer.step: a step of several batches is not recorded"
            )
        self._calls.restart()
        self._step_hooks.restart()
        self._now = {
            "listener": Listener(self._calls),
            "inputs": (arguments, keywords),
            "stream": copy_array(torch.get_rng_state()),
            "outputs": {},
            "noise": {},
            "buffers_before": copy_named(net.named_buffers()),
        }
        self._now["listener"].__enter__()

    def _begin_call(self, module: torch.nn.Module) -> None:
        if self._looking:
            self._calls.begin(module)
            self._now["listener"].last = None

    def _end_call(self, module: torch.nn.Module, output: Any) -> None:
        if not self._looking:
            return
        listener = self._now["listener"]
        if isinstance(module, torch.nn.Dropout) and listener.last is not None:
            self._now["noise"][listener.draws[-1].name] = copy_array(listener.last)
        for name, tensor in self._calls.end(module, output).items():
            self._now["outputs"][name] = copy_array(tensor)
            self._look_at("outputs", name, tensor)

    def _end_of_forward(self, net: torch.nn.Module, arguments: Any, output: Any) -> None:
        if not self._looking:
            return
        self._looking, listener = False, self._now.pop("listener")
        listener.__exit__(None, None, None)
        self._now["draws"] = tuple(listener.draws)
        if output is None:
            return
        if not name_outputs("", output):
            raise TypeError(f"net must return tensors, not {type(output).__name__}")
        self._now["output"] = output
        self._now["buffers"] = copy_named(net.named_buffers())
        for name, buffer in net.named_buffers():
            self._look_at("buffers", name, buffer)

    def _after_loss(
        self, loss: torch.nn.Module, arguments: Any, keywords: Any, output: torch.Tensor
    ) -> None:
        given = [*arguments, *keywords.values()]
        if self._now and given[0] is self._now.get("output"):
            self._now["target"] = given[1]
            self._now["loss"] = copy_array(output)
            self._look_at("loss", "loss", output)

    def _before_step(self) -> None:
        if "loss" in self._now:
            named = dict(self._net.named_parameters())
            self._now["weights_before"] = copy_named(named.items())
            self._now["grads"] = copy_named((k, p.grad) for k, p in named.items())
            for name, parameter in named.items():
                if parameter.grad is not None:
                    self._look_at("gradients", name, parameter.grad)
            self._begin_update()

    def _after_step(self) -> None:
        if "weights_before" not in self._now:
            return
        now, self._now = self._now, {}
        for name, parameter in self._net.named_parameters():
            self._look_at("update", name, parameter)
        args, keywords = now.pop("inputs")
        named = name_batch(args, keywords, now.pop("target"))
        batch = {name: self._copy_batch(name, tensor) for name, tensor in named.items()}
        kept = {field: now[field] for field in Step._fields if field in now}
        step = Step(batch=batch, weights=copy_named(self._net.named_parameters()), **kept)
        (self._each or self._steps.append)(step)

    def _copy_batch(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """A copy; where a step takes the very tensor of the step before, the copy of then."""
        last, version, copy = self._batch.get(name, (None, None, None))
        if last is not tensor or version != tensor._version:
            copy = copy_array(tensor)
            self._batch[name] = (tensor, tensor._version, copy)
        assert copy is not None
        return copy
