"""NaN guard: a run stops where its loss or weights are no longer finite, and says why."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxnet._utils.processes import fetch
from jaxnet.cache import jit
from jaxnet.precision import use
from jaxnet.train.epoch import get_loss
from jaxnet.train.loop import Callback, Chunk, Run
from jaxnet.train.state import History, StepInfo, TrainState, check_state
from jaxnet.train.step import TrainStep

_EXP = 88.0  # exp overflows float32 a little above


class NotFinite(FloatingPointError):
    """A run whose loss or weights became NaN or infinite; the message says where and what helps."""

    def __init__(
        self,
        place: tuple[int, int, np.ndarray],
        tensor: str,
        hint: str,
        good: tuple[TrainState, History],
    ):
        self.epoch, self.step, self.rows = place
        """Epoch and step of the run, counted from 1, and the rows of that step's batch."""
        self.tensor = tensor
        """The first tensor of that step that is not finite."""
        self.state, self.history = good
        """The run at the end of the last chunk that was finite."""
        first = ", ".join(map(str, self.rows[:3])) + ", ..." * (len(self.rows) > 3)
        super().__init__(
            f"{tensor} is not finite in epoch {self.epoch}, step {self.step} of the run "
            f"(a batch of {len(self.rows)} rows: {first}){hint and ': ' + hint}"
        )


def all_finite(state: TrainState, losses: Any) -> bool:
    """Whether losses, weights and the net's other variables are finite.

    >>> all_finite(TrainState({"weight": jnp.ones(2)}, {}, (), (), 0), np.array([1.0, np.nan]))
    False
    """
    check_state(state)
    tree = losses, state.params, state.model_state
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return bool(_are_finite(floats))


@jit
def _are_finite(leaves: list[Any]) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]))


class NanGuard(Callback):
    """Ends a run whose loss or weights are no longer finite, with `NotFinite`.

    After each chunk it checks every loss and the weights, before any other callback runs.
    Where one is bad, it repeats the chunk from the last finite state, epoch by epoch and then step
    by step, to find the first bad step, the tensor and the rows of the batch. In torch,
    `torch.autograd.set_detect_anomaly` checks every operation of every backward pass.

    Raises:
      NotFinite: from the run, when a chunk is not finite.

    >>> import jaxnet
    >>> net, x = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)]), jnp.array([[1.0], [2.0]])
    >>> jaxnet.fit(net, (x, x), loss=lambda outputs, y: ((outputs - y) ** 2).mean(), seed=0,
    ...            optimizer=jaxnet.optim.sgd(1e30), epochs=9, callbacks=[NanGuard()])
    Traceback (most recent call last):
    ...
    jaxnet.callbacks.nan_guard.NotFinite: the loss is not finite in epoch 2, step 2 of the run ...
    """

    order = 0

    def on_start(self, run: Run) -> None:
        """Remember the state to begin with."""
        self._run = run
        self._good = Chunk(run.epoch, run.epochs, run.state, np.zeros(0), run.history)

    def on_chunk(self, chunk: Chunk) -> None:
        """Raise where the chunk is not finite."""
        with use(self._run.precision):  # float64 that is rounded to float32 may be infinite there
            if not all_finite(chunk.state, chunk.losses):
                raise self._find(chunk.epoch)
        self._good = chunk  # with what the callbacks after this one make of it

    def on_end(self, run: Run) -> None:
        """Drop the references to the run, and so to its data."""
        del self._run, self._good

    def _find(self, end: int) -> NotFinite:
        """Repeat the epochs after the last finite state until one is bad, then its steps."""
        run, state, epoch = self._run, self._good.state, end
        train = run.make_runner()
        for epoch in range(self._good.epoch + 1, end + 1):
            after, losses = train(state, 1)
            if not all_finite(after, losses):
                break
            state = after if epoch < end else state
        first, last = (epoch - 1) * run.batching.steps + 1, epoch * run.batching.steps
        with closing(run.iterate(state)) as steps:
            for number, (rows, batch, draws, (before, after, info)) in enumerate(steps, first):
                if not all_finite(after, get_loss(info)) or number == last:
                    tensors = list(_list_tensors(run, batch, draws, (before, after, info)))
                    good = self._good.state, self._good.history
                    return NotFinite((epoch, number, rows), *_blame(tensors), good)
        raise AssertionError("an epoch has a step")


def _list_tensors(
    run: Run, batch: Any, draws: Any, step: tuple[TrainState, TrainState, Any]
) -> Iterator[tuple[str, str, Any]]:
    """What a step computes, as (kind, name, values), in the order in which an error travels."""
    before, after, info = step
    pair = isinstance(batch, tuple) and len(batch) == 2
    names = ("x of the batch", "y of the batch") if pair else ("the batch",)
    for name, part in zip(names, batch if pair else (batch,), strict=True):
        yield "data", name, part
    if isinstance(run.program.step, TrainStep):
        kept = [*before.model_state, "intermediates"]
        options = {"capture_intermediates": True, "mutable": kept}
        _, seen = run.program.step.forward(before, batch[0], draws, **options)
        for path, values in flatten_dict(dict(seen["intermediates"])).items():
            name = ".".join(path[:-1])
            yield "output", f"the output of layer {name}" if name else "the net's output", values
    yield "loss", "the loss", get_loss(info)
    trees = {"weight": after.params, "variable": after.model_state}
    if isinstance(info, StepInfo):
        trees = {"gradient": info.grads, "update": info.updates, **trees}
    for kind, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            yield kind, f"the {kind} of {name}" if kind in ("gradient", "update") else name, leaf


def _blame(tensors: list[tuple[str, str, Any]]) -> tuple[str, str]:
    """The first tensor that is not finite, and what may help."""
    largest = 0.0  # of the net's outputs so far
    for kind, name, values in tensors:
        floats = [fetch(leaf).astype(np.float64) for leaf in jax.tree.leaves(values)]
        if not all(np.isfinite(leaf).all() for leaf in floats):
            return name, _hint(kind, largest)
        if kind == "output":
            largest = max(np.abs(leaf).max(initial=0.0) for leaf in floats)
    return "the run, but no tensor of its repetition,", ""


def _hint(kind: str, largest: float) -> str:
    if kind == "data":
        return "the data have a NaN or an infinite value there"
    if kind == "output":
        return "the weights before it have grown: try a smaller lr, or clip the gradients"
    if kind in ("loss", "gradient") and largest > _EXP:
        return (
            f"the net's output reaches {largest:.4g}, and exp overflows float32 above 88.7: take a "
            "loss of logits, as binary_cross_entropy_with_logits, in place of a naive one"
        )
    if kind in ("loss", "gradient"):
        return "look for a log, a root or a quotient of 0 in the loss"
    return "try a smaller lr, or clip the gradients (optax.clip_by_global_norm)"
