"""Flax NNX with optax: its canonical loop, and a whole run as one program."""

from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, batches, kernels, need, scan, torch_names
from benchmarks.task import Contestant, Prepared, Task, Trained


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
    for place, (kernel, bias) in zip((0, 3), kernels(task.params), strict=True):
        net.layers[place].kernel[...] = jnp.array(kernel)
        net.layers[place].bias[...] = jnp.array(bias)
    return net, nnx.Optimizer(net, optax.sgd(task.lr), wrt=nnx.Param)


def train_step(net: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """Updates `net` and `optimizer` in place and returns the loss."""
    nnx, optax = need("flax.nnx"), need("optax")

    def loss_fn(net):
        return optax.sigmoid_binary_cross_entropy(net(x), y).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(net)
    optimizer.update(net, grads)
    return loss


def read(trained: tuple[Any, Any]) -> Trained:
    """Of a net and its losses."""
    net, losses = trained
    layers = [(net.layers[place].kernel[...], net.layers[place].bias[...]) for place in (0, 3)]
    return Trained(torch_names(layers), np.array(losses))


def prepare_loop(task: Task) -> Prepared:
    """`nnx.jit` around the step, called for each batch of NumPy rows."""
    nnx, jax = need("flax.nnx"), need("jax")
    step = nnx.jit(train_step)

    def train():
        net, optimizer = build(task)
        losses = [step(net, optimizer, x, y) for x, y in batches(task)]
        jax.block_until_ready((nnx.state(net), losses))
        return net, losses

    return train, read


def start(task: Task) -> Any:
    """The same step of the state alone: split outside, merged inside, as NNX's guide advises."""
    nnx = need("flax.nnx")
    graphdef, initial = nnx.split(build(task))

    def step(state, batch):
        net, optimizer = nnx.merge(graphdef, state)
        loss = train_step(net, optimizer, *batch)
        return nnx.state((net, optimizer)), loss

    return initial, step, lambda found: read((nnx.merge(graphdef, found[0])[0], found[1]))


LOOP = Contestant("Flax NNX, nnx.jit step", "lecture", prepare_loop, ALL_THREADS)
SCAN = Contestant("Flax NNX, lax.scan", "fast", scan(start), ALL_THREADS)
