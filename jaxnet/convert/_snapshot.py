"""A torch module's state, to be put back: no copy of it, whose closures would hold the original."""

import copy
import random
from typing import Any

import numpy as np


class Snapshot:
    """A net's tensors, gradients and attributes, and Python's and NumPy's random states."""

    def __init__(self, net: Any) -> None:
        self._spaces: list[tuple[Any, Any]] = []
        self._tensors: dict[int, tuple[Any, Any, Any]] = {}
        self._streams = random.getstate(), np.random.get_state()
        for module in net.modules():
            inner = [v for v in vars(module).values() if type(v) in (dict, list, set)]
            self._spaces += [(space, copy.copy(space)) for space in (vars(module), *inner)]
            for tensor in [*module._parameters.values(), *module._buffers.values()]:
                if tensor is not None and id(tensor) not in self._tensors:
                    values = tensor.detach().clone()
                    self._tensors[id(tensor)] = tensor, values, tensor.grad

    @property
    def drew_outside(self) -> str:
        """Whose random numbers were drawn since, beside torch's; "" for none."""
        if random.getstate() != self._streams[0]:
            return "Python's random"
        now, then = np.random.get_state(), self._streams[1]
        same = all(np.array_equal(a, b) for a, b in zip(now, then, strict=True))
        return "" if same else "NumPy's random"

    def restore(self) -> None:
        """Everything as it was."""
        import torch

        for space, content in self._spaces:
            space.clear()
            (space.extend if isinstance(space, list) else space.update)(content)
        with torch.no_grad():
            for tensor, values, grad in self._tensors.values():
                if not torch.equal(tensor.detach(), values):
                    tensor.data.copy_(values)
                if tensor.grad is not grad:
                    tensor.grad = grad
        random.setstate(self._streams[0])
        np.random.set_state(self._streams[1])
