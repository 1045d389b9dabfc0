"""Flax modules in torch's layout and under torch's names: a state_dict is the tree flattened.

Weights are (out, in), layers are numbered as in `torch.nn.Sequential`, arguments are torch's.
Collections of variables beside the parameters hold what torch calls buffers: "batch_stats".
"""

from jaxnet.nn.activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from jaxnet.nn.base import Draws, Module, Variables, call_keywords, init, name_draws
from jaxnet.nn.draws import draw, draw_steps
from jaxnet.nn.images import Conv2d
from jaxnet.nn.layers import Dropout, Embedding, Flatten, Identity, Linear
from jaxnet.nn.norms import BatchNorm1d, BatchNorm2d, LayerNorm
from jaxnet.nn.pools import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from jaxnet.nn.sequential import Sequential

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Draws",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Variables",
    "call_keywords",
    "draw",
    "draw_steps",
    "init",
    "name_draws",
]
