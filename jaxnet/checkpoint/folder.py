"""A folder of checkpoints of one run: Orbax's files, with a digest that restoring verifies."""

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet._utils.differences import as_plain, check_same, warn_of_versions
from jaxnet._utils.files import as_path
from jaxnet._utils.locks import FolderLock
from jaxnet._utils.processes import any_process, is_primary, run_on_primary
from jaxnet._utils.validation import check_count
from jaxnet.checkpoint._contents import (
    CorruptCheckpointError,
    compare,
    describe,
    name_leaves,
    pack,
    unpack,
)
from jaxnet.checkpoint._orbax import line, open_manager, read, write
from jaxnet.train.state import History, TrainState, check_state


class Checkpoints:
    """A folder of checkpoints of one run.

    Each is a folder named by its epoch, which Orbax writes under another name and then moves into
    place: a process that is killed while it saves leaves the ones before. It holds the whole
    `TrainState` (weights, model and optimizer state, generators, steps), the losses and reports so
    far and `about`, with a SHA-256 digest of them all. A run is between two epochs whenever it is
    saved, so its place in the data is an epoch's beginning, and the order of the next epoch is
    what its generator draws.

    From the first `save` on, or from `lock`, until `close`, no other object writes in the folder,
    in this process or another; it can be read. A lock that the system drops with the process holds
    it. Of many processes every one makes this object and calls it in turn with the others, on a
    folder that all of them see; process 0 alone writes. An array that is sharded over processes is
    gathered for that, so that each must be able to hold it.

    Args:
      directory: made where it is missing.
      keep: how many stay; older ones are deleted once a newer one is complete.
      about: what identifies the run, a dictionary of what JSON can hold; None compares the arrays
        alone.

    Raises:
      ValueError: `keep` is below 1, or Orbax cannot write in a folder of this name.
      OSError: the folder cannot be made or written.

    >>> import tempfile, jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> run = dict(loss=lambda outputs, y: ((outputs - y) ** 2).mean(),
    ...            optimizer=jaxnet.optim.sgd(0.1))
    >>> x = jnp.array([[1.0], [2.0]])
    >>> checkpoints = Checkpoints(tempfile.mkdtemp())
    >>> state, history = jaxnet.fit(net, (x, x), epochs=2, seed=0, **run)
    >>> checkpoints.save(2, state, history)
    True
    >>> state, history = checkpoints.restore(like=state)
    >>> len(history.losses), int(state.step)
    (2, 2)

    Source: `orbax.checkpoint.CheckpointManager`.
    """

    def __init__(
        self, directory: str | os.PathLike, *, keep: int = 3, about: Mapping[str, Any] | None = None
    ):
        self.directory = as_path(directory, "directory").absolute()
        check_place("directory", self.directory)
        self.failure: str | None = None
        """Why the newest epoch that should have been saved is not, if it is not."""
        self.saved: int | None = None
        """The newest epoch that this object saved or restored."""
        self.failed: int | None = None
        """The newest epoch that it could not save, None once a save has worked."""
        self._keep = check_count("keep", keep)
        self._about = None if about is None else as_plain("about", about)
        self._changed: set[str] = set()
        self._unreadable: list[int] = []
        self._locked, self._lock = False, None
        self._opened: Any = None
        run_on_primary(partial(_prepare, self.directory))

    @property
    def _manager(self) -> Any:
        """Orbax's, which lists the folder when it is opened."""
        if self._opened is None:
            clean = self._locked and is_primary()  # what another is writing must stay
            self._opened = open_manager(self.directory, self._keep, clean)
        return self._opened

    def _shut(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    def lock(self) -> None:
        """Let no other object write in the folder until `close`; `save` does it by itself.

        Raises:
          BlockingIOError: another one writes there; the message says which process, and since when.
          ValueError: another one has written there since this one first looked.
        """
        if not self._locked:
            self._lock = run_on_primary(self._take)
            self._locked = True
            self._shut()

    def _take(self) -> FolderLock:
        _prepare(self.directory)  # which may have gone away
        seen, lock = self.list_epochs(), FolderLock(self.directory)
        self._shut()
        if (now := self.list_epochs()) != seen:
            lock.release()
            raise ValueError(
                f"directory {self.directory} had checkpoints of the epochs {seen} when it was "
                f"opened and has {now} now: another run has written there"
            )
        return lock

    def close(self) -> None:
        """Let others write in the folder. What is called afterwards opens it again."""
        self._shut()
        if self._lock is not None:
            self._lock.release()
        self._locked, self._lock = False, None

    def save(self, epoch: int, state: TrainState, history: History) -> bool:
        """Save a run after an epoch; whether that worked.

        Where it does not (a full disk, a folder that went away) there is a warning, and what was
        saved before stays.

        Raises:
          ValueError: the folder has checkpoints of a run that was not restored.
          BlockingIOError: another run writes in it.
        """
        if epoch == self.saved:
            return True
        if self.saved is None and (epochs := self.list_epochs()):
            raise ValueError(
                f"directory {self.directory} has checkpoints, up to epoch {epochs[-1]}, of a run "
                "that was not restored: restore it, or choose an empty folder"
            )
        self.lock()
        packed = pack(state, history, self._about or {}, self._changed)
        self.failure = self._save(epoch, packed) if is_primary() else None
        if any_process(self.failure is not None):
            self.failed = epoch
            if self.failure is not None:
                warnings.warn(f"{self.failure}; what was saved before stays", stacklevel=2)
            return False
        self.saved, self.failed = epoch, None
        return True

    def _save(self, epoch: int, packed: tuple[dict[str, np.ndarray], dict[str, Any]]) -> str | None:
        """Write what was packed; why that could not be done, if it could not."""
        replaced = None
        try:
            replaced = self._move_aside(epoch)
            write(self._manager, epoch, *packed)
        except Exception as error:  # of whatever kind: Orbax's layers raise their own
            if replaced is not None:
                replaced.replace(self.directory / str(epoch))
            self._shut()  # Orbax's own list of the folder may be wrong now
            return f"epoch {epoch} could not be saved in {self.directory}: {line(error)}"
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        return None

    def list_epochs(self) -> list[int]:
        """The epochs that have a checkpoint, intact or not, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore(
        self, like: TrainState, *, changed: Sequence[str] = ()
    ) -> tuple[TrainState, History] | None:
        """The newest intact run, for `jaxnet.fit(..., state=...)`; None where there is none.

        A checkpoint that is cut short, changed by a bit or not jaxnet's is named in a warning and
        skipped for the one before it; the next save gives it a name that ends in ".unreadable".

        Args:
          like: a state of the same run, the first one for example, which gives the structure.
          changed: names in `about` that may differ from the checkpoint's, `"optimizer.lr"`;
            `"optimizer"` stands for all below it. The arrays must fit nevertheless.

        Warns where the checkpoint was written with other versions of JAX, Flax or optax.

        Raises:
          CheckpointMismatchError: the checkpoint is of another net or optimizer, was saved with
            another `about` or in another format; a ValueError, which lists the differences.
          ValueError: a name in `changed` has not changed since the run began.
          CorruptCheckpointError: there are checkpoints, and none can be read; a ValueError.
        """
        check_state(like, "like")
        shapes, why = describe(name_leaves(like)), ""
        epochs = self.list_epochs()
        for epoch in reversed(epochs):
            place = self.directory / str(epoch)
            try:
                arrays, record = read(self._manager, epoch)
            except CorruptCheckpointError as error:
                why = f"checkpoint {place} cannot be read: {error}"
                warnings.warn(f"{why}; it is skipped", stacklevel=2)
                self._unreadable.append(epoch)
                continue
            accepted = compare(place, record, self._about, shapes, changed)
            self._changed, self.saved = {*record["changed"], *changed}, epoch
            check_same({"the newest checkpoint": epoch})  # the folder may be late somewhere
            warn_of_versions(f"checkpoint {place}", record["versions"])
            return unpack(arrays, record, like, accepted)
        if epochs:
            raise CorruptCheckpointError(
                f"{self.directory} has no checkpoint that can be read: {why}"
            )
        return None

    def _move_aside(self, epoch: int) -> Path | None:
        """Rename what cannot be read, and an epoch that is saved again; gives the latter's place.

        Orbax would keep what cannot be read for its number, and delete newer ones for it.
        """
        moved = {
            number: self._rename(number)
            for number in {*self._unreadable, epoch} & set(self._manager.all_steps())
        }
        if not moved:
            return None
        replaced = None if epoch in self._unreadable else moved.get(epoch)
        self._unreadable = []
        self._shut()
        return replaced

    def _rename(self, epoch: int) -> Path:
        place, number = self.directory / str(epoch), 0
        while (target := place.with_name(f"{epoch}-{number}.unreadable")).exists():
            number += 1
        return place.replace(target)


def list_epochs(directory: str | os.PathLike) -> list[int]:
    """The epochs that a folder has checkpoints of, intact or not; nothing is made or changed.

    >>> list_epochs("no/such/folder")
    []
    """
    directory = as_path(directory, "directory")
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def check_place(name: str, directory: Path) -> None:
    """Reject a path that Orbax takes for a pattern: nothing of what it writes there can be read.

    >>> check_place("directory", Path("runs[1]"))
    Traceback (most recent call last):
    ValueError: directory must have a path in UTF-8 without * ? [ \\ for Orbax, not '...runs[1]'
    """
    path = directory.absolute().as_posix()
    if set(path) & set("*?[\\") or path != path.encode(errors="replace").decode():
        raise ValueError(
            f"{name} must have a path in UTF-8 without * ? [ \\ for Orbax, not {path!r}"
        )


def _prepare(directory: Path) -> None:
    """Make the folder, and see that it can be written."""
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"directory must be a folder, not the file {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"directory {directory} cannot be written")
