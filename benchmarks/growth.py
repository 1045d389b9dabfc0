"""How the cost of training grows: jaxnet beside torch, one size varied at a time."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import jaxnet
from benchmarks.peers.common import ALL_THREADS
from benchmarks.peers.torch_eager import torch_threads
from benchmarks.timing import interleave, median_ratio
from jaxnet import nn
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

    A setting that two sweeps share is measured once.
    """
    rows = []
    measured: dict[Setting, dict[str, Any]] = {}
    for sweep, settings in SWEEPS.items():
        for setting in settings:
            size = getattr(setting, sweep)
            if quick and size not in QUICK.get(sweep, ()):
                continue
            if setting not in measured:
                measured[setting] = compare_setting(setting, x, y, rounds)
            rows.append({"sweep": sweep, "size": size, **measured[setting]})
    return rows


def compare_setting(setting: Setting, x: np.ndarray, y: np.ndarray, rounds: int) -> dict[str, Any]:
    """Both sides in turn from one seed: weights, masks and batches are the same.

    torch runs on one thread or on all of them, whichever was faster the first time.
    """
    picked = np.resize(np.arange(len(x)), setting.rows)
    x, y = np.ascontiguousarray(x[picked]), np.ascontiguousarray(y[picked])
    tries = {threads: _train_torch(setting, x, y, threads) for threads in {1, ALL_THREADS}}
    threads = min(tries, key=lambda count: tries[count].seconds)
    torch_run = tries[threads]
    train_jax = _make_jax(setting, x, y)
    jax_run = train_jax()
    sides = {
        "torch": lambda: _train_torch(setting, x, y, threads).seconds,
        "jaxnet": lambda: train_jax().seconds,
    }
    seconds = interleave(sides, rounds, warm=True)
    gaps = {
        "loss_gap": float(
            np.abs(jax_run.losses - torch_run.losses).max() / torch_run.losses.mean()
        ),
        "change_gap": find_change_gap(jax_run, torch_run),
    }
    return {
        **setting._asdict(),
        "agree": gaps["loss_gap"] <= SAME_LOSS and gaps["change_gap"] <= SAME_CHANGE,
        **gaps,
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


def _train_torch(setting: Setting, x: np.ndarray, y: np.ndarray, threads: int) -> Run:
    """Tensors sliced by hand, which beats a DataLoader."""
    X, Y = torch.tensor(x), torch.tensor(y)
    torch.manual_seed(SEED)
    layers: list[torch.nn.Module] = []
    for inputs in _list_inputs(setting):
        layers += [torch.nn.Linear(inputs, setting.width), torch.nn.Dropout(P), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(setting.width, 1), torch.nn.Sigmoid())
    before = _read_torch(net)
    loss_fn = torch.nn.BCELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    losses = []
    with torch_threads(threads):
        begin = time.perf_counter()
        for _ in range(setting.epochs):
            torch.empty((), dtype=torch.int64).random_()  # as a DataLoader draws for each epoch
            for start in range(0, len(X), setting.batch_size):
                rows = slice(start, start + setting.batch_size)
                loss = loss_fn(net(X[rows]), Y[rows])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.detach())
        seconds = time.perf_counter() - begin
    return Run(np.array([loss.item() for loss in losses]), before, _read_torch(net), seconds)


def _read_torch(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def _make_jax(setting: Setting, x: np.ndarray, y: np.ndarray) -> Callable[[], Run]:
    """The run as `jaxnet.fit` compiles it, once for all calls."""
    layers: list[Any] = []
    for inputs in _list_inputs(setting):
        layers += [nn.Linear(inputs, setting.width), nn.Dropout(P), nn.ReLU()]
    net = nn.Sequential([*layers, nn.Linear(setting.width, 1), nn.Sigmoid()])
    optimizer = jaxnet.optim.sgd(LR)
    _, variables = jaxnet.init(net, jaxnet.random.manual_seed(SEED))
    before = to_state_dict(variables)

    def train():
        state, history = jaxnet.fit(
            net,
            (x, y),
            loss=jaxnet.losses.binary_cross_entropy,
            optimizer=optimizer,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            seed=SEED,
        )
        return Run(
            history.losses, before, to_state_dict({"params": state.params}), history.run_seconds
        )

    return train


def _list_inputs(setting: Setting) -> list[int]:
    return [784] + [setting.width] * (setting.depth - 1)
