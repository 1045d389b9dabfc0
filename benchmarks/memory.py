"""The most memory that a process takes while it trains: each run in a process of its own.

`python -m benchmarks.memory torch TASK.npz 16` is such a process; it prints what it found as JSON.
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
    """Peak resident sizes in bytes, beside the data's own: minibatches, and every row at once."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        arrays: dict[str, Any] = {"x": task.x, "y": task.y, **task.params}
        np.savez(path, **arrays)
        for batch_size in (task.batch_size, len(task.x)):
            sides = {side: _measure_apart(side, path, batch_size) for side in SIDES}
            agree = abs(sides["torch"]["loss"] / sides["jaxnet"]["loss"] - 1) <= 1e-5
            rows.append({"batch_size": batch_size, "agree": agree, **sides})
    return rows


def _measure_apart(side: str, path: Path, batch_size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", side, str(path), str(batch_size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _measure(side: str, path: str, batch_size: int) -> dict[str, Any]:
    """In this process: what importing, the data and two epochs add to the peak, and the loss."""
    import_module(side)
    imported = _read_peak()
    with np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"]
        params = {name: arrays[name] for name in arrays if name not in "xy"}
    task = Task(x, y, params, batch_size=batch_size)
    loaded = _read_peak()
    train, read = SIDES[side].prepare(task)
    losses = read(train()).losses
    assert losses is not None
    return {
        "data": x.nbytes + y.nbytes,
        "imported": imported,
        "loaded": loaded,
        "peak": _read_peak(),
        "loss": float(losses[-1]),
    }


def _read_peak() -> int:
    """Bytes. Linux's own figure: what `getrusage` says of a child begins with its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
