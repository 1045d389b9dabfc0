"""Two nets that take turns, a small GAN, trained by `jaxnet.train.run` with a step of your own.

The generator makes points of noise, the discriminator tells them from the data; each has its own
optimizer. `python examples/two_nets.py FOLDER` saves the run in FOLDER and resumes it from there.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnet
from jaxnet import callbacks, nn, optim

GENERATOR = nn.Sequential([nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)])
DISCRIMINATOR = nn.Sequential([nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)])
ADAMS = optim.adam(2e-3), optim.adam(5e-3)
LOSS = jaxnet.losses.binary_cross_entropy_with_logits
MEAN = np.array([2.0, -1.0], np.float32)
POINTS = MEAN + np.random.default_rng(0).normal(size=(512, 2)).astype(np.float32)


def begin(seed):
    """The weights that torch draws, each optimizer's state, and the stream after them."""
    stream, generator = jaxnet.init(GENERATOR, jaxnet.random.manual_seed(seed))
    stream, discriminator = jaxnet.init(DISCRIMINATOR, stream)
    moments = ADAMS[0].init(generator), ADAMS[1].init(discriminator)
    return (generator, discriminator, *moments), stream


def draw(stream, steps, batch_size):
    """Each step's `torch.randn(batch_size, 4)`: exact on the host alone, hence the callback."""

    def make(stream):
        noise = np.empty((steps, batch_size, 4), np.float32)
        for step in range(steps):
            stream, noise[step] = jaxnet.random.normal(stream, noise.shape[1:])
        return noise, stream

    shape = jax.ShapeDtypeStruct((steps, batch_size, 4), np.float32)
    return jax.pure_callback(make, (shape, jax.eval_shape(lambda: stream)), stream)


def step(state, real, noise):
    """The discriminator learns to tell real points from made ones, the generator to deceive it."""
    generator, discriminator, *moments = state
    ones, zeros = jnp.ones((len(real), 1)), jnp.zeros((len(real), 1))

    def tell_apart(discriminator):
        made = DISCRIMINATOR.apply(discriminator, GENERATOR.apply(generator, noise))
        return LOSS(DISCRIMINATOR.apply(discriminator, real), ones) + LOSS(made, zeros)

    def deceive(generator):
        return LOSS(DISCRIMINATOR.apply(discriminator, GENERATOR.apply(generator, noise)), ones)

    loss, grads = jax.value_and_grad(tell_apart)(discriminator)
    updates, moments[1] = ADAMS[1].update(grads, moments[1])
    discriminator = optax.apply_updates(discriminator, updates)  # as `deceive` finds it
    updates, moments[0] = ADAMS[0].update(jax.grad(deceive)(generator), moments[0])
    return (optax.apply_updates(generator, updates), discriminator, *moments), {"loss": loss}


def train(epochs, *around, seed=1):
    """The run with these callbacks: weights, orders and noise are those of torch's stream."""
    state, stream = begin(seed)
    options = {"epochs": epochs, "batch_size": 64, "shuffle": True, "callbacks": around}
    points = jaxnet.data.InMemory(POINTS)
    return jaxnet.train.run(step, state, points, draw=draw, seed=stream, **options)


if __name__ == "__main__":
    saving = [callbacks.Checkpoint(sys.argv[1], resume=True)] if sys.argv[1:] else []
    state, history = train(100, callbacks.NanGuard(), callbacks.Report(20), *saving)
    for report in history.reports:
        print(f"epoch {report.epoch}: the discriminator's loss is {report.loss:.3f}")
    noise = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    points = np.asarray(GENERATOR.apply(state.params[0], noise))
    print(f"mean of the data {MEAN}, of the points made {points.mean(axis=0).round(2)}")
