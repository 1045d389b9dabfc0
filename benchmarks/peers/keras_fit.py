"""Keras 3 on JAX: `train_on_batch` in a Python loop, and `fit`."""

import os
from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, batches, kernels, need, torch_names
from benchmarks.task import Contestant, Missing, Prepared, Task, Trained

# `fit` asks for its next batches in groups of this size, and looks at callbacks between groups.
STEPS_PER_EXECUTION = 128


def build(task: Task, steps_per_execution: int) -> Any:
    """The net, compiled with its loss and optimizer."""
    os.environ.setdefault("KERAS_BACKEND", "jax")  # read once, when it is imported
    keras = need("keras")
    if keras.backend.backend() != "jax":
        raise Missing("keras runs on another backend: set KERAS_BACKEND=jax")
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


def read(trained: tuple[Any, Any]) -> Trained:
    """Of a net and its losses."""
    net, losses = trained
    w1, b1, w2, b2 = net.get_weights()
    return Trained(torch_names([(w1, b1), (w2, b2)]), losses)


def prepare_loop(task: Task) -> Prepared:
    """`train_on_batch` for each batch; it returns the loss as a Python number."""
    net = build(task, steps_per_execution=1)

    def train():
        restart(net, task)
        return net, np.array([net.train_on_batch(x, y) for x, y in batches(task)])

    return train, read


def prepare_fit(task: Task) -> Prepared:
    """`fit` in the rows' order; it tells an epoch's mean loss alone."""
    net = build(task, STEPS_PER_EXECUTION)
    options = {"batch_size": task.batch_size, "epochs": task.epochs}

    def train():
        restart(net, task)
        net.fit(task.x, task.y, shuffle=False, verbose=0, **options)
        return net, None

    return train, read


LOOP = Contestant("Keras on JAX, train_on_batch", "lecture", prepare_loop, ALL_THREADS)
FIT = Contestant("Keras on JAX, fit", "fast", prepare_fit, ALL_THREADS)
