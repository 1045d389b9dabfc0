"""How the cost of training grows: jaxnet beside torch, one size varied at a time."""

import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import jaxnet
from benchmarks.peers.common import ALL_THREADS
from benchmarks.peers.torch_eager import on_threads
from benchmarks.scaling import Net, build
from benchmarks.timing import interleave, median_ratio
from jaxnet.convert import to_state_dict

LR, P, SEED = 1e-3, 0.5, 1
# One seed, and sums of thousands of terms in other orders over hundreds of steps: measured up to
# 5e-6 of the mean loss, and 2e-4 of what training changed in the weights.
SAME_LOSS, SAME_CHANGE = 5e-5, 2e-3


class Setting(NamedTuple):
    """A net 784-width-...-1 with `depth` hidden layers, as in the lecture, and its training."""

    rows: int = 12_665
    batch_size: int = 128
    width: int = 32
    depth: int = 1
    epochs: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Of its layers."""
        return (784, *[self.width] * self.depth, 1)


SWEEPS: dict[str, list[Setting]] = {
    "batch_size": [Setting(batch_size=size) for size in (1, 4, 16, 64, 256, 1024, 4096, 12_665)],
    "width": [Setting(rows=2048, width=width) for width in (8, 32, 128, 512, 2048, 4096)],
    "depth": [Setting(depth=depth) for depth in (1, 2, 4, 8)],
    "epochs": [Setting(epochs=epochs) for epochs in (1, 2, 4, 8, 16)],
    "rows": [Setting(rows=rows) for rows in (512, 2048, 8192, 32_768)],
}
QUICK = {"batch_size": (16, 1024), "width": (32, 512)}


def compare_growth(
    x: np.ndarray, y: np.ndarray, rounds: int, *, quick: bool = False
) -> list[dict[str, Any]]:
    """A row for each size of each sweep: seconds of training on both sides, and how far apart.

    A setting that two sweeps share is measured once. Slopes are of the logarithms, from the size
    before.
    """
    rows = []
    compare = functools.cache(lambda setting: compare_setting(setting, x, y, rounds))
    for sweep, settings in SWEEPS.items():
        before: dict[str, Any] = {}
        for setting in settings:
            size = getattr(setting, sweep)
            if quick and size not in QUICK.get(sweep, ()):
                continue
            row = {"sweep": sweep, "size": size, **compare(setting)}
            for side in ("torch", "jaxnet") if before else ():
                now, then = (statistics.median(r[f"seconds_{side}"]) for r in (row, before))
                row[f"slope_{side}"] = math.log(now / then) / math.log(size / before["size"])
            rows.append(before := row)
    return rows


def compare_setting(setting: Setting, x: np.ndarray, y: np.ndarray, rounds: int) -> dict[str, Any]:
    """Both sides in turn from one seed: weights, masks and batches are the same.

    torch runs on one thread or on all of them, whichever was faster the first time.
    """
    picked = np.resize(np.arange(len(x)), setting.rows)
    x, y = np.ascontiguousarray(x[picked]), np.ascontiguousarray(y[picked])
    tries = {
        threads: on_threads(threads, lambda: train_torch(setting, x, y))
        for threads in {1, ALL_THREADS}
    }
    first = {threads: train() for threads, train in tries.items()}
    threads = min(first, key=lambda count: first[count].seconds)
    torch_run, train_jax = first[threads], make_jax(setting, x, y)
    jax_run = train_jax()
    sides = {"torch": lambda: tries[threads]().seconds, "jaxnet": lambda: train_jax().seconds}
    seconds = interleave(sides, rounds, warm=True)
    loss_gap = np.abs(jax_run.losses - torch_run.losses).max() / torch_run.losses.mean()
    change_gap = find_change_gap(jax_run, torch_run)
    return {
        **setting._asdict(),
        "agree": bool(loss_gap <= SAME_LOSS and change_gap <= SAME_CHANGE),
        "loss_gap": float(loss_gap),
        "change_gap": change_gap,
        "threads": threads,
        "seconds_torch": seconds["torch"],
        "seconds_jaxnet": seconds["jaxnet"],
        "ratio": median_ratio(seconds["jaxnet"], seconds["torch"]),
    }


class Run(NamedTuple):
    """What a training left: losses, weights before and after under torch's names, and seconds."""

    losses: np.ndarray
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    seconds: float


def find_change_gap(run: Run, reference: Run) -> float:
    """The largest difference between weights, as a share of what training changed in their tensor.

    A net's loss after one step is not among its losses: this is what its gradient did.
    """
    return max(
        float(np.abs(run.after[name] - after).max() / np.abs(after - reference.before[name]).max())
        for name, after in reference.after.items()
    )


def train_torch(setting: Setting, x: np.ndarray, y: np.ndarray) -> Run:
    """Tensors sliced by hand, which beats a DataLoader."""
    X, Y = torch.tensor(x), torch.tensor(y)
    torch.manual_seed(SEED)
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(setting.widths[:-1]):
        layers += [torch.nn.Linear(before, after), torch.nn.Dropout(P), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(setting.width, 1), torch.nn.Sigmoid())
    weights = _read_torch(net)
    loss_fn = torch.nn.BCELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    losses = []
    begin = time.perf_counter()
    for _ in range(setting.epochs):
        torch.empty((), dtype=torch.int64).random_()  # as a DataLoader draws for each epoch
        for xi, yi in zip(X.split(setting.batch_size), Y.split(setting.batch_size), strict=True):
            loss = loss_fn(net(xi), yi)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
    seconds = time.perf_counter() - begin
    return Run(np.array([loss.item() for loss in losses]), weights, _read_torch(net), seconds)


def _read_torch(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def make_jax(setting: Setting, x: np.ndarray, y: np.ndarray) -> Callable[[], Run]:
    """The run as `jaxnet.fit` compiles it, once for all calls."""
    net, loss = build(Net("", setting.widths, P))
    options: dict[str, Any] = {"loss": loss, "seed": SEED}
    options |= {"epochs": setting.epochs, "batch_size": setting.batch_size}
    options["optimizer"] = jaxnet.optim.sgd(LR)
    before = to_state_dict(jaxnet.init(net, jaxnet.random.manual_seed(SEED))[1])

    def train():
        state, history = jaxnet.fit(net, (x, y), **options)
        after = to_state_dict({"params": state.params})
        return Run(history.losses, before, after, history.run_seconds)

    return train
