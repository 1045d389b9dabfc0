"""A torch run recorded step by step: batch, layer outputs, masks, loss, gradients, updates.

The loop stays as it is: hooks see what passes by. A step ends with the optimizer's `step`.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

Named = dict[str, np.ndarray]
"""Arrays by torch's dotted names."""


class Step(NamedTuple):
    """One training step, from its forward to its update; every array is a copy."""

    batch: Named
    """The "input" and the "target"."""
    stream: np.ndarray
    """torch's CPU generator before the forward."""
    outputs: Named
    """Of every layer, in the order of execution; a layer that runs again has "name#1". A net that
    computes something after its last layer has its own output under ""."""
    masks: Named
    """What each dropout kept: booleans."""
    noise: Named
    """What each dropout multiplied by, to the last bit."""
    buffers_before: Named
    buffers: Named
    """Running statistics after the forward."""
    loss: np.ndarray
    weights_before: Named
    grads: Named
    """As the optimizer saw them; a parameter without one is left out."""
    weights: Named
    """After the optimizer's step."""

    @property
    def updates(self) -> Named:
        """What the step added to the weights, up to the weights' own rounding."""
        return {name: self.weights[name] - self.weights_before[name] for name in self.grads}


class Recorder:
    """Records the training steps of a net: `with Recorder(net, loss, optimizer) as recorder: ...`.

    Afterwards `recorder[i]` is the `Step` number i, and `len(recorder)` how many there are. Only
    forwards in training mode with gradients count, and only calls of the loss with what such a
    forward gave. The run's numbers, masks and orders are those of the same loop without a recorder.

    A few hundred steps stay in memory; past `limit` bytes the steps go to files in a temporary
    folder, which disappears with the recorder. With `each`, steps are handed to it one by one as
    they end, and none is kept.

    Raises:
      ValueError: the net draws random numbers outside its `torch.nn.Dropout` layers (in a call of
        `torch.nn.functional.dropout`, say), so that its masks cannot be known; or it runs twice
        before the optimizer's step, so that gradients add up over several batches.
      TypeError: `loss` is a function: a `torch.nn.Module` can be watched.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        loss: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        limit: int = 2**28,
        each: Callable[[Step], Any] | None = None,
        look: Callable[[str, str, torch.Tensor], Any] = lambda stage, name, tensor: None,
    ) -> None:
        if not isinstance(loss, torch.nn.Module):
            raise TypeError(f"loss must be a torch.nn.Module, not {type(loss).__name__}")
        self._net, self._loss, self._optimizer = net, loss, optimizer
        self._limit, self._each, self._look_at = limit, each, look
        self._steps: list[Step | Path] = []
        self._held = 0
        self._folder: Path | None = None
        self._handles: list[Any] = []
        self._now: dict[str, Any] = {}
        self._looking = self._paused = False
        self._batch: dict[str, Any] = {}
        self._names = module_names(net)

    def __enter__(self) -> "Recorder":
        hook = self._handles.append
        hook(self._net.register_forward_pre_hook(self._begin, with_kwargs=True))
        for layer in leaves(self._net):
            if isinstance(layer, torch.nn.Dropout):
                hook(layer.register_forward_pre_hook(self._before_dropout))
            hook(layer.register_forward_hook(self._after_layer))
        hook(self._net.register_forward_hook(self._end_of_forward))
        hook(self._loss.register_forward_hook(self._after_loss, with_kwargs=True))
        hook(self._optimizer.register_step_pre_hook(self._before_step))
        hook(self._optimizer.register_step_post_hook(self._after_step))
        return self

    def __exit__(self, *exception: Any) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Step:
        step = self._steps[index]
        return _load(step) if isinstance(step, Path) else step

    def __iter__(self) -> Iterator[Step]:
        return (self[index] for index in range(len(self)))

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
            raise ValueError(
                "net ran twice before optimizer.step: a step of several batches is not recorded"
            )
        stream = torch.get_rng_state()
        self._now = {
            "input": [*arguments, *keywords.values()][0],
            "stream": copy_array(stream),
            "drawn": stream,
            "calls": {},
            "outputs": {},
            "masks": {},
            "noise": {},
            "buffers_before": copy_named(net.named_buffers()),
        }

    def _before_dropout(self, layer: torch.nn.Dropout, arguments: Any) -> None:
        if self._looking and layer.training:
            self._check_stream()
            self._now["before_dropout"] = torch.get_rng_state()

    def _after_layer(self, layer: torch.nn.Module, arguments: Any, output: Any) -> None:
        if not self._looking or not isinstance(output, torch.Tensor):
            return
        name = call_name(self._names, self._now["calls"], layer)
        if isinstance(layer, torch.nn.Dropout) and layer.training:
            noise = _replay_noise(layer.p, arguments[0], self._now.pop("before_dropout"))
            self._now["drawn"] = torch.get_rng_state()
            self._now["noise"][name] = noise
            if 0 < layer.p < 1:
                self._now["masks"][name] = noise != 0
        self._now["outputs"][name] = copy_array(output)
        self._look_at("outputs", name, output)
        self._now["last"] = output

    def _end_of_forward(self, net: torch.nn.Module, arguments: Any, output: Any) -> None:
        if self._looking:
            self._looking = False
            self._check_stream()
            if not isinstance(output, torch.Tensor):
                raise TypeError(f"net must return a tensor, not {type(output).__name__}")
            self._now["output"] = output
            if output is not self._now.pop("last", None):
                self._now["outputs"][""] = copy_array(output)
                self._look_at("outputs", "", output)
            self._now["buffers"] = copy_named(net.named_buffers())
            for name, buffer in net.named_buffers():
                self._look_at("buffers", name, buffer)

    def _check_stream(self) -> None:
        if not torch.equal(torch.get_rng_state(), self._now["drawn"]):
            raise ValueError(
                "net draws random numbers outside its torch.nn.Dropout layers: make each call of "
                "torch.nn.functional.dropout a layer, so that its mask has a name"
            )

    def _after_loss(
        self, loss: torch.nn.Module, arguments: Any, keywords: Any, output: torch.Tensor
    ) -> None:
        given = [*arguments, *keywords.values()]
        if self._now and given[0] is self._now.get("output"):
            self._now["target"] = given[1]
            self._now["loss"] = copy_array(output)
            self._look_at("loss", "loss", output)

    def _before_step(self, optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
        if "loss" in self._now:
            named = dict(self._net.named_parameters())
            self._now["weights_before"] = copy_named(named.items())
            self._now["grads"] = copy_named((k, p.grad) for k, p in named.items())
            for name, parameter in named.items():
                if parameter.grad is not None:
                    self._look_at("gradients", name, parameter.grad)

    def _after_step(self, optimizer: torch.optim.Optimizer, *arguments: Any) -> None:
        if "weights_before" not in self._now:
            return
        now, self._now = self._now, {}
        for name, parameter in self._net.named_parameters():
            self._look_at("update", name, parameter)
        batch = {name: self._copy_batch(name, now.pop(name)) for name in ("input", "target")}
        kept = {field: now[field] for field in Step._fields if field in now}
        step = Step(batch=batch, weights=copy_named(self._net.named_parameters()), **kept)
        if self._each is not None:
            self._each(step)
            return
        self._held += _size(step)
        self._steps.append(step if self._held <= self._limit else self._spill(step))

    def _copy_batch(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """A copy; where a step takes the very tensor of the step before, the copy of then."""
        last, version, copy = self._batch.get(name, (None, None, None))
        if last is not tensor or version != tensor._version:
            copy = copy_array(tensor)
            self._batch[name] = (tensor, tensor._version, copy)
        assert copy is not None
        return copy

    def _spill(self, step: Step) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="recorder-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{len(self._steps)}.npz"
        flat = {}
        for field, value in step._asdict().items():
            if isinstance(value, dict):
                flat |= {f"{field}/{name}": array for name, array in value.items()}
            else:
                flat[field] = value
        with path.open("wb") as file:  # savez would end a name of its own in ".npz"
            np.savez(file, **flat)
        return path


def _load(path: Path) -> Step:
    values: dict[str, Any] = {field: {} for field in Step._fields}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            field, nested, name = key.partition("/")
            if nested:
                values[field][name] = file[key]
            else:
                values[field] = file[key]
    return Step(**values)


def _size(step: Step) -> int:
    arrays = [v for v in step for v in (v.values() if isinstance(v, dict) else [v])]
    return sum(array.nbytes for array in arrays)


Names = dict[int, list[str]]


def module_names(net: torch.nn.Module) -> Names:
    """The dotted names of every module: one that is used twice has two, in order."""
    names: dict[int, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    return names


def call_name(names: Names, calls: dict[int, int], layer: torch.nn.Module) -> str:
    """The name of this call of a layer: its own, and "name#1" when it runs again under it."""
    own = names[id(layer)]
    index = calls[id(layer)] = calls.get(id(layer), -1) + 1
    return own[index] if index < len(own) else f"{own[-1]}#{index - len(own) + 1}"


def leaves(net: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers without layers of their own, each once."""
    return [layer for layer in net.modules() if not list(layer.children())]


def _replay_noise(p: float, x: torch.Tensor, stream: torch.Tensor) -> np.ndarray:
    """What a dropout multiplied x by: the same draw again, of ones with the memory layout of x."""
    after = torch.get_rng_state()
    torch.set_rng_state(stream)
    noise = torch.nn.functional.dropout(torch.ones_like(x, requires_grad=False), p, True)
    torch.set_rng_state(after)
    return copy_array(noise)


def copy_array(tensor: Any) -> np.ndarray:
    """A NumPy copy that shares nothing with torch."""
    if isinstance(tensor, torch.Tensor):
        if tensor.dtype == torch.bfloat16:  # which NumPy has not
            tensor = tensor.float()
        return tensor.detach().cpu().numpy().copy()
    return np.array(tensor)


def copy_named(named: Any) -> Named:
    """Copies of named tensors; those that are None are left out."""
    return {name: copy_array(tensor) for name, tensor in named if tensor is not None}
