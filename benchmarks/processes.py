"""Whole processes, from the shell: imports, data, compilation, run, exit."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import clock, interleave, median_ratio
from jaxnet.data import load_mnist

SCRIPT = Path(__file__).with_name("lecture_script.py")
JAXNET = [sys.executable, "-m", "jaxnet", "lecture", "--only", "minibatch"]
IMPORTS = {
    "imports alone: torch": "import torch",
    "imports alone: torch, torchvision": "import torch, torchvision",
    "imports alone: jax, flax, optax": "import jax, flax.linen, optax",
}


def compare_processes(rounds: int) -> list[dict[str, Any]]:
    """The lecture's script for `minibatch` against the command line, nothing cached and cached.

    A first round is not timed: it fills the caches.
    """
    with tempfile.TemporaryDirectory() as folder:
        digits = Path(folder) / "digits.npz"
        write_digits(digits)
        caches = {**os.environ, "XDG_CACHE_HOME": folder}
        commands = {
            "the lecture's script": [sys.executable, str(SCRIPT), str(digits)],
            "jaxnet lecture --no-cache": [*JAXNET, "--no-cache"],
            "jaxnet lecture, programs kept": JAXNET,
            **{name: [sys.executable, "-c", code] for name, code in IMPORTS.items()},
        }
        printed = {name: _run(command, caches) for name, command in commands.items()}
        calls = {
            name: lambda command=command: clock(lambda: _run(command, caches))
            for name, command in commands.items()
        }
        seconds = interleave(calls, rounds, warm=True)
    script = next(iter(commands))
    rows = []
    for name in commands:
        accuracies = find_accuracies(printed[name])
        row = {"name": name, "seconds": seconds[name], "accuracies": accuracies, "agree": None}
        if name not in IMPORTS:
            row["agree"] = accuracies == find_accuracies(printed[script])
            row["ratio"] = median_ratio(seconds[name], seconds[script])
        rows.append(row)
    return rows


def write_digits(path: Path) -> None:
    """The lecture's digits as arrays, for its script."""
    train, test = load_mnist((0, 1))
    y, yy = (rows.labels[:, None].astype(np.float32) for rows in (train, test))
    np.savez(path, X=train.images, y=y, XX=test.images, yy=yy)


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What it prints; `jaxnet lecture` ends with 1 where an accuracy was missed, and shows it."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode > 1 or not (done.stdout or "-c" in command):
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def find_accuracies(printed: str) -> list[str]:
    """On the training and the test rows at the end, to four places, as either side prints them.

    >>> find_accuracies("train_acc=0.988551 test_acc=0.995272"), find_accuracies(".9886/.9953")
    (['.9886', '.9953'], ['.9886', '.9953'])
    """
    if pair := re.search(r"(\.\d{4})/(\.\d{4})", printed):
        return list(pair.groups())
    last = re.findall(r"(?:train|test)_acc=([\d.]+)", printed)[-2:]
    return [f"{float(value):.4f}".removeprefix("0") for value in last]
