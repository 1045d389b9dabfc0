"""Damaged files and hostile surroundings, drawn anew for as long as `JAXNET_FUZZ` says.

A seed is printed with each failure: `JAXNET_FUZZ_SEED=N` draws the same again.
"""

import gzip
import json
import os
import random
import secrets
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
from jaxnet import checkpoint, convert, data
from jaxnet.lecture.torch_results import load_torch
from tests.integration import ROOT
from tests.test_sweeps import resumed
from tests.tiny import LOSS, NET, X, Y
from torchref import results

SECONDS = float(os.environ.get("JAXNET_FUZZ", "30"))
"""How long each format is tried, and the surroundings."""

SEED = int(os.environ.get("JAXNET_FUZZ_SEED", secrets.randbits(32)))
CLEAR = (ValueError, TypeError, OSError)
"""What a reader may raise of a file; `CorruptCheckpointError` is a ValueError."""


def repeat(trial: Callable[[random.Random], None]) -> None:
    """Trials for as long as it lasts, each from its own seed, which is named where one fails."""
    end, count = time.monotonic() + SECONDS, 0
    while not count or time.monotonic() < end:
        try:
            trial(random.Random(SEED + count))
        except BaseException as error:
            error.add_note(f"JAXNET_FUZZ_SEED={SEED + count}")
            raise
        count += 1
    print(f"{count} trials from seed {SEED}")


def damage(content: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut, doubled, swapped or filled with extremes."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        at = draw.randrange(len(changed) + 1)
        size = draw.choice([1, 1, 2, 4, 8, 64])
        kind = draw.randrange(6)
        if kind == 0:
            changed[at : at + size] = draw.randbytes(size)
        elif kind == 1:
            del changed[at : at + draw.choice([size, len(changed)])]
        elif kind == 2:
            changed[at:at] = draw.choice([draw.randbytes(size), b"\xff" * size, b"\0" * size])
        elif kind == 3:
            changed[at : at + size] = b"\xff" * size
        elif kind == 4:
            changed[at:at] = changed[at : at + size] * draw.choice([1, 2, 100])
        else:
            changed = changed[at:] + changed[:at]
    return bytes(changed)


def train(folder: Path) -> tuple[Any, Any]:
    save = jaxnet.callbacks.Checkpoint(folder)
    optimizer = jaxnet.optim.adam()
    return jaxnet.fit(
        NET, (X, Y), loss=LOSS, optimizer=optimizer, epochs=1, seed=0, callbacks=[save]
    )


def idx(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = folder / "images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x03" + np.array([2, 3, 4], ">i4").tobytes() + bytes(range(24)))
    return path, lambda: data.read_idx(path)


def zipped_idx(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path, _ = idx(folder)
    zipped = folder / "images-idx3-ubyte.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    return zipped, lambda: data.read_idx(zipped)


def safetensors(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path, net = folder / "net.safetensors", torch.nn.Sequential(torch.nn.Linear(3, 2))
    _, variables = convert.from_torch(net)
    convert.save_safetensors(path, variables)
    return path, lambda: convert.load_safetensors(path, like=variables)


def torch_json(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = folder / "torch.json"
    rows = data.load_mnist((0, 1))
    measured = results.measure("logits", rows, epochs=0)
    path.write_text(results.as_json([measured]))
    return path, lambda: load_torch(path)


def a_checkpoint(folder: Path) -> tuple[Path, Callable[[], Any]]:
    """One of the files of a checkpoint, another one each time that this is asked for."""
    state, _ = train(folder / "run")
    files = sorted(p for p in (folder / "run").rglob("*") if p.is_file() and p.stat().st_size)
    path = files[SEED % len(files)]

    def read() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that names what is skipped
            found = checkpoint.Checkpoints(folder / "run").restore(like=state)
        assert found is None or bool(jnp.isfinite(found[1].losses).all())

    return path, read


def a_sweep(folder: Path) -> tuple[Path, Callable[[], Any]]:
    resumed(folder / "sweep")
    files = sorted(p for p in (folder / "sweep").iterdir() if p.suffix != ".lock")
    path = files[SEED % len(files)]

    def read() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return resumed(folder / "sweep", resume=True)

    return path, read


FORMATS = [idx, zipped_idx, safetensors, torch_json, a_checkpoint, a_sweep]


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_a_damaged_file_is_a_clear_error(make, tmp_path):
    """Or is read: what cannot be told from a good one. Nothing else is raised, and nothing run."""
    path, read = make(tmp_path)
    whole, rejected = path.read_bytes(), []

    def trial(draw: random.Random) -> None:
        path.write_bytes(damage(whole, draw))
        try:
            read()
        except CLEAR as error:
            rejected.append(str(error))
            assert rejected[-1] and "Traceback" not in rejected[-1]

    repeat(trial)
    assert rejected


COMMANDS = [
    ["show", "--out", "digits.png"],
    ["lecture", "--only", "logits", "--json", "results.json", "--quiet"],
    ["doctor"],
]
STREAMS = ["", " 2>&-", " >&-", " >/dev/full", " 2>/dev/full", " | head -c 20", " >&- 2>&-", " <&-"]
SURROUNDINGS = {
    "HOME": ["/nowhere", "/dev/null", "", "/proc"],
    "LANG": ["C", "tr_TR.UTF-8", "no_such.locale"],
    "LC_ALL": ["C", "POSIX", "xx"],
    "TERM": ["", "dumb", "xterm-256color", "nonsense"],
    "COLUMNS": ["0", "1", "5", "-3", "many", "100000"],
    "NO_COLOR": ["1"],
    "PYTHONIOENCODING": ["ascii", "latin-1"],
    "XDG_CACHE_HOME": ["/dev/null", "/proc/none", "relative"],
}


def test_commands_in_hostile_surroundings(tmp_path):
    """No traceback, and an exit status of the command's own."""

    def trial(draw: random.Random) -> None:
        parts = draw.choice(["plain", "[red]", "ü ñ", "'quoted'", "-dash"]), secrets.token_hex(4)
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True)
        chosen = {k: draw.choice(v) for k, v in SURROUNDINGS.items() if draw.random() < 0.4}
        command = [sys.executable, "-m", "jaxnet", *draw.choice(COMMANDS)]
        line = " ".join(command) + draw.choice(STREAMS)
        own = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            cwd=folder,
            env=own | chosen,
            capture_output=True,
            text=True,
            errors="replace",
        )
        said = f"{json.dumps(chosen)} {line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2, 141), said

    repeat(trial)
