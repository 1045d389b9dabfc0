"""What the second `fit` of a process costs beyond its training: what it finds compiled.

`python -m benchmarks.compiling` is such a process; it prints its seconds as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxnet
from benchmarks.timing import clock
from jaxnet.callbacks import Report

ROWS, FEATURES = 41, 6
FIRST = "the first of a process"


def compare_compiling(rounds: int) -> list[dict[str, Any]]:
    """A row for each `fit`: its seconds, and those of the same call once more, which compiles
    nothing. Each round is a process of its own, and keeps nothing on disk.
    """
    found = [_measure_apart() for _ in range(rounds)]
    return [
        {
            "what": what,
            "seconds": [one[what]["seconds"] for one in found],
            "alone": [one[what]["alone"] for one in found],
            "agree": all(one[what]["agree"] for one in found),
        }
        for what in found[0]
    ]


def _measure_apart() -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.compiling"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def list_calls() -> dict[str, dict[str, Any]]:
    """What each `fit` of the process has other than the first, made anew and equal to it."""
    return {
        FIRST: {},
        "other epochs": {"epochs": 4},
        "a report every 2 epochs": {"callbacks": [Report(2)]},
        "a new optimizer": {"optimizer": jaxnet.optim.adam(lr=0.01)},
        "a new net of the same shape": {"net": build_net()},
        "all of these": {
            "epochs": 5,
            "callbacks": [Report(3)],
            "optimizer": jaxnet.optim.adam(lr=0.01),
            "net": build_net(),
        },
    }


def build_net() -> jaxnet.nn.Sequential:
    """Batches, a short last one, a shuffle and dropout: all that a run's program may hold."""
    layers = [jaxnet.nn.Linear(FEATURES, 8), jaxnet.nn.Dropout(0.5), jaxnet.nn.ReLU()]
    return jaxnet.nn.Sequential([*layers, jaxnet.nn.Linear(8, 1)])


def measure() -> dict[str, dict[str, Any]]:
    """In this process: the seconds of each call, of the same call again, and whether both, and the
    first one's epochs, have the same losses.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    x = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    losses: list[np.ndarray] = []
    found = {}
    for what, changes in list_calls().items():
        train = _make_call(changes, (x, y), losses)
        seconds, alone = clock(train), clock(train)
        shared = losses[-1][: len(losses[0])]
        agree = np.array_equal(losses[-1], losses[-2]) and np.array_equal(shared, losses[0])
        found[what] = {"seconds": seconds, "alone": alone, "agree": agree}
    return found


def _make_call(changes: dict[str, Any], data: Any, losses: list[np.ndarray]) -> Callable[[], None]:
    options: dict[str, Any] = {
        "net": build_net(),
        "loss": jaxnet.losses.binary_cross_entropy_with_logits,
        "optimizer": jaxnet.optim.adam(lr=0.01),
        "epochs": 3,
    } | changes
    net = options.pop("net")

    def train() -> None:
        _, history = jaxnet.fit(net, data, batch_size=8, shuffle=True, seed=1, **options)
        losses.append(history.losses)

    return train


if __name__ == "__main__":
    print(json.dumps(measure()))
