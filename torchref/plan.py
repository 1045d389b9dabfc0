"""A torch run: what decides it, and its loop."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from jaxnet._utils.validation import INT32, check_count
from jaxnet.data.loader import Batching, make_batching
from jaxnet.train._checks import check_steps
from torchref.batch import Batch, make_batch
from torchref.draws import Keep
from torchref.names import name_parts
from torchref.snapshot import Snapshot

FORWARD, NO_UPDATES = "forward only", "no updates"


class Plan(NamedTuple):
    """A torch run: everything that decides it but the stream."""

    net: torch.nn.Module
    loss: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    data: Batch
    """All rows."""
    epochs: int
    batch_size: int | None
    shuffle: bool
    interval: str = "epoch"
    """When the scheduler is stepped: after each "epoch", or after each "step"."""
    scope: str = ""
    """`FORWARD` without a loss, `NO_UPDATES` without an optimizer."""
    dropout: str = "torch"
    """Whether dropouts drop as "torch" draws, or are "off"."""
    scaled: bool = True
    """Whether dropouts that are off still divide by the probability of keeping."""

    def snapshot(self) -> Snapshot:
        """Net, loss, optimizer and scheduler as they are now."""
        return Snapshot(self.net, self.loss, self.optimizer, self.scheduler)

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """Within this torch takes no kernel whose terms nobody sees, as a fused attention's are,
        or that float64 has not, as oneDNN's for RNNs."""
        fused = torch.backends.mha.get_fastpath_enabled()
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
            torch.backends.mha.set_fastpath_enabled(False)
            if any(isinstance(layer, torch.nn.RNNBase) for layer in self.net.modules()):
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "TF32")  # which is left as it is
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            yield

    @property
    def batching(self) -> Batching:
        """How the rows are cut."""
        return make_batching(self.data.num_examples, self.batch_size, self.shuffle)

    def batches(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """An epoch's batches, each with the numbers of its rows."""
        rows = torch.arange(self.data.num_examples)
        if self.batch_size is None:
            yield rows.numpy(), self.data
            return
        leaves, form = jax.tree.flatten(self.data)
        data = torch.utils.data.TensorDataset(rows, *leaves)
        for own, *parts in torch.utils.data.DataLoader(data, self.batch_size, self.shuffle):
            yield own.numpy(), jax.tree.unflatten(form, parts)

    def dropping(self) -> AbstractContextManager[Any]:
        """In here dropouts drop as the plan says."""
        return Keep(self.scaled) if self.dropout == "off" else nullcontext()

    def forward(self, batch: Batch) -> Any:
        """What the net gives."""
        return self.net(*batch.args, **batch.keywords)

    def differentiate(self, batch: Batch) -> torch.Tensor:
        """The loss of a step, after its forward and its backward."""
        with self.dropping():
            loss = self._lose(self.forward(batch), batch.y)
            if loss.requires_grad:
                loss.backward()
        return loss

    def _lose(self, output: Any, y: Any) -> torch.Tensor:
        try:
            loss = self.loss(output, y)
        except Exception as error:
            shapes = " and ".join(map(_describe, (output, y)))
            said = str(error).partition("\n")[0]
            raise ValueError(
                f"loss must take the net's outputs and y, {shapes}, but it raised "
                f"{type(error).__name__}: {said}"
            ) from error
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise ValueError(f"loss must give one number, not {_describe(loss)}")
        return loss

    def advance(self, interval: str) -> None:
        """A step or an epoch is over: step the scheduler, if it is its turn."""
        if self.scheduler is not None and interval == self.interval:
            self.scheduler.step()


def _describe(value: Any) -> str:
    parts = name_parts(value).values()
    shapes = [f"{str(part.dtype).removeprefix('torch.')}{list(part.shape)}" for part in parts]
    return ", ".join(shapes) or type(value).__name__


def make_plan(
    net: Any,
    *,
    data: Any,
    loss: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = False,
    scheduler_interval: str = "epoch",
    dropout: str = "torch",
) -> Plan:
    """The arguments of `certify`, checked."""
    _check_net(net)
    _check_scheduler(scheduler, scheduler_interval)
    if dropout not in ("torch", "off"):
        raise ValueError(f'dropout must be "torch" or "off", not {dropout!r}')
    scope = FORWARD if loss is None else "" if optimizer is not None else NO_UPDATES
    idle = _Idle([*net.parameters()] or [torch.zeros(1)])
    optimizer = idle if optimizer is None else optimizer
    _check_optimizer(optimizer)
    if scope:
        optimizer, scheduler = idle, None
    batch = make_batch(data)
    loss = _Mean() if loss is None else loss[0] if isinstance(loss, tuple) else loss
    if not isinstance(loss, torch.nn.Module):
        loss = _Function(loss)
    epochs = check_count("epochs", epochs)
    batching = make_batching(batch.num_examples, batch_size, shuffle)  # rejects a size that is off
    check_steps(epochs, INT32 // batching.steps)
    run = epochs, batching.batch_size, shuffle, scheduler_interval, scope, dropout
    return Plan(net, loss, optimizer, scheduler, batch, *run)


def _check_net(net: Any) -> None:
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"net must be torch's Module, not {type(net).__name__}")
    places = {str(tensor.device) for tensor in [*net.parameters(), *net.buffers()]}
    if places - {"cpu"}:
        raise ValueError(f"net must be on the CPU, whose stream is proved, not {sorted(places)}")
    kinds = {tensor.dtype for tensor in net.parameters()} - {torch.float32}
    if kinds:
        raise ValueError(f"net must be float32, not {sorted(map(str, kinds))}: net.float()")
    sparse = [name for name, layer in net.named_modules() if getattr(layer, "sparse", False)]
    if sparse:
        raise ValueError(f"net must have dense gradients: {sparse[0]} has sparse=True")
    if any(getattr(parameter, "_backward_hooks", None) for parameter in net.parameters()):
        raise ValueError("net must have no hook on a parameter: a port has none")


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be torch's Optimizer, not {type(optimizer).__name__}")
    if _needs(optimizer, "closure"):
        name = type(optimizer).__name__
        raise ValueError(
            f"optimizer must step from one gradient, and {name} needs a closure, from which it "
            "computes several: certify one of its gradients, with optimizer=None"
        )


def _check_scheduler(scheduler: Any, interval: str) -> None:
    if interval not in ("epoch", "step"):
        raise ValueError(f'scheduler_interval must be "epoch" or "step", not {interval!r}')
    if _needs(scheduler, "metrics"):
        name = type(scheduler).__name__
        raise ValueError(
            f"scheduler must follow the steps alone, and {name} needs a validation loss: certify "
            "the run without it, for each of its rates"
        )


def _needs(value: Any, argument: str) -> bool:
    """Whether its `step` cannot be called without this argument."""
    found = None if value is None else inspect.signature(value.step).parameters.get(argument)
    return found is not None and found.default is found.empty


class _Idle(torch.optim.Optimizer):
    """Leaves the weights as they are."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> Any:
        """Nothing."""


class _Mean(torch.nn.Module):
    """The loss where none was given."""

    def forward(self, outputs: Any, targets: Any) -> torch.Tensor:
        del targets
        return torch.stack([part.double().mean() for part in name_parts(outputs).values()]).sum()


class _Function(torch.nn.Module):
    """A loss that is a function, with a place for hooks."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: Any, targets: Any) -> torch.Tensor:
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


def _ignore_result(hook: Callable) -> Callable:
    """A hook of one expression gives what `clip_grad_norm_` does, at which torch would raise."""

    def ignoring(*arguments: Any) -> Any:
        result = hook(*arguments)
        return result if isinstance(result, tuple) else None

    return ignoring


def train(plan: Plan, loop: Loop) -> np.ndarray:
    """The torch loop; gives every loss.

    The optimizer goes from tensor to tensor, whatever `foreach` and `fused` say: those compute the
    same formula, in operations whose terms nobody sees.
    """
    for group in plan.optimizer.param_groups:
        group.update({name: False for name in ("foreach", "fused") if name in group})
    hooks = vars(plan.optimizer)["_optimizer_step_pre_hooks"]
    hooks.update({key: _ignore_result(hook) for key, hook in hooks.items()})
    losses = []
    for epoch in range(1, plan.epochs + 1):
        plan.net.train()
        for rows, batch in plan.batches():
            step = loop.before(epoch, rows)
            plan.net.zero_grad()  # those, too, that the optimizer does not have
            with step:
                loss = plan.differentiate(batch)
                plan.optimizer.step()
            losses.append(loss.item())
            loop.after()
            plan.advance("step")
        loop.end(epoch)
        plan.advance("epoch")
    return np.array(losses)
