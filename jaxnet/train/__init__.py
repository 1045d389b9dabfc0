"""Training: one step, epochs as compiled programs, the host loop, evaluation.

`fit` trains a net; `run` trains by a step of your own; `make_train_step` gives the step alone.
"""

from jaxnet.train import metrics
from jaxnet.train.callback import Chunk
from jaxnet.train.epoch import Draw, Program
from jaxnet.train.evaluate import Metrics, evaluate, predict
from jaxnet.train.fit import fit
from jaxnet.train.loop import run
from jaxnet.train.plan import Run
from jaxnet.train.sharding import OnMesh, SingleDevice
from jaxnet.train.state import History, Report, StepInfo, TrainState
from jaxnet.train.step import make_draws, make_train_step, start

__all__ = [
    "Chunk",
    "Draw",
    "History",
    "Metrics",
    "OnMesh",
    "Program",
    "Report",
    "Run",
    "SingleDevice",
    "StepInfo",
    "TrainState",
    "evaluate",
    "fit",
    "make_draws",
    "make_train_step",
    "metrics",
    "predict",
    "run",
    "start",
]
