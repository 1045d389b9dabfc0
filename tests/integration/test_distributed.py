"""One run in two processes, connected by `jax.distributed.initialize`, is the run of one process.

`python -m tests.integration.test_distributed ADDRESS NUMBER FOLDER` is one of the two.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxnet
from jaxnet import lecture, nn, optim
from jaxnet._utils.locks import FolderLock
from jaxnet._utils.processes import broadcast_from_primary
from jaxnet.callbacks import Checkpoint, DeferredSigint, Interrupted, NanGuard, NotFinite, Report
from jaxnet.checkpoint import folder as checkpoint_folder
from jaxnet.train import OnMesh
from tests import sharded, test_mesh
from tests.test_mesh import REDUCTION, RUNS

ALL = (*RUNS, "norms", "streamed")
"""The others of `sharded.REST` are in `tests/slow`, on four devices of one process."""
LIMIT = 600  # seconds for a process, on a machine that is shared
LINEAR = nn.Sequential([nn.Linear(784, 1)])


def main(address: str, number: str, place: str) -> None:
    """One of the two processes."""
    jax.distributed.initialize(address, 2, int(number))
    written, write, folder = [], checkpoint_folder.write, Path(place)
    checkpoint_folder.write = lambda *parts: (written.append(parts[1]), write(*parts))
    placement = OnMesh(jax.make_mesh((2,), ("data",)))
    found = sharded.find(2, folder, ALL)
    state, history = sharded.save(placement, folder / "2", 2, resume=True)
    found |= {f"resumed.{name}": a for name, a in sharded.collect(state, history).items()}
    found |= {f"told.{name}": np.array(text) for name, text in tell(placement, folder).items()}
    np.savez(folder / f"{number}.npz", written=written, **found, allow_pickle=False)


def tell(placement: OnMesh, folder: Path) -> dict[str, Any]:
    """What both are told where they differ, where weights become NaN and where one is stopped."""
    (x, y), number = sharded.load(32), jax.process_index()
    specs = {"0": {"weight": PartitionSpec(None, "data")}}

    def fit(data: Any = (x, y), lr: float = 0.1, **changes: Any) -> Any:
        options = {"epochs": 1, "seed": 0, "placement": placement, "optimizer": optim.sgd(lr)}
        return jaxnet.fit(LINEAR, data, loss=jaxnet.losses.mse_loss, **options | changes)

    def press(chunk: Any) -> None:
        if number == 1 and chunk.epoch >= 2:
            signal.raise_signal(signal.SIGINT)

    def catch(kind: type[BaseException], function: Callable[[], Any]) -> str:
        with pytest.raises(kind) as caught:
            function()
        return str(caught.value)

    stopping = [press, DeferredSigint(), Checkpoint(folder / "stopped", seconds=0)]
    if number == 0:
        (folder / "held").mkdir()
        (folder / "file").touch()
    lock = FolderLock(folder / "held") if number == 0 else None
    bad = {"placement": OnMesh(placement.mesh, specs), "callbacks": [NanGuard()], "epochs": 9}
    _, history = fit(epochs=3, callbacks=[] if number else [lambda chunk: None])
    return {
        "losses": len(history.losses),
        "integer": broadcast_from_primary(2**40 + 5 + number),
        "data": catch(ValueError, lambda: fit((x + np.float32(number), y))),
        "seed": catch(ValueError, lambda: fit(seed=number)),
        "epochs": catch(ValueError, lambda: fit(epochs=1 + number)),
        "rate": catch(ValueError, lambda: fit(lr=0.1 + number)),
        "reports": catch(ValueError, lambda: fit(callbacks=[Report(1 + number)])),
        "kind": catch(ValueError, lambda: fit(optimizer=(optim.sgd, optim.adam)[number]())),
        "in use": catch(OSError, lambda: fit(callbacks=[Checkpoint(folder / "held")])),
        "no folder": catch(OSError, lambda: fit(callbacks=[Checkpoint(folder / "file")])),
        "not finite": catch(NotFinite, lambda: fit(lr=1e30, batch_size=16, **bad)),
        "stopped": catch(Interrupted, lambda: fit(epochs=10**6, callbacks=stopping)),
        "lock": str(lock and lock.release()),
    }


def start_two(*command: str) -> list[tuple[int, str, str]]:
    """Status, standard output and error of two processes with a device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = []
    try:
        for number in range(2):
            parts = [part.format(address=address, number=number) for part in command]
            line = [sys.executable, "-m", *parts]
            processes.append(subprocess.Popen(line, env=environment, **pipes))
        said = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What both see."""
    return tmp_path_factory.mktemp("both")


@pytest.fixture(scope="module")
def both(folder) -> list[dict[str, np.ndarray]]:
    """What each of the two has found."""
    here = "tests.integration.test_distributed"
    for status, _, said in start_two(here, "{address}", "{number}", str(folder)):
        assert status == 0, said[-3000:]
    return [dict(np.load(folder / f"{number}.npz")) for number in range(2)]


@pytest.fixture(scope="module")
def found(both, folder) -> dict[Any, dict[str, np.ndarray]]:
    """By the number of processes; 0 is one, without a mesh."""
    return {0: sharded.find(0, folder, ALL), 2: both[0]}


def test_both_have_the_same(both):
    one, other = both
    assert one.keys() == other.keys()
    own = {"written", "wide.shard_sizes", "told.in use", "told.no folder"}
    for name in one.keys() - own:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("run", ALL)
def test_floats_agree_within_the_rounding_of_sums(found, run):
    test_mesh.test_floats_agree_within_the_rounding_of_sums(found, run, 2)


def test_integers_are_the_same(found):
    """Generators, orders, masks; and the table of a sweep whose lanes are sharded."""
    test_mesh.test_integers_are_the_same(found, 2)
    test_mesh.test_the_same_rows_are_right_but_for_those_on_the_edge(found, 2)
    np.testing.assert_array_equal(found[2]["sweep.accuracies"], found[0]["sweep.accuracies"])
    assert found[2]["wide.shard_sizes"][1] == 64 * 784 / 2, "each has a part of the weights"


def test_process_0_alone_writes_what_both_and_one_resume(both, folder, tmp_path):
    assert both[0]["written"].tolist()[:4] == [1, 1, 2, 2] and not both[1]["written"].size
    _, whole = sharded.save(None, tmp_path, 3)
    steps = sharded.STEPS
    np.testing.assert_allclose(both[0]["resumed.losses"], whole.losses[:steps], rtol=REDUCTION)
    _, again = sharded.save(None, folder / "2", 3, resume=True)
    np.testing.assert_array_equal(again.losses[:steps], both[0]["resumed.losses"])
    np.testing.assert_allclose(again.losses, whole.losses, rtol=REDUCTION)


DIFFERING = {
    "data": "data.0",
    "seed": "seed",
    "epochs": "epochs",
    "rate": "optimizer.lr",
    "reports": "report_every",
    "kind": "optimizer",
}


@pytest.mark.parametrize("what, name", DIFFERING.items())
def test_arguments_that_differ_are_rejected_by_name(both, what, name):
    """In both processes, which say the same."""
    message = f"{name} must be the same in every process, but process 1 has "
    assert str(both[0][f"told.{what}"]).startswith(message)


def test_what_process_0_cannot_do_is_told_in_both(both):
    """None waits for it."""
    for each in both:
        assert "held is in use by process" in str(each["told.in use"])
        assert "directory must be a folder, not the file" in str(each["told.no folder"])
    assert str(both[1]["told.in use"]).startswith("process 0 failed: BlockingIOError: folder")


def test_a_run_of_both_ends_in_both(both):
    """Where a callback is in one alone, where weights become NaN, where one has a Ctrl-C."""
    told = {name: both[0][f"told.{name}"] for name in ("losses", "not finite", "stopped")}
    assert told["losses"] == 3
    assert [int(each["told.integer"]) for each in both] == [2**40 + 5] * 2
    assert "is not finite in epoch" in str(told["not finite"])
    assert "stopped after epoch" in str(told["stopped"]) and "saved in" in str(told["stopped"])


def test_the_lecture_in_two_processes_is_the_lecture(tmp_path):
    """Process 0 alone prints and writes."""
    paths = {name: str(tmp_path / name) for name in ("json", "jsonl", "checkpoint")}
    place = ["--coordinator", "{address}", "--num-processes", "2", "--process-id", "{number}"]
    options = [part for name, path in paths.items() for part in (f"--{name}", path)]
    line = ("jaxnet", "lecture", "--only", "logits", "--distributed", *place, *options)
    (status, out, said), (other, theirs, _) = start_two(*line)
    assert (status, other) == (0, 0), said
    assert all(line.startswith("[Gloo]") for line in theirs.splitlines())
    assert out.count("experiment") == 1 and ".9577/.9626" in out
    (record,) = json.loads(Path(paths["json"]).read_text())
    here = lecture.run(lecture.EXPERIMENTS["logits"]).record
    assert (record["devices"], here["devices"]) == (2, 1)
    losses = [[report["loss"] for report in found["reports"]] for found in (record, here)]
    np.testing.assert_allclose(*losses, rtol=REDUCTION)
    assert record["test_accuracy"] == here["test_accuracy"]
    assert Path(paths["checkpoint"], "logits", "10").is_dir()
    lines = Path(paths["jsonl"]).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 11))


if __name__ == "__main__":
    main(*sys.argv[1:])
