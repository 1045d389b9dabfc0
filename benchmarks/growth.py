"""How the cost of training grows: jaxnet beside torch, one size varied at a time."""

import time
from typing import Any, NamedTuple

import numpy as np
import torch

import jaxnet
from benchmarks.timing import interleave, median_ratio
from jaxnet import nn

LR, P, SEED = 1e-3, 0.5, 1
# Losses of one seed: sums of thousands of terms in other orders, over hundreds of steps.
SAME_LOSS = 1e-4


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
    """A row for each size of each sweep: seconds of training on both sides, and the loss gap."""
    rows = []
    for sweep, settings in SWEEPS.items():
        for setting in settings:
            size = getattr(setting, sweep)
            if not quick or size in QUICK.get(sweep, ()):
                rows.append(
                    {"sweep": sweep, "size": size, **compare_setting(setting, x, y, rounds)}
                )
    return rows


def compare_setting(setting: Setting, x: np.ndarray, y: np.ndarray, rounds: int) -> dict[str, Any]:
    """Both sides in turn from one seed: weights, masks and batches are the same."""
    picked = np.resize(np.arange(len(x)), setting.rows)
    x, y = np.ascontiguousarray(x[picked]), np.ascontiguousarray(y[picked])
    train_jax = _make_jax(setting, x, y)
    sides = {"torch": lambda: _train_torch(setting, x, y), "jaxnet": train_jax}
    first = {side: train() for side, train in sides.items()}
    losses = {side: np.asarray(losses) for side, (losses, _) in first.items()}
    timed = {side: lambda train=train: train()[1] for side, train in sides.items()}
    seconds = interleave(timed, rounds, warm=True)
    gap = _find_gap(losses["jaxnet"], losses["torch"])
    return {
        **setting._asdict(),
        "agree": gap <= SAME_LOSS,
        "loss_gap": gap,
        "seconds_torch": seconds["torch"],
        "seconds_jaxnet": seconds["jaxnet"],
        "ratio": median_ratio(seconds["jaxnet"], seconds["torch"]),
    }


def _find_gap(losses_jax: np.ndarray, losses_torch: np.ndarray) -> float:
    """The largest difference as a share of the mean loss: the loss of a single row may be 0."""
    return float(np.abs(losses_jax - losses_torch).max() / losses_torch.mean())


def _train_torch(setting: Setting, x: np.ndarray, y: np.ndarray) -> tuple[list[float], float]:
    """Losses, and seconds of the loop: tensors sliced by hand, which beats a DataLoader."""
    X, Y = torch.tensor(x), torch.tensor(y)
    torch.manual_seed(SEED)
    layers: list[torch.nn.Module] = []
    for inputs in _list_inputs(setting):
        layers += [torch.nn.Linear(inputs, setting.width), torch.nn.Dropout(P), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(setting.width, 1), torch.nn.Sigmoid())
    loss_fn = torch.nn.BCELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    losses = []
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
    return [loss.item() for loss in losses], seconds


def _make_jax(setting: Setting, x: np.ndarray, y: np.ndarray) -> Any:
    """Losses, and seconds of the compiled run."""
    layers: list[Any] = []
    for inputs in _list_inputs(setting):
        layers += [nn.Linear(inputs, setting.width), nn.Dropout(P), nn.ReLU()]
    net = nn.Sequential([*layers, nn.Linear(setting.width, 1), nn.Sigmoid()])
    optimizer = jaxnet.optim.sgd(LR)
    loss = jaxnet.losses.binary_cross_entropy

    def train():
        _, history = jaxnet.fit(
            net,
            (x, y),
            loss=loss,
            optimizer=optimizer,
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            seed=SEED,
        )
        return history.losses, history.run_seconds

    return train


def _list_inputs(setting: Setting) -> list[int]:
    return [784] + [setting.width] * (setting.depth - 1)
