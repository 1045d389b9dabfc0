"""Runs in a process of their own: `python -m tests.child NAME ...`.

- `alone FOLDER RESULT EPOCHS`: a run to be killed. It goes on from what the folder has, says each
  epoch that it trains, and writes at its end all that it is.
- `run FOLDER RESULT EPOCHS [COORDINATOR COUNT NUMBER]`: one process of such a run of many, which
  find each other where they are not told. FAIL_AT=K makes process K alone fail, PACE=S takes S
  seconds an epoch.
- `spread COUNT FILE FOLDER COORDINATOR NUMBER`: the runs of `tests.spread`, one process of so many.
- `limited ROWS MIB`, `mapped ROWS ...`: what rows that are read take of memory, as JSON. The parent
  sets what JAX reads as it starts.
"""

import json
import os
import resource
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import grain
import jax
import jaxnet.runs
import numpy as np

from jaxnet import hosts, nn, optim, rows
from jaxnet.checkpoint._contents import pack
from jaxnet.checkpoint.folder import Checkpoints
from jaxnet.train.state import History, TrainState

ADVICE = "start all of them again"


def train(folder: str | None, epochs: int, mesh=None, hooks=()) -> tuple[TrainState, History]:
    """A run with all that a state can hold, whose batches divide by 2 and by 3, some unevenly."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    net = nn.Sequential(
        [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)]
    )
    if folder is not None:
        jaxnet.runs.Checkpoints = partial(Checkpoints, seconds=0)
    try:
        return jaxnet.runs.fit(
            net,
            (x, y),
            loss=jaxnet.losses.binary_cross_entropy_with_logits,
            optimizer=jaxnet.optim.adam(1e-2),
            epochs=epochs,
            batch_size=12,
            shuffle=True,
            seed=3,
            report_every=1,
            report_loader=True,
            metrics={"accuracy": jaxnet.metrics.logit_is_right},
            hooks=hooks,
            checkpoint=folder,
            resume=folder is not None,
            mesh=mesh,
        )
    finally:
        jaxnet.runs.Checkpoints = Checkpoints


def as_arrays(state: TrainState, history: History) -> dict[str, np.ndarray]:
    """All that a run is."""
    arrays, record = pack(state, history, {})
    return arrays | {"accuracy": np.array([r[2]["accuracy"] for r in record["reports"]])}


def watch(chunk) -> None:
    """Say that the run goes on, and fail where that is asked for."""
    if hosts.is_first():
        print("trains", chunk.epoch, flush=True)
    time.sleep(float(os.environ.get("PACE", "0")))
    if os.environ.get("FAIL_AT") == str(jax.process_index()):
        raise ZeroDivisionError("mine alone")


def run(folder: str, result: str, epochs: str, *place: str) -> None:
    """Train, alone or with the others."""
    coordinator, count, number = place or (None, None, None)
    numbers = (int(count), int(number)) if count and number else (None, None)
    with hosts.connect(coordinator, *numbers, advice=ADVICE):
        mesh = jax.make_mesh((len(jax.devices()),), ("data",))
        arrays = as_arrays(*train(folder, int(epochs), mesh, [watch]))
        if hosts.is_first():
            np.savez(result, allow_pickle=False, **arrays)


def alone(folder: str, result: str, epochs: str) -> None:
    """The same in one process, on one device."""
    np.savez(result, allow_pickle=False, **as_arrays(*train(folder, int(epochs), hooks=[watch])))


def spread(count: str, file: str, folder: str, coordinator: str, number: str) -> None:
    """Every run of `tests.spread`, with the others."""
    from tests.spread import run_together

    run_together(int(count), Path(file), Path(folder), coordinator, int(number))


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
    names = ("VmSize", "VmPeak", "VmHWM", "RssAnon", "RssFile")
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
        train_wide((x[:64], y[:64]), width)
        taken = []

        def watch(self, indices):
            taken.append(read_status()["RssAnon"])
            return take(self, indices)

        rows.Rows.take = watch
        begin = read_status()["RssAnon"]
        train_wide((x, y), width, epochs=2)
        rows.Rows.take = take
    return {"most": max(taken) - begin, "blocks": len(taken)}


def main(name: str, *rest: str) -> None:
    if name in ("limited", "mapped"):
        measure = {"limited": run_limited, "mapped": run_mapped}[name]
        print(json.dumps(measure(*map(int, rest))))
    else:
        {"alone": alone, "run": run, "spread": spread}[name](*rest)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except hosts.PeerLost as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(hosts.LOST)
