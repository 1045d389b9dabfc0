"""Flax NNX with optax: its canonical loop, and a whole run as one program."""

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


def build(task: Task) -> tuple[Any, Any]:
    """The net of logits with the task's weights, and its optimizer."""
    nnx, jnp, optax = need("flax.nnx"), need("jax.numpy"), need("optax")
    rngs = nnx.Rngs(task.seed)
    net = nnx.Sequential(
        nnx.Linear(784, 32, rngs=rngs),
        nnx.Dropout(task.p, rngs=rngs),
        nnx.relu,
        nnx.Linear(32, 1, rngs=rngs),
    )
    net.train()
    for layer, (kernel, bias) in zip(linear_layers(net), kernels(task.params), strict=True):
        layer.kernel[...] = jnp.array(kernel)
        layer.bias[...] = jnp.array(bias)
    return net, nnx.Optimizer(net, optax.sgd(task.lr), wrt=nnx.Param)


def linear_layers(net: Any) -> list[Any]:
    """The two that have weights."""
    return [net.layers[0], net.layers[3]]


def train_step(net: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Updates `net` and `optimizer` in place and returns the loss."""
    nnx, optax = need("flax.nnx"), need("optax")

    def loss_fn(net):
        return optax.sigmoid_binary_cross_entropy(net(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(net)
    optimizer.update(net, grads)
    return loss


def read_net(trained: tuple[Any, Any]) -> Trained:
    """Of a net and its losses."""
    net, losses = trained
    layers = [(layer.kernel[...], layer.bias[...]) for layer in linear_layers(net)]
    return Trained(torch_names(layers), np.array(losses))


def prepare_loop(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """`nnx.jit` around the step, called for each batch of NumPy rows."""
    nnx, jax = need("flax.nnx"), need("jax")
    step = nnx.jit(train_step)

    def train():
        net, optimizer = build(task)
        losses = [step(net, optimizer, x, y) for x, y in batches(task)]
        jax.block_until_ready((nnx.state(net), losses))
        return net, losses

    return train, read_net


def prepare_scan(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """Both epochs in one `jax.jit`: split outside it, merged inside each step of `lax.scan`.

    NNX's performance guide advises split and merge for small nets, whose objects cost more to
    walk than their arrays to compute.
    """
    nnx, jax = need("flax.nnx"), need("jax")
    graphdef, initial = nnx.split(build(task))
    xy = jax.device_put((task.x, task.y))

    @jax.jit
    def run(state, xy):
        def step(state, batch):
            net, optimizer = nnx.merge(graphdef, state)
            loss = train_step(net, optimizer, *batch)
            return nnx.state((net, optimizer)), loss

        return scan_epochs(step, state, xy, task.epochs, task.batch_size)

    def train():
        return jax.block_until_ready(run(initial, xy))

    def read(trained):
        state, losses = trained
        net, _ = nnx.merge(graphdef, state)
        return read_net((net, losses))

    return train, read


LOOP = Contestant("Flax NNX, nnx.jit step", "lecture", prepare_loop, ALL_THREADS)
SCAN = Contestant("Flax NNX, lax.scan", "fast", prepare_scan, ALL_THREADS)
