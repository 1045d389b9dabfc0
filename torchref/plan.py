"""A torch run: what decides it, its loop, and how what it has changed is put back."""

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxnet._utils.validation import check_count, check_rows
from jaxnet.data.loader import Batching, make_batching
from torchref.recorder import copy_array
from torchref.reference.shadows import write

FORWARD, NO_UPDATES = "forward only", "no updates"


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
    scope: str = ""
    """`FORWARD` without a loss, `NO_UPDATES` without an optimizer."""

    def snapshot(self) -> "Snapshot":
        """Net, loss, optimizer and scheduler as they are now."""
        return Snapshot(self.net, self.loss, self.optimizer, self.scheduler)

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """Within this torch takes no kernel that float64 has not, as oneDNN's for RNNs."""
        if not any(isinstance(layer, torch.nn.RNNBase) for layer in self.net.modules()):
            yield
            return
        with warnings.catch_warnings():  # of TF32, which is left as it is
            warnings.filterwarnings("ignore", "TF32")
            with torch.backends.mkldnn.flags(enabled=False):
                yield

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


def make_plan(
    net: Any,
    loss: Any,
    optimizer: Any,
    scheduler: Any,
    data: Any,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
) -> Plan:
    """The arguments of `certify`, checked."""
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"net must be torch's Module, not {type(net).__name__}")
    scope = FORWARD if loss is None else "" if optimizer is not None else NO_UPDATES
    if loss is None and optimizer is not None:
        raise ValueError("optimizer needs loss, which it minimizes; loss is None")
    if optimizer is None:
        optimizer = _Idle([*net.parameters()] or [torch.zeros(1)])
    loss = _Mean() if loss is None else loss
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be torch's Optimizer, not {type(optimizer).__name__}")
    places = {str(tensor.device) for tensor in [*net.parameters(), *net.buffers()]}
    if places - {"cpu"}:
        raise ValueError(f"net must be on the CPU, whose stream is proved, not {sorted(places)}")
    kinds = {tensor.dtype for tensor in net.parameters()} - {torch.float32}
    if kinds:
        raise ValueError(f"net must be float32, not {sorted(map(str, kinds))}: net.float()")
    if (
        vars(optimizer)["_optimizer_step_pre_hooks"]
        or vars(optimizer)["_optimizer_step_post_hooks"]
    ):
        raise ValueError("optimizer must have no step hooks: a port has none")
    sparse = [name for name, layer in net.named_modules() if getattr(layer, "sparse", False)]
    if sparse:
        raise ValueError(f"net must have dense gradients: {sparse[0]} has sparse=True")
    if any(getattr(parameter, "_backward_hooks", None) for parameter in net.parameters()):
        raise ValueError("net must have no hook on a parameter: a port has none")
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be (X, y), not {type(data).__name__}")
    x, y = data
    check_rows(x, y)
    x, y = (torch.from_numpy(copy_array(array)) for array in (x, y))
    torch_loss = loss[0] if isinstance(loss, tuple) else loss
    if not isinstance(torch_loss, torch.nn.Module):
        torch_loss = _Function(torch_loss)
    epochs = check_count("epochs", epochs)
    make_batching(len(x), batch_size, shuffle)  # rejects a batch size that does not fit
    run = epochs, batch_size, shuffle, scope
    return Plan(net, torch_loss, optimizer, scheduler, x, y, *run)


class _Idle(torch.optim.Optimizer):
    """Leaves the weights as they are."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> Any:
        """Nothing."""


class _Mean(torch.nn.Module):
    """The loss where none was given."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        del targets
        return outputs.double().mean()


class _Function(torch.nn.Module):
    """A loss that is a function, with a place for hooks."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.function(outputs, targets)


class Loop:
    """What is called around torch's loop."""

    def before(self, epoch: int, rows: np.ndarray) -> Any:
        """A step begins: in here it runs."""
        del epoch, rows
        return nullcontext()

    def after(self) -> None:
        """A step is done."""

    def end(self, epoch: int) -> None:
        """An epoch is done."""


def train(plan: Plan, loop: Loop) -> np.ndarray:
    """The torch loop; gives every loss.

    The optimizer goes from tensor to tensor, whatever `foreach` and `fused` say: those compute the
    same formula, in operations whose terms nobody sees.
    """
    for group in plan.optimizer.param_groups:
        group.update({name: False for name in ("foreach", "fused") if name in group})
    losses = []
    for epoch in range(1, plan.epochs + 1):
        plan.net.train()
        for rows, x, y in plan.batches():
            step = loop.before(epoch, rows)
            plan.net.zero_grad()  # those, too, that the optimizer does not have
            with step:
                loss = plan.loss(plan.net(x), y)
                if loss.requires_grad:
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
