"""Equinox with optax: a filter-jitted step in a Python loop, and a whole run as one program."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, NAMES, batches, need, scan_epochs
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


def make_step(task: Task) -> tuple[Any, Callable]:
    """The optimizer, and a step of (net, its state, key) on one batch that gives a loss as well."""
    eqx, jax, optax = need("equinox"), need("jax"), need("optax")
    optimizer = optax.sgd(task.lr)

    def loss_fn(net, x, y, key):
        logits = jax.vmap(net)(x, key=jax.random.split(key, len(x)))
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    def step(carry, batch):
        net, opt_state, key = carry
        key, dropout_key = jax.random.split(key)
        loss, grads = eqx.filter_value_and_grad(loss_fn)(net, *batch, dropout_key)
        updates, opt_state = optimizer.update(grads, opt_state, net)
        return (eqx.apply_updates(net, updates), opt_state, key), loss

    return optimizer, step


def start(task: Task, optimizer: Any) -> tuple[Any, Any, Any]:
    """What a step carries, before the first."""
    eqx, jax = need("equinox"), need("jax")
    net = build(task)
    return net, optimizer.init(eqx.filter(net, eqx.is_inexact_array)), jax.random.key(task.seed)


def read_net(trained: tuple[Any, Any]) -> Trained:
    """Of a net and its losses."""
    net, losses = trained
    params = {
        f"{layer}.{name}": np.array(getattr(net[layer], name))
        for layer in (0, 3)
        for name in ("weight", "bias")
    }
    return Trained(params, np.array(losses))


def prepare_loop(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """`eqx.filter_jit` around the step, called for each batch of NumPy rows."""
    eqx, jax = need("equinox"), need("jax")
    optimizer, step = make_step(task)
    initial, jitted = start(task, optimizer), eqx.filter_jit(step)

    def train():
        carry, losses = initial, []
        for batch in batches(task):
            carry, loss = jitted(carry, batch)
            losses.append(loss)
        return jax.block_until_ready((carry[0], losses))

    return train, read_net


def prepare_scan(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """Both epochs in one program: the net's arrays are scanned over, the rest stays outside."""
    eqx, jax = need("equinox"), need("jax")
    optimizer, step = make_step(task)
    initial = start(task, optimizer)
    xy = jax.device_put((task.x, task.y))

    @eqx.filter_jit
    def run(carry, xy):
        arrays, static = eqx.partition(carry, eqx.is_array)

        def step_arrays(arrays, batch):
            carry, loss = step(eqx.combine(arrays, static), batch)
            return eqx.filter(carry, eqx.is_array), loss

        arrays, losses = scan_epochs(step_arrays, arrays, xy, task.epochs, task.batch_size)
        return eqx.combine(arrays, static)[0], losses

    return lambda: jax.block_until_ready(run(initial, xy)), read_net


LOOP = Contestant("Equinox, filter_jit step", "lecture", prepare_loop, ALL_THREADS)
SCAN = Contestant("Equinox, lax.scan", "fast", prepare_scan, ALL_THREADS)
