"""Numbers that go wrong: a run stops where its loss or weights are no longer finite, and why."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxnet import nn
from jaxnet.batches import Batching, start_epoch
from jaxnet.cache import jit
from jaxnet.checks import check_state_kind
from jaxnet.hosts import fetch
from jaxnet.placement import Layout, put
from jaxnet.precision import Precision
from jaxnet.rows import Rows
from jaxnet.state import Chunk, History, StepInfo, TrainState
from jaxnet.train import Ready, draw_noise, make_runner, make_train_step

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
        """The run at the last chunk at whose end it was sound."""
        first = ", ".join(map(str, self.rows[:3])) + ", ..." * (len(self.rows) > 3)
        super().__init__(
            f"{tensor} is not finite in epoch {self.epoch}, step {self.step} of the run "
            f"(a batch of {len(self.rows)} rows: {first}){hint and ': ' + hint}"
        )


def is_sound(state: TrainState, losses: Any) -> bool:
    """Whether losses, weights and the net's other variables are finite.

    >>> is_sound(TrainState({"weight": jnp.ones(2)}, {}, (), (), 0), np.array([1.0, np.nan]))
    False
    """
    check_state_kind(state)
    tree = losses, state.params, state.model_state
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return bool(_all_finite(floats))


@jit
def _all_finite(leaves: list[Any]) -> jax.Array:
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in leaves]))


class Guard:
    """A hook that ends a run whose loss or weights are no longer finite, with `NotFinite`.

    After each chunk it looks at every loss and at the weights. Where one is bad, it replays the
    chunk from the last sound state, epoch by epoch and then step by step, to find the first bad
    step, the tensor and the rows of the batch. In torch, `torch.autograd.set_detect_anomaly` looks
    at every operation of every backward pass.

    Args:
      net, loss, optimizer: as `jaxnet.fit` takes them.
      data: `(x, y)`, in the run's precision, or `Rows`.
      batching: how the rows are cut into batches.
      start: the state and the history that the run starts with.
      layout: how the state lies on a mesh, if it does.
      precision: the run's.

    Raises:
      NotFinite: when called with a chunk that is not sound.
    """

    def __init__(
        self,
        net: Any,
        loss: Callable,
        optimizer: Any,
        data: Any,
        batching: Batching,
        start: tuple[TrainState, History],
        layout: Layout | None = None,
        precision: Precision = "parity",
    ):
        self._net, self._loss, self._optimizer = net, loss, optimizer
        self._data, self._batching, self._good = data, batching, start
        self._layout = layout
        self._precision: Precision = precision

    def __call__(self, chunk: Chunk) -> None:
        if not is_sound(chunk.state, chunk.losses):
            raise self._find(len(chunk.losses) // self._batching.steps)
        self._good = chunk.state, chunk.history

    def _find(self, epochs: int) -> NotFinite:
        """Replay the epochs after the last sound state until one is bad, then its steps."""
        state, history = self._good
        ready = Ready(state, history, range(0), self._data, self._batching, self._layout)
        run = make_runner(self._net, self._loss, self._optimizer, ready, self._precision)
        done = len(history.losses) // self._batching.steps
        for epoch in range(done + 1, done + epochs + 1):
            after, losses = run(state, 1)
            if not is_sound(after, losses) or epoch == done + epochs:
                return self._replay(state, epoch)
            state = after
        raise AssertionError("a chunk has an epoch")

    def _replay(self, state: TrainState, epoch: int) -> NotFinite:
        """The first bad step of an epoch, and what is bad in it."""
        batching = self._batching
        source = "loader_generator" if batching.own else "generator"
        generator, order = start_epoch(getattr(state, source), batching)
        state = state._replace(**{source: generator})
        order = np.arange(batching.rows) if order is None else np.asarray(order)
        train_step = jax.jit(make_train_step(self._net, self._loss, self._optimizer))
        for step in range(1, batching.steps + 1):
            rows = order[(step - 1) * batching.size :][: batching.size]
            batch = self._take(rows)
            after, info = train_step(state, batch)
            if not is_sound(after, info.loss) or step == batching.steps:
                place = epoch, (epoch - 1) * batching.steps + step, rows
                tensors = list(_list_tensors(self._net, state, batch, after, info))
                return NotFinite(place, *_blame(tensors), self._good)
            state = after
        raise AssertionError("an epoch has a step")

    def _take(self, rows: np.ndarray) -> tuple[Any, Any]:
        if not isinstance(self._data, Rows):
            x, y = self._data
            return x[rows], y[rows]
        batch = self._data.take(rows)
        if self._layout is None:
            return batch
        x, y = (put(values, self._layout.whole) for values in batch)
        return x, y


def _list_tensors(
    net: Any, state: TrainState, batch: tuple[Any, Any], after: TrainState, info: StepInfo
) -> Iterator[tuple[str, str, Any]]:
    """What a step computes, as (kind, name, values), in the order in which an error travels."""
    x, y = batch
    yield from (("data", "x of the batch", x), ("data", "y of the batch", y))
    _, noise = draw_noise(net, state.generator, x)
    _, seen = net.apply(
        {"params": state.params, **state.model_state},
        x,
        capture_intermediates=True,
        mutable=[*state.model_state, "intermediates"],
        **nn.call_keywords(net, train=True),
        **noise,
    )
    for path, values in flatten_dict(dict(seen["intermediates"])).items():
        name = ".".join(path[:-1])
        yield "output", f"the output of layer {name}" if name else "the net's output", values
    yield "loss", "the loss", info.loss
    trees = {
        "gradient": info.grads,
        "update": info.updates,
        "weight": after.params,
        "variable": after.model_state,
    }
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
    return "the run, but no tensor of its replay,", ""


def _hint(kind: str, largest: float) -> str:
    if kind == "data":
        return "the data have a NaN or an infinite value there"
    if kind == "output":
        return "the weights before it have grown: try a smaller lr, or clip the gradients"
    if kind in ("loss", "gradient") and largest > _EXP:
        return (
            f"the net's output reaches {largest:.4g}, and exp overflows float32 above 88.7: take a "
            "loss of logits, as binary_cross_entropy_with_logits, in place of one by hand"
        )
    if kind in ("loss", "gradient"):
        return "look for a log, a root or a quotient of 0 in the loss"
    return "try a smaller lr, or clip the gradients (optax.clip_by_global_norm)"
