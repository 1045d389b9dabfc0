"""A folder of checkpoints of one run: Orbax's files, with a digest that restoring verifies."""

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet._utils.files import as_path
from jaxnet._utils.processes import any_process, barrier, check_same, is_primary
from jaxnet._utils.validation import check_count
from jaxnet.checkpoint._contents import (
    CheckpointMismatchError,
    CorruptCheckpointError,
    check,
    describe,
    list_differences,
    name_leaves,
    pack,
    unpack,
)
from jaxnet.train.state import History, TrainState, check_state

_SHOWN = 4  # arrays that differ: a deep net has hundreds


class Checkpoints:
    """A folder of checkpoints of one run.

    Each is a folder named by its epoch, which Orbax writes under another name and then moves into
    place: a process that is killed while it saves leaves the ones before. It holds the whole
    `TrainState` (weights, model and optimizer state, generators, steps), the losses and reports so
    far and `about`, with a SHA-256 digest of them all. A run is between two epochs whenever it is
    saved, so its place in the data is an epoch's beginning, and the order of the next epoch is
    what its generator draws. Of many processes every one makes this object and calls it in turn
    with the others, on a folder that all of them see; process 0 alone writes. An array that is
    sharded over processes is gathered for that, so that each must be able to hold it.

    Args:
      directory: made where it is missing.
      keep: how many stay; older ones are deleted once a newer one is complete.
      about: what identifies the run, a dictionary of what JSON can hold; None compares the arrays
        alone.

    Raises:
      ValueError: `keep` is below 1.
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
        self.failure: str | None = None
        """Why the newest epoch that should have been saved is not, if it is not."""
        self.saved: int | None = None
        """The newest epoch that this object saved or restored."""
        self.failed: int | None = None
        """The newest epoch that it could not save, None once a save has worked."""
        self._keep = check_count("keep", keep)
        try:
            self._about = None if about is None else json.loads(json.dumps(dict(about)))
        except (TypeError, ValueError) as error:
            raise TypeError(f"about must be a dictionary that JSON can hold: {error}") from error
        self._unreadable: list[int] = []
        self._manager: Any = None
        if is_primary():
            _prepare(self.directory)
        barrier("jaxnet checkpoints")
        self._open()

    def _open(self) -> None:
        """List the folder anew."""
        self.close()
        self._manager = _open(self.directory, self._keep)

    def close(self) -> None:
        """Wait for what Orbax does in the background; nothing is saved afterwards."""
        if self._manager is not None:
            self._manager.close()

    def save(self, epoch: int, state: TrainState, history: History) -> bool:
        """Save a run after an epoch; whether that worked.

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
        packed = pack(state, history, self._about or {})
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
            _write(self._manager, epoch, *packed)
        except Exception as error:  # of whatever kind: Orbax's layers raise their own
            if replaced is not None:
                replaced.replace(self.directory / str(epoch))
            self._open()  # Orbax's own list of the folder may be wrong now
            return f"epoch {epoch} could not be saved in {self.directory}: {_line(error)}"
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
        return None

    def list_epochs(self) -> list[int]:
        """The epochs that have a checkpoint, intact or not, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore(self, like: TrainState) -> tuple[TrainState, History] | None:
        """The newest intact run, for `jaxnet.fit(..., state=...)`; None where there is none.

        A checkpoint that is cut short, changed by a bit or not jaxnet's is named in a warning and
        skipped for the one before it; the next save gives it a name that ends in ".unreadable".

        Args:
          like: a state of the same run, the first one for example, which gives the structure.

        Raises:
          CheckpointMismatchError: the checkpoint is of another net or optimizer, or was saved with
            another `about`; a ValueError, which lists the differences.
          CorruptCheckpointError: there are checkpoints, and none can be read; a ValueError.
        """
        check_state(like, "like")
        shapes, why = describe(name_leaves(like)), ""
        epochs = self.list_epochs()
        for epoch in reversed(epochs):
            place = self.directory / str(epoch)
            try:
                arrays, record = _read(self._manager, epoch)
            except CorruptCheckpointError as error:
                why = f"checkpoint {place} cannot be read: {error}"
                warnings.warn(f"{why}; it is skipped", stacklevel=2)
                self._unreadable.append(epoch)
                continue
            self._compare(place, record, shapes)
            self.saved = epoch
            check_same({"the newest checkpoint": str(epoch)})  # the folder may be late somewhere
            return unpack(arrays, record, like)
        if epochs:
            raise CorruptCheckpointError(
                f"{self.directory} has no checkpoint that can be read: {why}"
            )
        return None

    def _compare(self, place: Path, record: Mapping[str, Any], shapes: dict[str, str]) -> None:
        """Raise where a checkpoint is of another run."""
        differences = []
        if self._about is not None:
            differences = list_differences(record["about"], self._about)
        others = list_differences(record["arrays"], shapes)
        differences += others[:_SHOWN]
        if more := others[_SHOWN:]:
            differences.append(f"and {len(more)} more arrays")
        if differences:
            listed = "\n  ".join(differences)
            raise CheckpointMismatchError(f"checkpoint {place} is of another run:\n  {listed}")

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


def _prepare(directory: Path) -> None:
    """Make the folder, and see that it can be written."""
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(f"directory must be a folder, not the file {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"directory {directory} cannot be written")


def _open(directory: Path, keep: int) -> Any:
    import orbax.checkpoint as ocp  # takes half a second to import

    # Each process reads by itself and process 0 alone writes: Orbax is told that it is alone.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"jaxnet{jax.process_index()}",
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=False,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=is_primary(),
        multiprocessing_options=alone,
    )
    return ocp.CheckpointManager(directory, options=options, item_names=("arrays", "record"))


def _write(manager: Any, epoch: int, arrays: dict[str, np.ndarray], record: Any) -> None:
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
    )
    if not manager.save(epoch, args=args, force=True):
        raise OSError("Orbax did not save it")


def _read(manager: Any, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record of a checkpoint that is intact; an error for any other."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
    try:
        found = manager.restore(epoch, args=args)
        arrays = {name: np.asarray(array) for name, array in found["arrays"].items()}
        record = dict(found["record"])
        check(arrays, record)
    except CorruptCheckpointError:
        raise
    except Exception as error:  # whatever a changed byte leads to
        raise CorruptCheckpointError(_line(error)) from error
    return arrays, record


def _line(error: Exception) -> str:
    """An error as the beginning of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
