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


def compare_processes(rounds: int, root: Path | None = None) -> list[dict[str, Any]]:
    """The lecture's script for `minibatch` against the command line, nothing cached and cached.

    A first round is not timed: it fills the operating system's file cache, and jaxnet's cache of
    programs for the row that uses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        digits = Path(folder) / "digits.npz"
        _write_digits(digits, root)
        caches = {**os.environ, "XDG_CACHE_HOME": folder}
        place = ["--root", str(root)] if root else []
        commands = {
            "the lecture's script": [sys.executable, str(SCRIPT), str(digits)],
            "jaxnet lecture --no-cache": [*JAXNET, *place, "--no-cache"],
            "jaxnet lecture, programs kept": [*JAXNET, *place],
            **{name: [sys.executable, "-c", code] for name, code in IMPORTS.items()},
        }
        printed = {name: _run(command, caches) for name, command in commands.items()}
        calls = {
            name: lambda command=command: clock(lambda: _run(command, caches))
            for name, command in commands.items()
        }
        seconds = interleave(calls, rounds, warm=True)
    theirs = _find_accuracies(printed["the lecture's script"])
    return [
        {
            "name": name,
            "seconds": seconds[name],
            "ratio": median_ratio(seconds[name], seconds["the lecture's script"]),
            "accuracies": _find_accuracies(printed[name]),
            "agree": None if name in IMPORTS else _find_accuracies(printed[name]) == theirs,
        }
        for name in commands
    ]


def _write_digits(path: Path, root: Path | None) -> None:
    train, test = load_mnist((0, 1), root)
    targets = [rows.labels[:, None].astype(np.float32) for rows in (train, test)]
    np.savez(path, X=train.images, y=targets[0], XX=test.images, yy=targets[1])


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What it prints; a CalledProcessError where it fails.

    `jaxnet lecture` ends with 1 where an accuracy was missed: then that is what the row shows.
    """
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode > 1 or not (done.stdout or "-c" in command):
        done.check_returncode()
        raise RuntimeError(f"{command} printed nothing: {done.stderr}")
    return done.stdout


def _find_accuracies(printed: str) -> list[str]:
    """On the training and the test rows at the end, to four places, as either side prints them.

    >>> _find_accuracies("train_acc=0.988551 test_acc=0.995272"), _find_accuracies(".9886/.9953")
    (['.9886', '.9953'], ['.9886', '.9953'])
    """
    if pair := re.search(r"(\.\d{4})/(\.\d{4})", printed):
        return list(pair.groups())
    last = re.findall(r"(?:train|test)_acc=([\d.]+)", printed)[-2:]
    return [f"{float(value):.4f}".removeprefix("0") for value in last]
