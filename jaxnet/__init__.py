"""A PyTorch lecture on small networks as pure-functional JAX: same seed, same numbers.

Sub-modules: `random` (torch's streams), `nn`, `masks`, `losses`, `optim`, `metrics`, `data`,
`batches`, `train`, `convert`, `cache`, `precision`, `progress`, `lecture` and `sweeps`.
"""

from jaxnet import (
    batches,
    cache,
    convert,
    data,
    lecture,
    losses,
    masks,
    metrics,
    nn,
    optim,
    random,
    sweeps,
    train,
)
from jaxnet.evaluation import evaluate, predict
from jaxnet.nn import init
from jaxnet.state import History, TrainState
from jaxnet.sweeps import run_sweep
from jaxnet.train import fit

__version__ = "0.1.0"

__all__ = [
    "History",
    "TrainState",
    "batches",
    "cache",
    "convert",
    "data",
    "evaluate",
    "fit",
    "init",
    "lecture",
    "losses",
    "masks",
    "metrics",
    "nn",
    "optim",
    "predict",
    "random",
    "run_sweep",
    "sweeps",
    "train",
]
