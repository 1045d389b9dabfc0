"""Equinox with optax: a filter-jitted step in a Python loop, and a whole run as one program."""

from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, NAMES, loop, need, scan
from benchmarks.task import Contestant, Task, Trained


def build(task: Task) -> Any:
    """The net of logits for one row, with the task's weights: Equinox's layout is torch's."""
    eqx, jax = need("equinox"), need("jax")
    keys = jax.random.split(jax.random.key(task.seed))
    net = eqx.nn.Sequential(
        [
            eqx.nn.Linear(784, 32, key=keys[0]),
            eqx.nn.Dropout(task.p),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Linear(32, 1, key=keys[1]),
        ]
    )
    return eqx.tree_at(
        lambda net: [net[0].weight, net[0].bias, net[3].weight, net[3].bias],
        net,
        [jax.numpy.array(task.params[name]) for name in NAMES],
    )


def start(task: Task) -> Any:
    """A step of (net, its optimizer's state, key)."""
    eqx, jax, optax = need("equinox"), need("jax"), need("optax")
    optimizer, net = optax.sgd(task.lr), build(task)

    def loss_fn(net, x, y, key):
        logits = jax.vmap(net)(x, key=jax.random.split(key, len(x)))
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    def step(carry, batch):
        net, opt_state, key = carry
        key, dropout_key = jax.random.split(key)
        loss, grads = eqx.filter_value_and_grad(loss_fn)(net, *batch, dropout_key)
        updates, opt_state = optimizer.update(grads, opt_state, net)
        return (eqx.apply_updates(net, updates), opt_state, key), loss

    opt_state = optimizer.init(eqx.filter(net, eqx.is_inexact_array))
    return (net, opt_state, jax.random.key(task.seed)), step, read


def read(trained: Any) -> Trained:
    """Of what is carried and the losses."""
    (net, *_), losses = trained
    weights = (getattr(net[layer], name) for layer in (0, 3) for name in ("weight", "bias"))
    return Trained(dict(zip(NAMES, map(np.array, weights), strict=True)), np.array(losses))


def start_arrays(task: Task) -> Any:
    """The same step of the net's arrays alone: they are scanned over, the rest stays outside."""
    eqx = need("equinox")
    carry, step, _ = start(task)
    arrays, static = eqx.partition(carry, eqx.is_array)

    def step_arrays(arrays, batch):
        carry, loss = step(eqx.combine(arrays, static), batch)
        return eqx.filter(carry, eqx.is_array), loss

    return arrays, step_arrays, lambda found: read((eqx.combine(found[0], static), found[1]))


FILTERED = loop(start, lambda: need("equinox").filter_jit)
LOOP = Contestant("Equinox, filter_jit step", "lecture", FILTERED, ALL_THREADS)
SCAN = Contestant("Equinox, lax.scan", "fast", scan(start_arrays), ALL_THREADS)
