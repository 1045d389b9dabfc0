"""Runs that need a process of their own, for `test_streaming`: `python -m tests.streamed NAME ...`.

Each prints what it found as JSON. The parent sets what JAX reads as it starts.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

import grain
import jax
import numpy as np

import jaxnet
from jaxnet import losses, metrics, nn, optim, rows

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


def train(data, width: int, epochs: int = 1):
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
    names = ("VmSize", "VmPeak", "VmHWM", "RssAnon", "RssFile")
    return {name: int(fields[name].split()[0]) * 1024 for name in names}


def run_limited(count: int, spare: int) -> dict:
    """An epoch under a limit of the address space: what it took before, and so many MiB."""
    jax.config.update("jax_compilation_cache_dir", None)
    train(grain.MapDataset.source(Generated(9)), WIDE)  # starts JAX's threads
    limit = read_status()["VmSize"] + spare * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    state, history = train(grain.MapDataset.source(Generated(count)), WIDE)
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


def run_mapped(*counts: int) -> list[dict]:
    """For each count of rows, two epochs of a file of so many: the most memory on the way."""
    return [_train_mapped(count) for count in counts]


def _train_mapped(count: int) -> dict:
    """Rows of 16 KiB; the memory is the process's own, without pages of files."""
    width, take = 4096, rows.Rows.take
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(count * width * 4)
        x = np.memmap(file.name, np.float32, "r", shape=(count, width))
        y = np.zeros((count, 1), np.float32)
        train((x[:64], y[:64]), width)
        taken = []

        def watch(self, indices):
            taken.append(read_status()["RssAnon"])
            return take(self, indices)

        rows.Rows.take = watch
        begin = read_status()["RssAnon"]
        train((x, y), width, epochs=2)
        rows.Rows.take = take
    return {"most": max(taken) - begin, "blocks": len(taken)}


def run_mesh() -> dict:
    """One run on one device, and the same streamed on a mesh of all: what differs, what is read."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(46, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    rows.BLOCK = 28 * 16  # two steps of eight rows
    read: list[int] = []

    class Source:
        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            read.append(index)
            return x[index], y[index]

    net = nn.Sequential([nn.Linear(6, 8), nn.Dropout(0.4), nn.ReLU(), nn.Linear(8, 1)])
    options = {
        "loss": losses.binary_cross_entropy_with_logits,
        "optimizer": optim.adam(0.01),
        "batch_size": 8,
        "shuffle": True,
        "seed": 1,
    }
    looks = {"report_every": 1, "metrics": {"accuracy": metrics.logit_is_right}}
    mesh = jax.make_mesh((4,), ("data",))
    data = grain.MapDataset.source(Source())
    alone, expected = jaxnet.fit(net, (x, y), epochs=2, **options, **looks)
    state, found = jaxnet.fit(net, data, epochs=2, mesh=mesh, **options, **looks)
    read.clear()
    jaxnet.fit(net, data, epochs=1, mesh=mesh, **options)
    return {
        "devices": len(jax.tree.leaves(state.params)[0].devices()),
        "gap": float(np.abs(found.losses / expected.losses - 1).max()),
        "accuracies": [
            [report.metrics["accuracy"] for report in history.reports]
            for history in (expected, found)
        ],
        "same_generator": all(
            np.array_equal(one, other)
            for one, other in zip(
                jax.tree.leaves(alone.generator), jax.tree.leaves(state.generator), strict=True
            )
        ),
        "read": sorted(read),
    }


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    made = {"limited": run_limited, "mapped": run_mapped, "mesh": run_mesh}
    print(json.dumps(made[name](*map(int, numbers))))
