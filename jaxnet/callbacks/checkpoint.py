"""Checkpoints of a run as it goes, and resuming from them."""

import os
import time
from collections.abc import Sequence
from typing import Any

from jaxnet._utils.processes import broadcast_from_primary
from jaxnet._utils.validation import check_count, check_number
from jaxnet.checkpoint.folder import Checkpoints
from jaxnet.precision import use
from jaxnet.train._checks import count_epochs
from jaxnet.train.loop import Callback, Chunk, Run

_SHARE = 20  # a long history takes long to write: saving stays below this part of the time


class Checkpoint(Callback):
    """Saves a run as it goes, at its end, and resumes it: the same bits as one never stopped.

    Args:
      folder: the run's own, made where it is missing; `jaxnet.checkpoint.Checkpoints` says what it
        holds. Of many processes all must see it; process 0 writes.
      keep: how many checkpoints stay; older ones are deleted once a newer one is complete.
      resume: resume from the newest checkpoint that is intact; without one, begin. `epochs` are
        the whole run's: more than before continues it, as many returns the run as it ended.
      changed: names of settings that this run has otherwise than the checkpoint, and goes on with,
        `("optimizer.lr",)`: those that the error of another run lists. `"optimizer"` stands for all
        below it. The arrays of the state must fit.
      seconds: at least so many between two saves, and at least twenty times as long as the last one
        took; 0 saves after every chunk. The last of the epochs asked for is always saved.

    Raises:
      ValueError: an argument is out of range; when the run begins, the folder has checkpoints and
        `resume` is False; they are of another run, with the differences; a name in `changed` has
        not changed; none can be read.
      OSError: the folder cannot be made or written, or another run writes in it: the message says
        which process on which host, and since when.

    torch has `torch.save` and `torch.load` for one file at a time; when to save, how many to keep
    and whether a file is intact are the caller's there.

    >>> import tempfile, jax.numpy as jnp, jaxnet
    >>> net, x = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)]), jnp.array([[1.0], [2.0]])
    >>> run = dict(loss=lambda outputs, y: ((outputs - y) ** 2).mean(), seed=0,
    ...            optimizer=jaxnet.optim.sgd(0.1))
    >>> folder = tempfile.mkdtemp()
    >>> state, history = jaxnet.fit(net, (x, x), epochs=2, callbacks=[Checkpoint(folder)], **run)
    >>> state, history = jaxnet.fit(net, (x, x), epochs=5, **run,
    ...                             callbacks=[Checkpoint(folder, resume=True)])
    >>> len(history.losses)
    5

    Source: `orbax.checkpoint.CheckpointManager`.
    """

    order = 90

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        keep: int = 3,
        resume: bool = False,
        changed: Sequence[str] = (),
        seconds: float | int = 1.0,
    ):
        self._folder, self._keep, self._resume = folder, check_count("keep", keep), bool(resume)
        if isinstance(changed, str) or not all(isinstance(name, str) for name in changed):
            raise TypeError(f"changed must be a list of names, not {changed!r}")
        if changed and not resume:
            raise ValueError("changed needs resume=True: it is what differs from the checkpoint")
        self._changed = tuple(changed)
        self._seconds = check_number("seconds", seconds)
        if not self._seconds >= 0:
            raise ValueError(f"seconds must be a number of at least 0, not {seconds!r}")

    def on_start(self, run: Run) -> Any:
        """Open the folder; with `resume`, give the run as it has it."""
        self._next = -float("inf")
        self._checkpoints = Checkpoints(self._folder, keep=self._keep, about=run.describe())
        self._checkpoints.lock()
        epochs = self._checkpoints.list_epochs()
        if epochs and not self._resume:
            raise ValueError(
                f"checkpoint {self._checkpoints.directory} has checkpoints already, up to epoch "
                f"{epochs[-1]}: resume=True resumes from there, or choose an empty folder"
            )
        with use(run.precision):
            saved = self._checkpoints.restore(like=run.state, changed=self._changed)
        if saved is not None:
            count_epochs(saved[1], run.batching.steps, run.epochs)
        return saved

    def on_chunk(self, chunk: Chunk) -> None:
        """Save the run as it is after a chunk, unless one was saved a moment ago."""
        begun = time.monotonic()
        if broadcast_from_primary(begun >= self._next) or chunk.epoch == chunk.epochs:
            self._checkpoints.save(chunk.epoch, chunk.state, chunk.history)
            pause = max(self._seconds, _SHARE * (time.monotonic() - begun))
            self._next = begun + pause if self._seconds else begun

    def on_end(self, run: Run) -> None:
        """Save where the run ended; of one that became NaN, its last finite state."""
        checkpoints: Any = getattr(self, "_checkpoints", None)
        if checkpoints is None:
            return
        ended: Any = run if run.error is None else run.error
        if hasattr(ended, "state") and hasattr(ended, "history"):
            epoch = len(ended.history.losses) // run.batching.steps
            failed = checkpoints.failed == epoch and run.error is None
            if epoch and not failed and checkpoints.save(epoch, ended.state, ended.history):
                run.saved_in = self._folder
                if run.error is not None:
                    where = checkpoints.directory
                    run.error.add_note(f"epoch {epoch}, before that, is saved in {where}")
        checkpoints.close()
