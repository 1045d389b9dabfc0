"""Keras 3 on JAX: `train_on_batch` in a Python loop, and `fit`."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, batches, kernels, need, torch_names
from benchmarks.task import Contestant, Missing, Task, Trained

# `fit` asks for its next batches in groups of this size, and looks at callbacks between groups.
STEPS_PER_EXECUTION = 128


def import_keras() -> Any:
    """Keras on JAX; it reads its backend from the environment, once."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = need("keras")
    if keras.backend.backend() != "jax":
        raise Missing("keras runs on another backend: set KERAS_BACKEND=jax")
    return keras


def build(task: Task, steps_per_execution: int) -> Any:
    """The net, compiled with its loss and optimizer."""
    keras = import_keras()
    keras.utils.set_random_seed(task.seed)
    net = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(32),
            keras.layers.Dropout(task.p, seed=task.seed),
            keras.layers.ReLU(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    net.compile(
        optimizer=keras.optimizers.SGD(task.lr),
        loss="binary_crossentropy",
        jit_compile=True,
        steps_per_execution=steps_per_execution,
    )
    return net


def restart(net: Any, task: Task) -> None:
    """Put the task's weights into the net; SGD has no state but its count of steps."""
    net.set_weights([array for layer in kernels(task.params) for array in layer])


def read_net(trained: tuple[Any, Any]) -> Trained:
    """Of a net and its losses."""
    net, losses = trained
    w1, b1, w2, b2 = net.get_weights()
    return Trained(torch_names([(w1, b1), (w2, b2)]), losses)


def prepare_loop(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """`train_on_batch` for each batch; it returns the loss as a Python number."""
    net = build(task, steps_per_execution=1)

    def train():
        restart(net, task)
        losses = [net.train_on_batch(x, y) for x, y in batches(task)]
        return net, np.array(losses)

    return train, read_net


def prepare_fit(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """`fit` in the rows' order; it tells an epoch's mean loss alone."""
    net = build(task, STEPS_PER_EXECUTION)

    def train():
        restart(net, task)
        net.fit(
            task.x,
            task.y,
            batch_size=task.batch_size,
            epochs=task.epochs,
            shuffle=False,
            verbose=0,
        )
        return net, None

    return train, read_net


LOOP = Contestant("Keras on JAX, train_on_batch", "lecture", prepare_loop, ALL_THREADS)
FIT = Contestant("Keras on JAX, fit", "fast", prepare_fit, ALL_THREADS)
