"""A folder has one run at a time: another one is told which process has it, and since when."""

import errno
import os
import re
import socket
from datetime import datetime
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet._utils import locks, processes
from jaxnet._utils.locks import LOCK, FolderLock
from jaxnet.callbacks import Checkpoint, KeepBest, Report
from jaxnet.checkpoint import Checkpoints, list_epochs

X = np.zeros(4, np.float32)
IN_USE = f"in use by process {os.getpid()} on {re.escape(socket.gethostname())} since 20"


def halve(weight, batch, draws):
    return weight / 2, weight


def train(epochs: int, *around: Any):
    """A number that each epoch halves."""
    return jaxnet.train.run(halve, jnp.ones(()), (X, X), epochs=epochs, seed=0, callbacks=around)


@pytest.fixture(scope="module")
def run():
    """A state and its history."""
    return train(2)


def test_the_holder_is_named_until_it_lets_go(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError, match=IN_USE) as told:
        FolderLock(tmp_path)
    since = datetime.fromisoformat(re.search(r"since (.*?): let", str(told.value))[1])  # type: ignore
    assert 0 <= (datetime.now().astimezone() - since).total_seconds() < 60
    lock.release()
    lock.release()
    again = FolderLock(tmp_path)
    del again
    assert not list(tmp_path.iterdir()) and FolderLock(tmp_path)


def test_a_planted_link_is_not_followed(tmp_path):
    """What it leads to would be emptied."""
    victim = tmp_path / "victim"
    victim.write_text("victim")
    (tmp_path / LOCK).symlink_to(victim)
    with pytest.raises(OSError, match=LOCK):
        FolderLock(tmp_path)
    assert victim.read_text() == "victim"


def test_a_run_that_starts_in_the_folder_of_another_is_told(tmp_path, run):
    """As it begins, before it computes anything; what the first one saved stays."""
    seen = []

    def begin_another(chunk):
        for other in (Checkpoint(tmp_path), Checkpoint(tmp_path, resume=True)):
            with pytest.raises(BlockingIOError, match=IN_USE):
                train(3, other, seen.append)
        if chunk.epoch == 1:
            with pytest.raises(BlockingIOError, match=IN_USE):
                Checkpoints(tmp_path).save(9, *run)

    train(2, Checkpoint(tmp_path, seconds=0), Report(), begin_another)
    assert not seen and list_epochs(tmp_path) == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
    train(4, Checkpoint(tmp_path, resume=True), Report())
    assert list_epochs(tmp_path)[-1] == 4


def test_a_folder_is_read_while_another_writes(tmp_path, run):
    """Nothing of a save that is under way is deleted."""
    writer, half = Checkpoints(tmp_path), tmp_path / "3.orbax-checkpoint-tmp"
    assert writer.save(2, *run)
    half.mkdir()
    found = Checkpoints(tmp_path).restore(like=run[0])
    assert found is not None and list_epochs(tmp_path) == [2] and half.is_dir()
    writer.close()
    assert writer.save(4, *run) and list_epochs(tmp_path) == [2, 4] and not half.exists()


def test_what_was_written_since_a_folder_was_read_is_not_overwritten(tmp_path, run):
    Checkpoints(tmp_path).save(2, *run)
    late, other = Checkpoints(tmp_path), Checkpoints(tmp_path)
    for checkpoints in (late, other):
        assert checkpoints.restore(like=run[0]) is not None
    assert other.save(3, *run)
    other.close()
    with pytest.raises(ValueError, match=r"epochs \[2\] when it was opened and has \[2, 3\] now"):
        late.save(4, *run)
    assert FolderLock(tmp_path)


def test_what_was_dropped_without_close_holds_nothing(tmp_path, run):
    """And nothing is held where a run has failed, or where its best state is kept."""
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.save(2, *run)
    del checkpoints
    FolderLock(tmp_path).release()

    def fail(chunk):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as kept:
        train(9, Checkpoint(tmp_path / "failed"), fail)
    best = KeepBest("loss", checkpoints=Checkpoints(tmp_path / "best"))
    train(2, Report(), best)
    assert FolderLock(tmp_path / "failed") and FolderLock(tmp_path / "best")
    assert kept and best.state is not None


def test_a_lock_file_that_was_left_behind_holds_nothing(tmp_path):
    """Of a process that was killed; of one whose file was removed just as it was locked."""
    (tmp_path / LOCK).write_text("process 1 on another since 1970")
    first = FolderLock(tmp_path)
    (tmp_path / LOCK).unlink()
    second = FolderLock(tmp_path)
    first.release()
    with pytest.raises(BlockingIOError, match=IN_USE):
        FolderLock(tmp_path)
    second.release()
    assert not list(tmp_path.iterdir())


def test_without_locks_a_run_goes_on_with_a_warning(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=f"without locks .{os.strerror(errno.ENOLCK)}.: two runs"):
        train(2, Checkpoint(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    monkeypatch.setattr(locks, "fcntl", None)
    with pytest.warns(UserWarning, match="without locks .this platform has no fcntl.flock"):
        FolderLock(tmp_path).release()


def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: os.stat(tmp_path / "nothing" / "here"))
    with pytest.raises(OSError, match="nothing/here"):
        FolderLock(tmp_path)


def test_what_fails_in_process_0_fails_in_all(monkeypatch):
    """The others, which would wait for it, are told why."""
    said = ["PermissionError: not yours"]
    monkeypatch.setattr(processes, "gather_texts", lambda text: said + [text])
    monkeypatch.setattr(processes, "is_primary", lambda: False)
    with pytest.raises(OSError, match="process 0 failed: PermissionError: not yours"):
        processes.run_on_primary(lambda: 1)
    said[0] = ""
    assert processes.run_on_primary(lambda: 1) is None
