"""scikit-learn's MLPClassifier: `partial_fit` in a Python loop, and `fit`. It has no dropout."""

import warnings
from typing import Any

import numpy as np

from benchmarks.peers.common import batches, kernels, make_blas_limit, need, torch_names
from benchmarks.task import Contestant, Prepared, Task, Trained

CLASSES = np.arange(2)


def build(task: Task, **how: Any) -> Any:
    """A classifier that trains as the task says, with the task's weights.

    The public way to choose these is to set them on one that has been fitted once, on two rows.
    """
    network = need("sklearn.neural_network")
    net = network.MLPClassifier(
        hidden_layer_sizes=(32,),
        activation="relu",
        solver="sgd",
        alpha=0,
        learning_rate="constant",
        learning_rate_init=task.lr,
        momentum=0,
        nesterovs_momentum=False,
        **how,
    )
    net.partial_fit(task.x[:2], CLASSES, classes=CLASSES)
    layers = kernels(task.params)
    net.coefs_ = [kernel for kernel, _ in layers]
    net.intercepts_ = [bias for _, bias in layers]
    return net


def read_net(net: Any) -> Trained:
    """scikit-learn keeps an epoch's mean loss, not a step's."""
    return Trained(torch_names(zip(net.coefs_, net.intercepts_, strict=True)))


def prepare_loop(task: Task) -> Prepared:
    """`partial_fit` for each batch, on one thread: more make BLAS slower on products this small."""
    need("sklearn.neural_network")
    one_thread = make_blas_limit(1)

    def train():
        with one_thread():
            net = build(task, batch_size="auto")  # each call is one batch, the last a shorter one
            for x, y in batches(task):
                net.partial_fit(x, y.ravel())
        return net

    return train, read_net


def prepare_fit(task: Task) -> Prepared:
    """`fit`, on one thread as well; two epochs do not converge, and it would warn of that."""
    need("sklearn.neural_network")
    one_thread = make_blas_limit(1)
    labels = task.y.ravel()

    def train():
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", need("sklearn.exceptions").ConvergenceWarning)
            net = build(task, warm_start=True, shuffle=False, max_iter=task.epochs)
            # Only now: for the two rows of `build` it would warn that a batch has more.
            net.set_params(batch_size=task.batch_size)
            return net.fit(task.x, labels)

    return train, read_net


LOOP = Contestant("scikit-learn, partial_fit", "lecture", prepare_loop, stream="none")
FIT = Contestant("scikit-learn, fit", "fast", prepare_fit, stream="none")
