"""A PyTorch lecture on small networks as pure-functional JAX: same seed, same numbers.

`fit`, `run_sweep`, `evaluate` and `predict` train and evaluate; `random` has torch's streams, `nn`,
`losses` and `optim` torch's layers, losses and optimizers, `data` its loaders, `callbacks` what a
run calls on its way, `checkpoint` what it saves, `convert` torch's objects as jaxnet's, `program`
a torch net's graph as plain data.
"""

from jaxnet import (
    cache,
    callbacks,
    certificate,
    checkpoint,
    convert,
    data,
    lecture,
    losses,
    nn,
    optim,
    precision,
    program,
    random,
    sweep,
    train,
)
from jaxnet.nn import init
from jaxnet.sweep import run_sweep
from jaxnet.train import History, TrainState, evaluate, fit, metrics, predict

__version__ = "0.1.0"

__all__ = [
    "History",
    "TrainState",
    "cache",
    "callbacks",
    "certificate",
    "checkpoint",
    "convert",
    "data",
    "evaluate",
    "fit",
    "init",
    "lecture",
    "losses",
    "metrics",
    "nn",
    "optim",
    "precision",
    "predict",
    "program",
    "random",
    "run_sweep",
    "sweep",
    "train",
]
