"""Damaged files and hostile surroundings, drawn anew for as long as `JAXNET_FUZZ` says.

A seed is printed with each failure: `JAXNET_FUZZ_SEED=N` draws the same again.
"""

import gzip
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch

import jaxnet
from jaxnet import checkpoint, convert, data, lecture
from jaxnet.data import mnist
from jaxnet.lecture.report import page
from jaxnet.lecture.torch_results import check_same, load_torch
from tests.helpers import assert_same_bits
from tests.integration import ROOT
from tests.test_checkpoint import damaged  # noqa: F401  a fixture
from tests.test_sweeps import resumed
from tests.tiny import ADAM, LOSS, NET, X, Y
from torchref import results

SECONDS = float(os.environ.get("JAXNET_FUZZ", "30"))
"""How long each format is tried; the surroundings four times as long, a process each."""

SEED = int(os.environ.get("JAXNET_FUZZ_SEED", secrets.randbits(32)))
CLEAR = (ValueError, TypeError, OSError)
"""What a reader may raise of a file; `CorruptCheckpointError` is a ValueError."""


def repeat(name: str, trial: Callable[[random.Random], Any], seconds: float = SECONDS) -> None:
    """Trials for as long as it lasts, each from its own seed, which is named where one fails."""
    end, count, rejected = time.monotonic() + seconds, 0, 0
    while not rejected or time.monotonic() < end:
        try:
            rejected += bool(trial(random.Random(SEED + count)))
        except BaseException as error:
            error.add_note(f"JAXNET_FUZZ_SEED={SEED + count}, {name} trial {count}")
            raise
        count += 1
        assert rejected or count < 1000
    print(f"{name}: {count} trials from seed {SEED}, {rejected} rejected")


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


STRANGE = [None, True, -1, 0, 2**31, 2**63, 10**400, 1e39, 5e-324, -0.0, float("nan"), float("inf")]
STRANGE += ["", "1.5", "</script><script>", "\ud800", "\0", [], [[]], {}, {"": None}, [1, [2]]]


def replace_part(content: bytes, draw: random.Random) -> bytes:
    """JSON of which one value, at any depth, is another one or is not there."""
    whole: Any = {"": json.loads(content)}
    inside: Any = whole
    key: Any = ""
    while isinstance(part := inside[key], dict | list) and part and draw.random() < 0.85:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        inside, key = part, draw.choice(keys)
    if inside is not whole and draw.random() < 0.2:
        del inside[key]
    else:
        inside[key] = draw.choice(STRANGE)
    return json.dumps(whole[""]).encode()


class Format(NamedTuple):
    """Whole files, one of which is damaged, and what reads them and checks what it has read."""

    files: list[Path]
    read: Callable[[], Any]
    damages: tuple[Callable[[bytes, random.Random], bytes], ...] = (damage,)


def idx(folder: Path) -> Format:
    path, zipped = folder / "images-idx3-ubyte", folder / "images-idx3-ubyte.gz"
    path.write_bytes(b"\0\0\x08\x03" + np.array([2, 3, 4], ">i4").tobytes() + bytes(range(24)))
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    return Format([path, zipped], lambda: (data.read_idx(path), data.read_idx(zipped)))


def npz(folder: Path) -> Format:
    path = folder / "mnist012.npz"
    shutil.copy(mnist.BUNDLE, path)
    return Format([path], lambda: mnist._read_bundle.__wrapped__(path, (0,), None))


def safetensors(folder: Path) -> Format:
    path, net = folder / "net.safetensors", torch.nn.Sequential(torch.nn.Linear(3, 2))
    _, variables = convert.from_torch(net)
    convert.save_safetensors(path, variables)
    return Format([path], lambda: convert.load_safetensors(path, like=variables))


def train_state(folder: Path) -> Format:
    path, (state, _) = folder / "state.safetensors", train(folder / "run")
    convert.save_train_state(path, state)
    return Format([path], lambda: convert.load_train_state(path, like=state))


def torch_json(folder: Path) -> Format:
    """What `jaxnet report --torch` shows: read, compared, and put on a page."""
    path, split = folder / "torch.json", data.load_mnist((0, 1))
    path.write_text(results.as_json([results.measure("logits", split, epochs=1)]))
    result = lecture.run(lecture.EXPERIMENTS["logits"], split)

    def read() -> None:
        found = load_torch(path)
        check_same(found, [lecture.EXPERIMENTS["logits"]], {(0, 1): split})
        text = page.write_report([result], {}, folder / "it.html", torch=found).read_text("utf-8")
        assert "</script><script>" not in text

    return Format([path], read, (damage, replace_part, replace_part, replace_part))


def train(folder: Path) -> tuple[Any, Any]:
    options: Any = {"callbacks": [jaxnet.callbacks.Checkpoint(folder)]}
    return jaxnet.fit(NET, (X, Y), loss=LOSS, optimizer=ADAM, epochs=1, seed=0, **options)


def a_checkpoint(folder: Path) -> Format:
    state, history = train(folder / "run")

    def read() -> None:
        found = checkpoint.Checkpoints(folder / "run").restore(like=state)
        assert found is not None
        jax.tree.map(assert_same_bits, found[0], state)
        assert_same_bits(found[1].losses, history.losses)

    return Format([p for p in (folder / "run").rglob("*") if p.is_file()], read)


def a_sweep(folder: Path) -> Format:
    """What is damaged is computed again."""
    place = folder / "sweep"
    table = resumed(place, seeds=range(2)).table

    def read() -> None:
        assert resumed(place, seeds=range(2), resume=True).table == table

    return Format(list(place.iterdir()), read, (damage, damage, damage, no_file))


def no_file(content: bytes, draw: random.Random) -> bytes:
    return b""


FORMATS = [idx, npz, safetensors, train_state, torch_json, a_checkpoint, a_sweep]


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_a_damaged_file_is_a_clear_error(make, tmp_path, monkeypatch):
    """Or a warning, or is read: what cannot be told from a good one. Nothing else is raised."""
    monkeypatch.setattr(page, "_draw", lambda *_: {})
    files, read, damages = make(tmp_path)
    whole = {path: path.read_bytes() for path in sorted(files)}

    def trial(draw: random.Random) -> list[Any]:
        path = draw.choice([*whole])
        path.write_bytes(draw.choice(damages)(whole[path], draw))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            try:
                read()
            except CLEAR as error:
                assert str(error) and "Traceback" not in str(error)
                return [error]
            finally:
                for other, content in whole.items():
                    other.write_bytes(content)
        return said

    repeat(make.__name__, trial)


COMMANDS = [
    "jaxnet --help",
    "jaxnet --version",
    "jaxnet lecture --help",
    "jaxnet show --out digits.png",
    "jaxnet lecture --only logits --json a.json --jsonl b.jsonl --checkpoint runs --quiet",
    "jaxnet lecture --only logits --figures figures",
    "jaxnet sweep logits --seeds 0:2 --epochs 2 --out sweep",
    "jaxnet doctor --json a.json",
    "jaxnet lecture --only logts",
    "torchref --help",
    "torchref lecture --only logits --certify 0",
    "torchref certify net.py:build --save a.html",
]
SCRIPT = """import torch
def build():
    net = torch.nn.Sequential(torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return net, torch.nn.BCEWithLogitsLoss(), optimizer, (torch.eye(3), torch.ones(3, 1))
"""

STREAMS = ["", " 2>&-", " >&-", " >/dev/full", " 2>/dev/full", " | head -c 20", " >&- 2>&-", " <&-"]
STREAMS += [" >/dev/full 2>&1", " 2>&1 | true"]
DISKS = {
    "as it is": "",
    "full": "mount -t tmpfs -o size=8k none .",
    "read-only": "mount -t tmpfs -o ro none .",
}
"""What is done first, where this user may."""

SURROUNDINGS = {
    "HOME": ["/nowhere", "/dev/null", "", "/proc"],
    "TMPDIR": ["/nowhere", "."],
    "LANG": ["C", "tr_TR.UTF-8", "no_such.locale"],
    "LC_ALL": ["C", "POSIX", "xx"],
    "TERM": ["", "dumb", "xterm-256color", "nonsense"],
    "COLUMNS": ["0", "1", "5", "-3", "many", "100000"],
    "NO_COLOR": ["1"],
    "FORCE_COLOR": ["1"],
    "PYTHONIOENCODING": ["ascii", "latin-1"],
    "PYTHONUTF8": ["0"],
    "MPLCONFIGDIR": ["/dev/null"],
    "XDG_CACHE_HOME": ["/dev/null", "/proc/none", "relative"],
    "JAX_COMPILATION_CACHE_DIR": ["", "/proc/none"],
}


def test_commands_in_hostile_surroundings(tmp_path):
    """No traceback, and an exit status of the command's own."""
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path]
    may_mount = (
        shutil.which("unshare") and subprocess.run(mount, capture_output=True).returncode == 0
    )

    def trial(draw: random.Random) -> bool:
        parts = draw.choice(["plain", "[red]", "ü ñ", "'quoted'", "-dash"]), secrets.token_hex(4)
        folder = tmp_path.joinpath(*parts)
        folder.mkdir(parents=True)
        chosen = {k: draw.choice(v) for k, v in SURROUNDINGS.items() if draw.random() < 0.3}
        line = f"{sys.executable} -m {draw.choice(COMMANDS)}{draw.choice(STREAMS)}"
        mount = DISKS[draw.choice([*DISKS]) if may_mount else "as it is"]
        if mount:
            line = f'{mount} && cd "$PWD" && cp ../net.py . ; {line}'  # below the mount
        shell = ["unshare", "-rm"] * bool(mount) + ["bash", "-c", f"set -o pipefail; {line}"]
        for place in (folder, folder.parent):
            (place / "net.py").write_text(SCRIPT)
        own = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
        done = subprocess.run(
            shell,
            cwd=folder,
            env=own | chosen,
            capture_output=True,
            text=True,
            errors="replace",
        )
        said = f"{json.dumps(chosen)} {line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2, 3, 141), said
        return bool(done.returncode)

    repeat("surroundings", trial, 4 * SECONDS)
