"""What several peers share: batches, weights in JAX's layout, and naming what is not installed."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.task import Missing, Params, Prepared, Task, Trained

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


Start = Callable[[Task], tuple[Any, Callable, Callable[[Any], Trained]]]
"""What is carried, `step(carry, (x, y)) -> (carry, loss)`, and what reads `(carry, losses)`."""


def loop(start: Start, jit: Callable[[], Any] = lambda: need("jax").jit) -> Any:
    """`prepare` of a jitted step that is called for each batch of NumPy rows."""

    def prepare(task: Task) -> Prepared:
        initial, step, read = start(task)
        jitted = jit()(step)

        def train():
            carry, losses = initial, []
            for batch in batches(task):
                carry, loss = jitted(carry, batch)
                losses.append(loss)
            return need("jax").block_until_ready((carry, losses))

        return train, read

    return prepare


def scan(start: Start) -> Any:
    """`prepare` of a whole run as one program."""

    def prepare(task: Task) -> Prepared:
        jax = need("jax")
        initial, step, read = start(task)
        xy = jax.device_put((task.x, task.y))
        run = jax.jit(lambda carry, xy: scan_epochs(step, carry, xy, task))
        return lambda: jax.block_until_ready(run(initial, xy)), read

    return prepare


def scan_epochs(step: Callable, carry: Any, xy: Any, task: Task) -> tuple[Any, Any]:
    """Scan `step` over every batch of every epoch: the last carry, and the losses in order.

    `lax.scan` wants batches of one shape, so an epoch's last, shorter batch is a step of its own.
    """
    import jax
    import jax.numpy as jnp

    count, size = divmod(len(xy[0]), task.batch_size)[0], task.batch_size
    full = tuple(a[: count * size].reshape(count, size, *a.shape[1:]) for a in xy)
    rest = tuple(array[count * size :] for array in xy)

    def epoch(carry, _):
        carry, losses = jax.lax.scan(step, carry, full)
        if len(rest[0]):
            carry, last = step(carry, rest)
            losses = jnp.append(losses, last)
        return carry, losses

    carry, losses = jax.lax.scan(epoch, carry, length=task.epochs)
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

    Looking for the BLAS libraries takes milliseconds: it is done once. Without threadpoolctl, which
    scikit-learn brings, the context does nothing.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return nullcontext
    controller = ThreadpoolController()
    return lambda: controller.limit(limits=threads, user_api="blas")
