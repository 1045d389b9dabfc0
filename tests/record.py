"""Writes down what the library computes, to be compared after a change: `python -m tests.record`.

`python -m tests.record write FILE` runs every experiment, a sweep, a run that is resumed, one over
memory-mapped rows and one on four virtual devices, and writes losses, last weights and random
states. `python -m tests.record compare BEFORE AFTER` prints a row for each: whether integers and
streams are equal, whether floats are, and if not by how much.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax
import numpy as np

import jaxnet
from jaxnet import callbacks, lecture, nn

Arrays = dict[str, np.ndarray]


def flatten(tree: Any) -> Arrays:
    """A tree's arrays by their paths; random keys and generators as their words."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def of_run(state: Any, history: Any) -> Arrays:
    """What a run is: its losses, reports and state."""
    reports = [[r.epoch, r.loss, *r.metrics.values()] for r in history.reports]
    return flatten(state._asdict()) | {
        "losses": history.losses,
        "reports": np.array(reports, np.float64),
    }


def make_rows() -> tuple[np.ndarray, np.ndarray]:
    """Eighty rows that a line divides."""
    x = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    return x, (x[:, :1] > 0).astype(np.float32)


def make_task() -> dict[str, Any]:
    """A net with all that a state can hold, and how it is trained."""
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)]
    return {
        "net": nn.Sequential(layers),
        "loss": jaxnet.losses.binary_cross_entropy_with_logits,
        "optimizer": jaxnet.optim.adam(1e-2),
        "epochs": 6,
        "batch_size": 12,
        "shuffle": True,
    }


def run_experiment(name: str) -> Arrays:
    """An experiment of the lecture, whole."""
    result = lecture.run(lecture.EXPERIMENTS[name])
    return of_run(result.state, result.history)


def run_sweep() -> Arrays:
    """Three seeds times two rates."""
    x, y = make_rows()
    task = make_task() | {"optimizer": jaxnet.optim.adam, "data": (x, y)}
    net = task.pop("net")
    sweep = jaxnet.run_sweep(
        net, task.pop("data"), seeds=range(3), grid={"lr": [1e-2, 1e-3]}, **task
    )
    return flatten({"losses": sweep.losses, "table": [list(row.values()) for row in sweep.table]})


def run_resumed() -> Arrays:
    """A run that is stopped after three epochs and resumed."""
    task, folder = make_task(), tempfile.mkdtemp()
    net, epochs = task.pop("net"), task.pop("epochs")
    for end in (3, epochs):
        report = callbacks.Report(1, {"accuracy": jaxnet.metrics.logit_is_right})
        saved = callbacks.Checkpoint(folder, resume=end > 3)
        found = jaxnet.fit(net, make_rows(), epochs=end, seed=3, callbacks=[report, saved], **task)
    return of_run(*found)


def run_mapped() -> Arrays:
    """Rows that stay on disk."""
    x, y = make_rows()
    path = Path(tempfile.mkdtemp()) / "x"
    np.memmap(path, x.dtype, "w+", shape=x.shape)[:] = x
    task = make_task()
    data = np.memmap(path, x.dtype, "r", shape=x.shape), y
    return of_run(*jaxnet.fit(task.pop("net"), data, seed=3, **task))


def run_on_devices() -> Arrays:
    """Four virtual devices."""
    task = make_task()
    placement = jaxnet.train.OnMesh(jax.make_mesh((4,), ("data",)))
    return of_run(*jaxnet.fit(task.pop("net"), make_rows(), seed=3, placement=placement, **task))


RUNS = {name: lambda name=name: run_experiment(name) for name in lecture.EXPERIMENTS} | {
    "sweep": run_sweep,
    "resumed": run_resumed,
    "mapped": run_mapped,
    "four devices": run_on_devices,
}


def write(path: str) -> None:
    """Everything, as one `.npz`."""
    found = {}
    for name, run in RUNS.items():
        found |= {f"{name}/{key}": value for key, value in run().items()}
        print(name, flush=True)
    np.savez(path, allow_pickle=False, **found)


def compare(before: str, after: str) -> bool:
    """A row for each run; whether all that must be equal is, and losses are within 1e-7."""
    good = True
    with np.load(before) as old, np.load(after) as new:
        for name in RUNS:
            keys = [key for key in old.files if key.startswith(f"{name}/")]
            gone = [key for key in keys if key not in new.files]
            gaps = {"losses": 0.0, "others": 0.0}
            other = len(gone)
            for key in set(keys) - set(gone):
                if old[key].tobytes() == new[key].tobytes():
                    continue
                if old[key].dtype.kind != "f":
                    other += 1
                    continue
                scale = np.abs(old[key]).max(initial=1e-30)
                kind = "losses" if key.endswith("losses") else "others"
                gaps[kind] = max(gaps[kind], float(np.abs(old[key] - new[key]).max() / scale))
            good &= other == 0 and gaps["losses"] <= 1e-7
            same = "same bits" if not any(gaps.values()) and not other else ""
            print(f"{name:16} {same or gaps} {f'not equal: {other}' if other else ''}")
    return good


if __name__ == "__main__":
    sys.exit(write(sys.argv[2]) if sys.argv[1] == "write" else not compare(*sys.argv[2:]))
