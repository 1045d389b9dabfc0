"""torch's objects as they were, to be put back."""

import copy
from collections import deque
from typing import Any

import numpy as np
import torch

from torchref.reference.shadows import write

_OBJECTS = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)


class Snapshot:
    """The tensors, gradients, containers, arrays and attributes of torch's objects, to be put back.

    The objects themselves are trained, and no copies of them: a hook or a closure holds the
    originals, and a copied optimizer loses its hooks.
    """

    def __init__(self, *objects: Any) -> None:
        self._seen: dict[int, Any] = {}
        self._tensors: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._arrays: list[tuple[np.ndarray, np.ndarray]] = []
        for each in objects:
            self._walk(each)

    def restore(self) -> None:
        """Everything as it was."""
        for container, content in self._containers:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)
        for array, content in self._arrays:
            array[...] = content
        for tensor, values, grad in self._tensors:
            write(tensor.data, values)
            if tensor.is_leaf:
                tensor.grad = grad

    def _walk(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value  # held, so that no other object takes its place
        if isinstance(value, torch.Tensor):
            grad = value.grad if value.is_leaf else None
            self._tensors.append((value, value.detach().clone(), grad))
        elif isinstance(value, np.ndarray) and value.flags.writeable:
            self._arrays.append((value, value.copy()))
        elif isinstance(value, dict | list | set | deque):
            self._containers.append((value, copy.copy(value)))
            parts = value.values() if isinstance(value, dict) else value
            for part in list(parts):
                self._walk(part)
        elif isinstance(value, tuple):
            for part in value:
                self._walk(part)
        elif isinstance(value, _OBJECTS):
            self._walk(vars(value))


def list_state(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The tensors that an optimizer holds beside its parameters, in attributes of its own too."""
    seen = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    found, waiting = [], [vars(optimizer)]
    while waiting:
        part: Any = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, torch.Tensor):
            found.append(part)
        elif isinstance(part, dict | list | tuple):
            waiting += part.values() if isinstance(part, dict) else part
    return found
