"""A torch run: what decides it, its loop, and how what it has changed is put back."""

import copy
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxnet.batches import Batching, make_batching


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

    def snapshot(self) -> "Snapshot":
        """Net, loss, optimizer and scheduler as they are now."""
        return Snapshot(self.net, self.loss, self.optimizer, self.scheduler)

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
            plan.scheduler.step()
    return np.array(losses)


_OBJECTS = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)


class Snapshot:
    """The tensors, gradients, containers and attributes of torch's objects, to be put back.

    The objects themselves are trained, and no copies of them: a hook or a closure holds the
    originals, and a copied optimizer loses its hooks.
    """

    def __init__(self, *objects: Any) -> None:
        self._seen: dict[int, Any] = {}
        self._tensors: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        self._containers: list[tuple[Any, Any]] = []
        for each in objects:
            self._walk(each)

    def restore(self) -> None:
        """Everything as it was."""
        for container, content in self._containers:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)
        for tensor, values, grad in self._tensors:
            tensor.data.copy_(values)
            if tensor.is_leaf:
                tensor.grad = grad

    def _walk(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value  # held, so that no other object takes its place
        if isinstance(value, torch.Tensor):
            grad = value.grad if value.is_leaf else None
            self._tensors.append((value, value.detach().clone(), grad))
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
