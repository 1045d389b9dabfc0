"""Runs in a process of their own: `python -m tests.child NAME ...`.

- `alone FOLDER RESULT EPOCHS`: a run to be killed. It goes on from what the folder has, says each
  epoch that it trains, and writes at its end all that it is.
- `limited ROWS MIB`: what rows that are read take of memory, as JSON.
"""

import json
import resource
import sys
import threading
from pathlib import Path

import grain
import jax
import numpy as np

import jaxnet
from jaxnet import nn, optim
from jaxnet.callbacks import Checkpoint, Report
from jaxnet.checkpoint._contents import pack


def run_alone(folder: str, result: str, epochs: str) -> None:
    """A run with all that a state can hold, whose batches are uneven; saved after every epoch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    net = nn.Sequential(
        [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)]
    )
    report = Report(metrics={"accuracy": jaxnet.metrics.logit_is_right}, loader=True)
    save = Checkpoint(folder, resume=True, seconds=0)
    state, history = jaxnet.fit(
        net,
        (x, y),
        loss=jaxnet.losses.binary_cross_entropy_with_logits,
        optimizer=optim.adam(1e-2),
        epochs=int(epochs),
        batch_size=12,
        shuffle=True,
        seed=3,
        callbacks=[lambda chunk: print("trains", chunk.epoch, flush=True), report, save],
    )
    arrays, record = pack(state, history, {})
    accuracy = np.array([report[2]["accuracy"] for report in record["reports"]])
    np.savez(result, allow_pickle=False, accuracy=accuracy, **arrays)


MIB = 2**20
WIDE = MIB // 4
"""Numbers of float32 in a row of one MiB."""
SEED, LR = 3, 0.0


def encode(index: np.ndarray | int) -> np.ndarray:
    """A number for each row, from 0 to 1, that tells it from the others."""
    return np.modf(np.asarray(index) * 0.6180339887498949)[0].astype(np.float32)


class Generated:
    """Rows of one MiB that are made when they are asked for; each holds its own number."""

    def __init__(self, count: int, width: int = WIDE):
        self._count, self._width = count, width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self._width, encode(index), np.float32), encode(index)[None]


def train_wide(data, width: int, epochs: int = 1):
    """A Linear whose weights stay: each loss tells which rows its batch was made of."""
    net = nn.Sequential([nn.Linear(width, 1)])
    options = {"optimizer": optim.sgd(LR), "epochs": epochs, "seed": SEED}
    return jaxnet.fit(
        net,
        data,
        loss=lambda outputs, y: outputs.mean() + y.mean(),
        batch_size=4,
        shuffle=True,
        **options,
    )


def read_status() -> dict[str, int]:
    """Bytes: Linux's own figures of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = ("VmSize", "VmPeak")
    return {name: int(fields[name].split()[0]) * 1024 for name in names}


def run_limited(count: int, spare: int) -> dict:
    """An epoch under a limit of the address space: what it took before, and so many MiB."""
    jax.config.update("jax_compilation_cache_dir", None)
    # Rows are measured: on a busy machine the stacks of threads that end are still there when the
    # next ones begin, 8 MiB each.
    threading.stack_size(MIB)
    train_wide(grain.MapDataset.source(Generated(9)), WIDE)  # starts JAX's threads
    limit = read_status()["VmSize"] + spare * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    state, history = train_wide(grain.MapDataset.source(Generated(count)), WIDE)
    weights = state.params["0"]
    total = float(np.asarray(weights["weight"], np.float64).sum())
    return {
        "limit": limit,
        "losses": history.losses.tolist(),
        "total": total,
        "bias": float(weights["bias"][0]),
        "seconds": history.run_seconds,
        **read_status(),
    }


def main(name: str, *rest: str) -> None:
    if name == "alone":
        run_alone(*rest)
    else:
        print(json.dumps(run_limited(*map(int, rest))))


if __name__ == "__main__":
    main(*sys.argv[1:])
