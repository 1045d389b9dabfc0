"""torch as it comes: the lecture's own loop, and the same steps with the overhead taken off."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.common import ALL_THREADS, need, slices
from benchmarks.task import Contestant, Params, Prepared, Task, Trained


def on_threads(threads: int, train: Callable[[], Any]) -> Callable[[], Any]:
    """The same with torch on so many threads, and as it was afterwards."""

    def train_so():
        torch = need("torch")
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return train()
        finally:
            torch.set_num_threads(before)

    return train_so


def copy_params(params: Params) -> dict[str, Any]:
    """Tensors of their own: training updates them in place."""
    torch = need("torch")
    return {name: torch.tensor(value) for name, value in params.items()}


def build(task: Task) -> Any:
    """The lecture's net. Building it draws from torch's stream as in the lecture."""
    torch = need("torch")
    torch.manual_seed(task.seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.Dropout(task.p),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
        torch.nn.Sigmoid(),
    )
    net.load_state_dict(copy_params(task.params))
    return net


def read_net(trained: tuple[Any, list[Any]]) -> Trained:
    """Of a module and its losses."""
    net, losses = trained
    params = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
    return Trained(params, np.array([loss.item() for loss in losses]))


def prepare_lecture(task: Task) -> Prepared:
    """The lecture's `minibatch`, statement by statement, without its reports."""
    torch = need("torch")
    X, y = torch.tensor(task.x), torch.tensor(task.y)

    def train():
        net = build(task)
        loss_fn = torch.nn.BCELoss()
        optimizr = torch.optim.SGD(net.parameters(), lr=task.lr)
        ds = torch.utils.data.TensorDataset(X, y)
        dl = torch.utils.data.DataLoader(ds, batch_size=task.batch_size)
        losses = []
        for _ in range(task.epochs):
            net.train()
            for xi, yi in dl:
                yhat = net(xi)
                loss = loss_fn(yhat, yi)
                loss.backward()
                optimizr.step()
                optimizr.zero_grad()
                losses.append(loss.detach())
        return net, losses

    return on_threads(ALL_THREADS, train), read_net


def prepare_sliced(task: Task) -> Prepared:
    """Tensors sliced by hand, one thread, a fused optimizer."""
    torch = need("torch")
    X, y = torch.tensor(task.x), torch.tensor(task.y)
    # Made once: making a slice costs a microsecond or two.
    batches = [(X[rows], y[rows]) for rows in slices(task)]

    def train():
        net = build(task)
        loss_fn = torch.nn.BCELoss()
        optimizer = torch.optim.SGD(net.parameters(), lr=task.lr, fused=True)
        losses = []
        net.train()
        for _ in range(task.epochs):
            # What a DataLoader draws as it starts an epoch: the masks are then the lecture's.
            torch.empty((), dtype=torch.int64).random_()
            for xi, yi in batches:
                loss = loss_fn(net(xi), yi)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
        return net, losses

    return on_threads(1, train), read_net


LECTURE = Contestant("torch, DataLoader", "lecture", prepare_lecture, ALL_THREADS, "torch")
SLICED = Contestant("torch, sliced by hand", "fast", prepare_sliced, 1, "torch")
