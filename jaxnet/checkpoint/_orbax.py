"""Orbax's files: written, read and listed by each process for itself."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.checkpoint._contents import CorruptCheckpointError, check

_SHOWN = 100
"""Characters of an error, at either end."""


def open_manager(directory: Path, keep: int, clean: bool) -> Any:
    """Orbax's view of a folder; `clean` deletes what a killed process left half written."""
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
        cleanup_tmp_directories=clean,
        multiprocessing_options=alone,
    )
    return ocp.CheckpointManager(directory, options=options, item_names=("arrays", "record"))


def write(manager: Any, epoch: int, arrays: dict[str, np.ndarray], record: Any) -> None:
    """Write a checkpoint, in full or not at all."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
    )
    if not manager.save(epoch, args=args, force=True):
        raise OSError("Orbax did not save it")


def read(manager: Any, epoch: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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
        raise CorruptCheckpointError(line(error)) from error
    return arrays, record


def line(error: Exception) -> str:
    """An error in one line: its beginning and its end, where the system's own words are."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).partition(" [tensorstore_spec")[0]
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} ... {text[-_SHOWN:]}"
