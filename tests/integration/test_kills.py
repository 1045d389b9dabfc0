"""Runs that are killed, stopped by Ctrl-C or out of disk, in processes of their own."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from jaxnet import callbacks, sweep
from jaxnet._utils.locks import LOCK, FolderLock
from jaxnet.callbacks import Checkpoint, Report
from jaxnet.checkpoint import Checkpoints, list_epochs
from tests.helpers import assert_same_bits
from tests.integration import run_python
from tests.test_checkpoint import fit, five_epochs, folder, resume, saved
from tests.test_descriptions import spell
from tests.test_sweeps import resumed

__all__ = ["five_epochs", "folder", "saved"]  # fixtures

EPOCHS = 60  # of the run that is killed


def test_an_old_checkpoint_whose_deletion_was_cut_off_is_deleted_later(saved, folder):
    (folder / "3" / "_CHECKPOINT_METADATA").unlink()
    code = "import sys; from jaxnet.checkpoint import Checkpoints as C; print(C(sys.argv[1])"
    assert run_python("-c", code + ".list_epochs())", str(folder)) == "[3, 4, 5]\n"
    checkpoints = Checkpoints(folder)
    assert checkpoints.restore(like=saved[0]) is not None
    assert checkpoints.save(6, *saved) and checkpoints.list_epochs() == [4, 5, 6]


def _fill_disk(folder, result):
    """In a process where no file may grow beyond 1 KiB from the third epoch on."""
    limits: list[tuple[int, int]] = []

    def fill(chunk):
        if chunk.epoch == 3:
            limits.append(resource.getrlimit(resource.RLIMIT_FSIZE))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[0][1]))

    class Free(callbacks.Callback):
        order = Checkpoint.order - 1

        def on_end(self, run):
            """The disk has room again before the checkpoints see the end of the run."""
            resource.setrlimit(resource.RLIMIT_FSIZE, limits[0])

    save = Checkpoint(folder, seconds=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        state, history = fit(6, save, Free(), fill, report=Report())
    for epoch, warning in enumerate(told, 3):
        assert f"epoch {epoch} could not be saved" in str(warning.message)
    assert len(told) == 4 and len(history.losses) == 6 * 5
    assert list_epochs(folder) == [1, 2], "what has just failed is not tried again"
    again, _ = fit(6, resume(folder, seconds=99), report=Report())
    assert_same_bits(again.params["0"]["weight"], state.params["0"]["weight"])
    assert list_epochs(folder) == [2, 3, 6]
    Path(result).write_text("done")


def test_a_full_disk_stops_neither_the_run_nor_what_is_saved(tmp_path):
    result = tmp_path / "result"
    places = f"{str(tmp_path / 'run')!r}, {str(result)!r}"
    call = f"from tests.integration.test_kills import _fill_disk; _fill_disk({places})"
    run_python("-c", call)
    assert result.exists()


def _start(folder, result, epochs):
    """Start a run, and wait until it trains."""
    command = [sys.executable, "-m", "tests.child", "alone", str(folder), str(result), str(epochs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("trains")
    return process


def _survive(folder, result, kill_after=None):
    """Start the run that is to survive; kill it so many seconds after it began to train."""
    process = _start(folder, result, EPOCHS)
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == (-signal.SIGKILL if kill_after is not None else 0), errors
    return errors


def kill_and_resume(tmp_path, picks, times):
    """How many of the kills left a save half done; every resumed run must be the whole one."""
    begun = time.monotonic()
    _survive(tmp_path / "whole", tmp_path / "whole.npz")
    lasts = min(1.0, time.monotonic() - begun)
    whole = dict(np.load(tmp_path / "whole.npz"))
    halves = 0
    for number in range(times):
        folder, result = tmp_path / f"run{number}", tmp_path / f"result{number}.npz"
        _survive(folder, result, kill_after=picks.uniform(0, lasts))
        assert not result.exists()
        halves += any("tmp" in path.name for path in folder.iterdir())
        said = _survive(folder, result)
        assert "UserWarning" not in said, said  # what Orbax logs of a half save is its own affair
        ended = dict(np.load(result))
        assert ended.keys() == whole.keys()
        for name, array in whole.items():
            assert ended[name].tobytes() == array.tobytes(), (number, name)
        assert {path.name for path in folder.iterdir()} == {str(EPOCHS - i) for i in range(3)}
    return halves


def test_a_killed_run_ends_as_the_one_that_was_not(tmp_path):
    """Killed at a time that nobody has chosen: every bit is the whole run's."""
    kill_and_resume(tmp_path, random.Random(os.urandom(4)), times=1)


def test_a_second_run_in_a_folder_is_told_and_harms_nothing(tmp_path):
    """It ends at once, and names the first; a killed run holds the folder no longer."""
    folder, result = tmp_path / "run", tmp_path / "result.npz"
    first = _start(folder, tmp_path / "first.npz", 10**6)
    first.send_signal(signal.SIGSTOP)
    there = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-m", "tests.child", "alone", str(folder), str(result), str(EPOCHS)]
    second = subprocess.run(command, capture_output=True, text=True)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert f"BlockingIOError: folder {folder} is in use by process {first.pid} on" in second.stderr
    assert second.returncode == 1 and not result.exists() and "trains" not in second.stdout
    assert {path.name for path in folder.iterdir()} == there >= {LOCK}
    FolderLock(folder).release()


FORKED = """
import os, signal, sys, time
from pathlib import Path
from jaxnet._utils.locks import LOCK, FolderLock
lock, kills = FolderLock(Path(sys.argv[1])), sys.argv[2] == "kill"
child = os.fork()
if child == 0:
    os.close(1)  # or whoever reads it would wait for this one
    os.close(2)
    time.sleep(60 * kills)
    sys.exit()
print(child, flush=True)
if kills:
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
assert (Path(sys.argv[1]) / LOCK).exists()
try:
    FolderLock(Path(sys.argv[1]))
except BlockingIOError:
    print("held")
"""


def test_a_child_that_was_forked_neither_holds_nor_frees_the_folder(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path)]
    killed = subprocess.run([*command, "kill"], capture_output=True, text=True)
    FolderLock(tmp_path).release()
    os.kill(int(killed.stdout), signal.SIGKILL)
    assert subprocess.run([*command, ""], capture_output=True, text=True).stdout.endswith("held\n")


def test_a_run_is_described_the_same_in_every_process():
    environment = os.environ | {"PYTHONHASHSEED": "1"}  # here it is another
    code = "from tests.test_descriptions import spell; print(spell())"
    assert run_python("-c", code, env=environment) == f"{spell()}\n"


def test_the_command_line_says_how_to_resume_after_ctrl_c(tmp_path):
    """A whole process: Ctrl-C in the middle of 500 epochs, then --resume to the figure."""
    command = [sys.executable, "-m", "jaxnet", "lecture", "--only", "full_batch"]
    command += ["--checkpoint", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not any((tmp_path / "runs" / "full_batch").glob("[0-9]*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130 and "Traceback" not in errors and not output
    epoch = int(re.search(r"stopped after epoch (\d+) of 500, which is saved in", errors)[1])  # type: ignore
    assert 0 < epoch < 500 and "to resume: jaxnet lecture --only full_batch" in errors
    assert errors.rstrip().endswith("--resume")
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0 and ".9936/.9986 .9936/.9986 ✓" in done.stdout, done.stderr


SLOW_SWEEP = """
import sys, time
import jaxnet
from tests.test_sweeps import PLAIN, sweep
slow = lambda seen: time.sleep(float(sys.argv[2]))
sweep(net=PLAIN, epochs=2, seeds=range(12), grid={"lr": [0.1, 0.2]}, directory=sys.argv[1],
      hooks=[slow])
"""


def test_a_sweep_killed_midway_resumes_to_the_same_table(tmp_path):
    folder = tmp_path / "sweep"
    process = subprocess.Popen([sys.executable, "-c", SLOW_SWEEP, str(folder), "60"])
    deadline = time.monotonic() + 60
    while not list(folder.glob("group-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = {path: path.read_bytes() for path in folder.glob("group-*.safetensors")}
    assert there
    (folder / ".0123456789abcdef.part").write_bytes(b"half")
    seen: list[sweep.Progress] = []
    found = resumed(folder, resume=True, hooks=[seen.append])
    assert 0 < seen[0].done < 24 and seen[-1].done == 24, "some were there, the others were not"
    assert all(path.read_bytes() == content for path, content in there.items())
    assert found.to_csv() == resumed(tmp_path / "other").to_csv()
    assert (folder / "lanes.csv").read_text() == found.to_csv()
    again = resumed(folder, resume=True)
    assert again.group_sizes == () and again.to_csv() == found.to_csv()
    assert_same_bits(again.state(3).generator.key, found.state(3).generator.key)
