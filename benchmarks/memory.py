"""The most memory that a process takes while it trains: each run in a process of its own.

`python -m benchmarks.memory torch TASK.npz 16` is such a process; it prints what it found as JSON.
Nothing that it imports here may import torch or JAX.
"""

import json
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import jaxnet_fit, torch_eager
from benchmarks.task import Task

SIDES = {"torch": torch_eager.LECTURE, "jaxnet": jaxnet_fit.FIT}


def compare_memory(task: Task) -> list[dict[str, Any]]:
    """Peak resident sizes in MiB, beside the data's own: minibatches, and every row at once."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "task.npz"))
        arrays: dict[str, Any] = {"x": task.x, "y": task.y, **task.params}
        np.savez(path, **arrays)
        for size in (task.batch_size, len(task.x)):
            command = [sys.executable, "-m", "benchmarks.memory"]
            found = [
                json.loads(subprocess.check_output([*command, side, path, str(size)]))
                for side in SIDES
            ]
            agree = abs(found[0]["loss"] / found[1]["loss"] - 1) <= 1e-5
            rows += [row | {"batch_size": size, "agree": agree} for row in found]
    return rows


def measure_memory(side: str, path: str, batch_size: int) -> dict[str, Any]:
    """In this process: what importing, the data and two epochs add to the peak, and the loss."""
    import_module(side)
    imported = _read_peak()
    with np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"]
        params = {name: arrays[name] for name in arrays if name not in "xy"}
    loaded, data = _read_peak(), (x.nbytes + y.nbytes) / 2**20
    train, read = SIDES[side].prepare(Task(x, y, params, batch_size=batch_size))
    losses = read(train()).losses
    assert losses is not None
    peak = _read_peak()
    sizes = {"data": data, "imported": imported, "loaded": loaded, "peak": peak}
    return {"side": side, "loss": float(losses[-1]), **sizes, "own": peak - loaded}


def _read_peak() -> float:
    """MiB. Linux's own figure: what `getrusage` says of a child begins with its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    print(json.dumps(measure_memory(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
