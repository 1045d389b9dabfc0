"""Runs saved on disk and restored: what a checkpoint holds, where it is, whether it is intact."""

from jaxnet.checkpoint._contents import CheckpointMismatchError, CorruptCheckpointError
from jaxnet.checkpoint.folder import Checkpoints, list_epochs

__all__ = ["CheckpointMismatchError", "Checkpoints", "CorruptCheckpointError", "list_epochs"]
