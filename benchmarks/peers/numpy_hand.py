"""NumPy: forward and backward by hand, one thread."""

import numpy as np

from benchmarks.peers.common import kernels, make_blas_limit, slices, torch_names
from benchmarks.task import Contestant, Prepared, Task, Trained

CLAMP = np.float32(-100)  # torch's BCELoss: no logarithm less than this


class Net:
    """The net's weights, and the arrays that a step writes into: a step allocates next to none."""

    def __init__(self, task: Task):
        (self.w1, self.b1), (self.w2, self.b2) = kernels(task.params)
        self.lr = np.float32(task.lr)
        self.gradient = np.empty_like(self.w1)
        self.hidden = np.empty((task.batch_size, len(self.b1)), np.float32)
        self.delta = np.empty_like(self.hidden)

    def step(self, x: np.ndarray, y: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Train on one batch; returns the probabilities from before the update."""
        hidden, delta = self.hidden[: len(x)], self.delta[: len(x)]
        np.dot(x, self.w1, out=hidden)  # (B, 32)
        hidden += self.b1
        if mask is not None:
            hidden *= mask
        np.maximum(hidden, 0, out=hidden)
        probs = np.dot(hidden, self.w2)  # (B, 1)
        probs += self.b2
        np.negative(probs, out=probs)
        np.exp(probs, out=probs)
        probs += 1
        np.reciprocal(probs, out=probs)

        # BCE's gradient after a sigmoid, times lr: every product below is then an update.
        error = probs - y
        error *= self.lr / np.float32(len(x))
        np.dot(error, self.w2.T, out=delta)
        delta *= hidden > 0
        if mask is not None:
            delta *= mask
        self.w2 -= np.dot(hidden.T, error)
        self.b2 -= error.sum(0)
        np.dot(x.T, delta, out=self.gradient)
        self.w1 -= self.gradient
        self.b1 -= delta.sum(0)
        return probs


def cross_entropy(probs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each row, as torch's BCELoss before its mean."""
    with np.errstate(divide="ignore"):
        log_p, log_q = np.maximum(np.log(probs), CLAMP), np.maximum(np.log1p(-probs), CLAMP)
    return -(y * log_p + (1 - y) * log_q)


def train_epoch(net: Net, task: Task, rng: np.random.Generator) -> np.ndarray:
    """Each batch's loss. Masks and losses are computed for the epoch at once: a call on a batch's
    few numbers is nearly all overhead.
    """
    masks = None
    if task.p:
        kept = rng.random((len(task.x), len(net.b1)), np.float32) >= task.p
        masks = kept * np.float32(1 / (1 - task.p))
    probs = np.empty_like(task.y)
    for rows in slices(task):
        probs[rows] = net.step(task.x[rows], task.y[rows], None if masks is None else masks[rows])
    losses = cross_entropy(probs, task.y)
    return np.array([losses[rows].mean() for rows in slices(task)])


def prepare_numpy(task: Task) -> Prepared:
    """In-place updates; BLAS on one thread."""
    one_thread = make_blas_limit(1)

    def train():
        net, rng = Net(task), np.random.default_rng(task.seed)
        with one_thread():
            losses = [train_epoch(net, task, rng) for _ in range(task.epochs)]
        return net, np.concatenate(losses)

    def read(trained):
        net, losses = trained
        return Trained(torch_names([(net.w1, net.b1), (net.w2, net.b2)]), losses)

    return train, read


NUMPY = Contestant("NumPy, backward by hand", "fast", prepare_numpy)
