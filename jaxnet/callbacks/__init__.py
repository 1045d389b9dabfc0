"""What is called before, between and after the chunks of a run: `jaxnet.fit(..., callbacks=[...])`.

`Report`, `Validation`, `EarlyStopping`, `KeepBest`, `JsonLines`, `Progress`, `Checkpoint`,
`NanGuard` and `DeferredSigint`; a function of a `Chunk`, or a `Callback` of your own, is called in
the same way and ends the run by raising `Stop`.
"""

from jaxnet.callbacks.checkpoint import Checkpoint
from jaxnet.callbacks.early_stopping import EarlyStopping
from jaxnet.callbacks.json_lines import JsonLines
from jaxnet.callbacks.keep_best import KeepBest
from jaxnet.callbacks.nan_guard import NanGuard, NotFinite, all_finite
from jaxnet.callbacks.progress import Progress
from jaxnet.callbacks.report import Report
from jaxnet.callbacks.sigint import DeferredSigint, Interrupted
from jaxnet.callbacks.validation import Validation
from jaxnet.train.loop import Callback, Chunk, Run, Stop

__all__ = [
    "Callback",
    "Checkpoint",
    "Chunk",
    "DeferredSigint",
    "EarlyStopping",
    "Interrupted",
    "JsonLines",
    "KeepBest",
    "NanGuard",
    "NotFinite",
    "Progress",
    "Report",
    "Run",
    "Stop",
    "Validation",
    "all_finite",
]
