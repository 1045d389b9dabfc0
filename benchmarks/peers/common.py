"""What several peers share: batches, weights in JAX's layout, and naming what is not installed."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.task import Missing, Params, Task

ALL_THREADS = os.cpu_count() or 1
"""What torch, BLAS and XLA take when nobody tells them otherwise."""

NAMES = ("0.weight", "0.bias", "3.weight", "3.bias")


def need(module: str) -> Any:
    """Import `module`, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        package = {"sklearn": "scikit-learn"}.get(package, package)
        raise Missing(f"{package} is not installed: pip install '.[bench]'") from error


def slices(task: Task) -> list[slice]:
    """Of each batch of an epoch; the last has the rows that are left."""
    size = task.batch_size
    return [slice(start, start + size) for start in range(0, len(task.x), size)]


def batches(task: Task) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every batch of the whole run, as views of the task's rows."""
    for _ in range(task.epochs):
        for rows in slices(task):
            yield task.x[rows], task.y[rows]


def split_rest(array: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The full batches of an epoch as (batches, size, ...), and the rows that are left.

    >>> [part.shape for part in split_rest(np.zeros((12665, 784)), 16)]
    [(791, 16, 784), (9, 784)]
    """
    full = len(array) // size
    return array[: full * size].reshape(full, size, *array.shape[1:]), array[full * size :]


def scan_epochs(step: Callable, carry: Any, xy: Any, epochs: int, size: int) -> tuple[Any, Any]:
    """Scan `step(carry, (x, y)) -> (carry, loss)` over every batch of every epoch, to be jitted.

    `lax.scan` wants batches of one shape, so an epoch's last, shorter batch is a step of its own.
    Returns the last carry, and the losses in order.
    """
    import jax
    import jax.numpy as jnp

    rows = [split_rest(array, size) for array in xy]
    full, rest = tuple(f for f, _ in rows), tuple(r for _, r in rows)

    def epoch(carry, _):
        carry, losses = jax.lax.scan(step, carry, full)
        if len(rest[0]):
            carry, last = step(carry, rest)
            losses = jnp.append(losses, last)
        return carry, losses

    carry, losses = jax.lax.scan(epoch, carry, length=epochs)
    return carry, losses.ravel()


def kernels(params: Params) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of both layers, kernels (in, out) as Flax, Keras and scikit-learn have them.

    Copied: a framework that updates in place must not reach the task's own weights.
    """
    return [(params[f"{layer}.weight"].T.copy(), params[f"{layer}.bias"].copy()) for layer in "03"]


def torch_names(layers: Any) -> Params:
    """The reverse of `kernels`."""
    return {
        f"{layer}.{name}": np.array(value).T
        for layer, pair in zip("03", layers, strict=True)
        for name, value in zip(("weight", "bias"), pair, strict=True)
    }


def make_blas_limit(threads: int) -> Callable[[], AbstractContextManager[Any]]:
    """A function that gives a context in which BLAS takes `threads` threads.

    Looking for the BLAS libraries takes milliseconds, entering the context does not: make it once,
    after NumPy is imported. Without threadpoolctl (scikit-learn brings it) the context does
    nothing: set OPENBLAS_NUM_THREADS, or MKL_NUM_THREADS, before Python starts.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return nullcontext
    controller = ThreadpoolController()
    return lambda: controller.limit(limits=threads, user_api="blas")
