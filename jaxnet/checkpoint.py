"""Runs saved on disk and found again: Orbax's files, with a digest that restoring verifies."""

import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.archive import Damaged, check, describe, list_differences, name_leaves, pack, unpack
from jaxnet.checks import check_count, check_number, check_state_kind
from jaxnet.hosts import agree, is_first, on_first
from jaxnet.state import Chunk, History, TrainState

_SHARE = 20  # a long history takes long to write: saving stays below this part of the time
_SHOWN = 4  # arrays that differ: a deep net has hundreds


class Another(ValueError):
    """A checkpoint of another run: another net, other data or other settings."""


class Checkpoints:
    """A folder of checkpoints of one run, and the hook for `jaxnet.fit` that fills it.

    Each is a folder named by its epoch, which Orbax writes under another name and then moves into
    place: a process that is killed while it saves leaves the ones before. It holds the whole
    `TrainState` (weights, model and optimizer state, generators, steps), the losses and reports so
    far and `about`, with a SHA-256 digest of them all. A run stands between two epochs whenever it
    is saved, so its place in the rows is an epoch's beginning, and the order of the next epoch is
    what its generator draws. In many processes (`jaxnet.hosts`) every one makes this object and
    calls it in turn with the others; the first alone reads and writes, and hands on what it found.
    An array whose parts lie with many processes is brought together for that, so that each must be
    able to hold it.

    Args:
      directory: made where it is missing.
      keep: how many stay; older ones are deleted once a newer one is complete.
      seconds: at least so many between two saves by the hook, and at least twenty times as long as
        the last one took; 0 saves whenever it is called. The last of the epochs asked for is saved
        always.
      about: what identifies the run, a dictionary of what JSON can hold.

    Raises:
      ValueError: `keep` is below 1, or `seconds` below 0.
      OSError: the folder cannot be made or written.

    torch has `torch.save` and `torch.load` for one file at a time; when to save, how many to keep
    and whether a file is whole are the caller's there.

    >>> import tempfile, jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> run = dict(loss=lambda outputs, y: ((outputs - y) ** 2).mean(),
    ...            optimizer=jaxnet.optim.sgd(0.1))
    >>> x = jnp.array([[1.0], [2.0]])
    >>> checkpoints = Checkpoints(tempfile.mkdtemp())
    >>> state, _ = jaxnet.fit(net, (x, x), epochs=2, seed=0, hooks=[checkpoints], **run)
    >>> saved = checkpoints.restore(like=state)
    >>> state, history = jaxnet.fit(net, (x, x), epochs=5, state=saved, **run)
    >>> len(history.losses), int(state.step)
    (5, 5)

    Source: `orbax.checkpoint.CheckpointManager`.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep: int = 3,
        seconds: float | int = 1.0,
        about: Mapping[str, Any] | None = None,
    ):
        self.directory = Path(directory).absolute()
        self.failure: str | None = None
        """Why the newest epoch that should have been saved is not, if it is not."""
        self.saved: int | None = None
        """The newest epoch that this object saved or restored."""
        self.failed: int | None = None
        """The newest epoch that it could not save, None once a save has worked."""
        self._keep = check_count("keep", keep)
        self._seconds = check_number("seconds", seconds)
        if not self._seconds >= 0:
            raise ValueError(f"seconds must be a number of at least 0, not {seconds!r}")
        try:
            self._about = json.loads(json.dumps(dict(about or {})))
        except (TypeError, ValueError) as error:
            raise TypeError(f"about must be a dictionary that JSON can hold: {error}") from error
        self._next = -float("inf")
        self._unreadable: list[int] = []
        self._manager: Any = None
        on_first(lambda: _prepare(self.directory))
        on_first(self._open)

    def _open(self) -> None:
        """Look at the folder anew."""
        self.close()
        self._manager = _open(self.directory, self._keep)

    def close(self) -> None:
        """Wait for what Orbax does beside; nothing is saved afterwards."""
        if self._manager is not None:
            self._manager.close()

    def __call__(self, chunk: Chunk) -> None:
        """Save the run as it stands after a chunk, unless one was saved a moment ago."""
        begun = time.monotonic()
        if agree(begun >= self._next) or chunk.epoch == chunk.epochs:
            self.save(chunk.epoch, chunk.state, chunk.history)
            pause = max(self._seconds, _SHARE * (time.monotonic() - begun))
            self._next = begun + pause if self._seconds else begun

    def save(self, epoch: int, state: TrainState, history: History) -> bool:
        """Save a run after an epoch, whatever the time; whether that worked.

        Where it does not (a full disk, a folder that went away) there is a warning, and what was
        saved before stays.

        Raises:
          ValueError: the folder has checkpoints of a run that was not restored.
        """
        if epoch == self.saved:
            return True
        if self.saved is None and (epochs := self.list_epochs()):
            raise ValueError(
                f"directory {self.directory} has checkpoints, up to epoch {epochs[-1]}, of a run "
                "that was not restored: restore it, or choose an empty folder"
            )
        packed = pack(state, history, self._about)
        self.failure = on_first(lambda: self._save(epoch, packed))
        if self.failure is not None:
            self.failed = epoch
            if is_first():
                warnings.warn(f"{self.failure}; what was saved before stays", stacklevel=2)
            return False
        self.saved, self.failed = epoch, None
        return True

    def _save(self, epoch: int, packed: tuple[dict[str, np.ndarray], dict[str, Any]]) -> str | None:
        """Write what was packed; why that could not be done, if it could not."""
        replaced = None
        try:
            replaced = self._move_aside(epoch)
            _write(self._manager, epoch, *packed)
        except Exception as error:  # of whatever kind: Orbax's layers raise their own
            if replaced is not None:
                replaced.replace(self.directory / str(epoch))
                self._open()
            return f"epoch {epoch} could not be saved in {self.directory}: {_line(error)}"
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        return None

    def list_epochs(self) -> list[int]:
        """The epochs that have a checkpoint, whole or not, the oldest first."""
        return on_first(lambda: sorted(self._manager.all_steps()))

    def restore(self, like: TrainState) -> tuple[TrainState, History] | None:
        """The newest run that is whole, for `jaxnet.fit(..., state=...)`; None where there is none.

        A checkpoint that is cut short, changed by a bit or not jaxnet's is named in a warning and
        skipped for the one before it; the next save gives it a name that ends in ".unreadable".

        Args:
          like: a state of the same run, the first one for example, which gives the structure.

        Raises:
          Another: the checkpoint is of another net or optimizer, or was saved with another
            `about`; a ValueError, which lists the differences.
          Damaged: there are checkpoints, and none can be read; a ValueError.
        """
        check_state_kind(like, "like")
        shapes = describe(name_leaves(like))
        found, self._unreadable = on_first(lambda: self._find(shapes))
        if found is None:
            return None
        self.saved, arrays, record = found
        return unpack(arrays, record, like)

    def _find(self, shapes: dict[str, str]) -> tuple[Any, list[int]]:
        """The newest checkpoint that is whole, and those that cannot be read."""
        epochs, why = sorted(self._manager.all_steps()), ""
        for epoch in reversed(epochs):
            place = self.directory / str(epoch)
            try:
                arrays, record = _read(self._manager, epoch)
            except Damaged as error:
                why = f"checkpoint {place} cannot be read: {error}"
                warnings.warn(f"{why}; it is skipped", stacklevel=2)
                self._unreadable.append(epoch)
                continue
            differences = list_differences(record["about"], self._about)
            others = list_differences(record["arrays"], shapes)
            differences += others[:_SHOWN]
            if more := others[_SHOWN:]:
                differences.append(f"and {len(more)} more arrays")
            if differences:
                listed = "\n  ".join(differences)
                raise Another(f"checkpoint {place} is of another run:\n  {listed}")
            return (epoch, arrays, record), self._unreadable
        if epochs:
            raise Damaged(f"{self.directory} has no checkpoint that can be read: {why}")
        return None, self._unreadable

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
        self._open()
        return replaced

    def _rename(self, epoch: int) -> Path:
        target = Path(
            tempfile.mkdtemp(suffix=".unreadable", prefix=f"{epoch}-", dir=self.directory)
        )
        return (self.directory / str(epoch)).replace(target)


def list_epochs(directory: Path) -> list[int]:
    """The epochs that a folder has checkpoints of, whole or not; nothing is made or changed.

    >>> list_epochs(Path("no", "such", "folder"))
    []
    """
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def _prepare(directory: Path) -> None:
    """Make the folder, and see that it can be written."""
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"directory must be a folder, not the file {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"directory {directory} cannot be written")


def _open(directory: Path, keep: int) -> Any:
    import orbax.checkpoint as ocp  # takes half a second to import

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=False,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        # The first process alone reads and writes; the others have what it found.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="jaxnet"
        ),
    )
    with _quiet():  # an old one whose deletion was cut off lacks files, and is deleted later
        return ocp.CheckpointManager(directory, options=options, item_names=("arrays", "record"))


def _write(manager: Any, epoch: int, arrays: dict[str, np.ndarray], record: Any) -> None:
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
    )
    with _quiet():
        done = manager.save(epoch, args=args, force=True)
    if not done:
        raise OSError("Orbax did not save it")


def _read(manager: Any, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of a checkpoint that is whole; Damaged for any other."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
    try:
        with _quiet():
            found = manager.restore(epoch, args=args)
        arrays = {name: np.asarray(array) for name, array in found["arrays"].items()}
        record = dict(found["record"])
        check(arrays, record)
    except Damaged:
        raise
    except Exception as error:  # whatever a changed byte leads to
        raise Damaged(_line(error)) from error
    return arrays, record


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Orbax and its threads print of files that cannot be used: the caller says it.

    The reads of other arrays that were under way find their loop closed, each with a traceback.
    """
    from absl import logging

    hook, level = sys.unraisablehook, logging.get_verbosity()

    def tell(what: Any) -> None:
        if "Event loop is closed" not in str(what.exc_value):
            hook(what)

    sys.unraisablehook = tell
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    except Exception:
        time.sleep(0.1)  # for the threads to be done with it
        raise
    finally:
        sys.unraisablehook = hook
        logging.set_verbosity(level)


def _line(error: Exception) -> str:
    """An error as the beginning of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
