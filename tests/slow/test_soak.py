"""Thousands of small runs in one process hold its memory flat."""

import gc
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.integration import run_python


def _soak(kind: str, runs: int) -> list[dict[str, Any]]:
    """What is held after every hundredth of the runs, after a collection."""
    import jax
    import numpy as np

    import jaxnet
    from jaxnet import callbacks, losses, metrics, nn, optim

    accuracy = {"accuracy": metrics.logit_is_right}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)

    def build(width: int) -> tuple[Any, Any]:
        layers = [nn.Linear(6, width), nn.Dropout(0.5), nn.ReLU(), nn.Linear(width, 1)]
        return nn.Sequential(layers), optim.adam(lr=1e-3)

    ways: list[dict[str, Any]] = [
        {"batch_size": 8, "shuffle": True},
        {"batch_size": 5, "callbacks": [callbacks.Report(metrics=accuracy), callbacks.NanGuard()]},
        {},
    ]
    kept = [(build(width), 24 - 4 * width % 12) for width in (3, 4, 5, 6)]
    begin, held = time.perf_counter(), []
    for number in range(1, runs + 1):
        (net, optimizer), rows = kept[number % 4] if kind == "kept" else (build(4), 24)
        state, _ = jaxnet.fit(
            net,
            (x[:rows], y[:rows]),
            loss=losses.binary_cross_entropy_with_logits,
            optimizer=optimizer,
            epochs=2,
            seed=number,
            **ways[number % 3],
        )
        jaxnet.predict(net, state, x)
        del state
        if number % (runs // 100) == 0:
            gc.collect()
            resident = subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())])
            told = {"runs": number, "seconds": time.perf_counter() - begin}
            told |= {"mib": int(resident) / 1024, "arrays": len(jax.live_arrays())}
            held.append(told | {"programs": len(jax.devices()[0].client.live_executables())})
    return held


@pytest.mark.parametrize(
    ("kind", "runs", "warm", "growth"),
    [
        ("kept", 10_000, 0.1, 4.0),
        # The last 32 programs of a kind are remembered; beyond, each new one replaces an old one.
        ("new", 300, 0.4, 16.0),
    ],
)
def test_memory_stays(kind, runs, warm, growth, record_property):
    """From where the runs are warm to the end; with nets that are kept, or new for each run."""
    held = json.loads(run_python("-m", "tests.slow.test_soak", kind, str(runs)))
    first, last = held[int(len(held) * warm) - 1], held[-1]
    record_property("held", {"warm": first, "end": last})
    assert last["runs"] == runs
    assert last["mib"] - first["mib"] < growth, held
    assert last["arrays"] == first["arrays"], held
    assert last["programs"] <= first["programs"], held


if __name__ == "__main__":
    print(json.dumps(_soak(sys.argv[1], int(sys.argv[2]))))
