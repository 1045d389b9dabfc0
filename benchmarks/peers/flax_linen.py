"""Flax Linen with optax: a jitted step in a Python loop, and a whole run as one program."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.common import (
    ALL_THREADS,
    batches,
    kernels,
    need,
    scan_epochs,
    torch_names,
)
from benchmarks.task import Contestant, Task, Trained


def build(task: Task) -> Any:
    """A fresh `TrainState` of the net: parameters, `apply` and optimizer."""
    nn = need("flax.linen")
    train_state = need("flax.training.train_state")
    optax = need("optax")
    net = nn.Sequential(
        [
            nn.Dense(32),
            nn.Dropout(task.p, deterministic=False),
            nn.relu,
            nn.Dense(1),
        ]
    )
    (w1, b1), (w2, b2) = kernels(task.params)
    params = {
        "layers_0": {"kernel": w1, "bias": b1},
        "layers_3": {"kernel": w2, "bias": b2},
    }
    return train_state.TrainState.create(apply_fn=net.apply, params=params, tx=optax.sgd(task.lr))


def train_step(state: Any, batch: Any, key: Any) -> tuple[Any, Any]:
    """One update; the step's number makes the step's dropout key."""
    import jax
    import optax

    x, y = batch
    dropout_key = jax.random.fold_in(key, state.step)

    def loss_fn(params):
        logits = state.apply_fn({"params": params}, x, rngs={"dropout": dropout_key})
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def read_state(trained: tuple[Any, Any]) -> Trained:
    """Of a `TrainState` and its losses."""
    state, losses = trained
    layers = [state.params[name] for name in ("layers_0", "layers_3")]
    params = torch_names([(layer["kernel"], layer["bias"]) for layer in layers])
    return Trained(params, np.array(losses))


def prepare_loop(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """A jitted `train_step`, called for each batch of NumPy rows."""
    jax = need("jax")
    initial, key = build(task), jax.random.key(task.seed)
    step = jax.jit(train_step)

    def train():
        state, losses = initial, []
        for batch in batches(task):
            state, loss = step(state, batch, key)
            losses.append(loss)
        return jax.block_until_ready((state, losses))

    return train, read_state


def prepare_scan(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """Both epochs in one `jit`, `lax.scan` over the batches."""
    jax = need("jax")
    initial, key = build(task), jax.random.key(task.seed)
    xy = jax.device_put((task.x, task.y))

    @jax.jit
    def run(state, xy, key):
        def step(state, batch):
            return train_step(state, batch, key)

        return scan_epochs(step, state, xy, task.epochs, task.batch_size)

    return lambda: jax.block_until_ready(run(initial, xy, key)), read_state


LOOP = Contestant("Flax Linen, jitted step", "lecture", prepare_loop, ALL_THREADS)
SCAN = Contestant("Flax Linen, lax.scan", "fast", prepare_scan, ALL_THREADS)
