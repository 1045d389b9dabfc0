"""Flax Linen with optax: a jitted step in a Python loop, and a whole run as one program."""

from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, kernels, loop, need, scan, torch_names
from benchmarks.task import Contestant, Task, Trained


def start(task: Task) -> Any:
    """A step of a `TrainState`; the step's number makes the step's dropout key."""
    jax, nn, optax = need("jax"), need("flax.linen"), need("optax")
    layers = [nn.Dense(32), nn.Dropout(task.p, deterministic=False), nn.relu, nn.Dense(1)]
    (w1, b1), (w2, b2) = kernels(task.params)
    params = {"layers_0": {"kernel": w1, "bias": b1}, "layers_3": {"kernel": w2, "bias": b2}}
    initial = need("flax.training.train_state").TrainState.create(
        apply_fn=nn.Sequential(layers).apply, params=params, tx=optax.sgd(task.lr)
    )
    key = jax.random.key(task.seed)

    def step(state, batch):
        x, y = batch
        dropout_key = jax.random.fold_in(key, state.step)

        def loss_fn(params):
            logits = state.apply_fn({"params": params}, x, rngs={"dropout": dropout_key})
            return optax.sigmoid_binary_cross_entropy(logits, y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    return initial, step, read


def read(trained: Any) -> Trained:
    """Of a `TrainState` and its losses."""
    state, losses = trained
    layers = [state.params[name] for name in ("layers_0", "layers_3")]
    params = torch_names([(layer["kernel"], layer["bias"]) for layer in layers])
    return Trained(params, np.array(losses))


LOOP = Contestant("Flax Linen, jitted step", "lecture", loop(start), ALL_THREADS)
SCAN = Contestant("Flax Linen, lax.scan", "fast", scan(start), ALL_THREADS)
