"""What is recorded of one training step of torch's."""

from typing import Any, NamedTuple

import numpy as np
import torch

Named = dict[str, np.ndarray]
"""Arrays by torch's dotted names."""


class Drawn(NamedTuple):
    """What a forward drew at random, once."""

    name: str
    """Of the innermost module that was running; what it draws after that has "name#1"."""
    kind: str
    """torch's name of the distribution: "bernoulli", "normal", "uniform", "exponential" ..."""
    p: float
    """Of a Bernoulli draw, the probability of True; nan where it differs among the elements."""
    ordered: bool
    """Whether the numbers were drawn row by row: torch fills a transposed tensor as it lies."""
    values: np.ndarray
    """Booleans of a Bernoulli draw."""


class Step(NamedTuple):
    """One training step, from its forward to its update; every array is a copy."""

    batch: Named
    """The "input" and the "target"; of several, "input[0]", "input[1]" or "input[ids]"."""
    stream: np.ndarray
    """torch's CPU generator before the forward."""
    outputs: Named
    """Of every layer, in the order of execution; a layer that runs again has "name#1", and of one
    that gives several tensors the second is "name[1]". A module with layers in it follows these,
    where it gives something else than the last of them, and so does the net, under "": of several
    outputs, under "[0]" and "[1]"."""
    draws: tuple[Drawn, ...]
    """What the forward drew at random, in its order."""
    noise: Named
    """What each `torch.nn.Dropout` multiplied by, to the last bit."""
    buffers_before: Named
    buffers: Named
    """Running statistics after the forward."""
    loss: np.ndarray
    weights_before: Named
    grads: Named
    """Before the optimizer's step, and its hooks; a parameter without one is left out."""
    weights: Named
    """After the optimizer's step."""

    @property
    def masks(self) -> Named:
        """What each dropout kept: booleans."""
        return {draw.name: draw.values for draw in self.draws if draw.kind == "bernoulli"}

    @property
    def updates(self) -> Named:
        """What the step added to the weights, up to the weights' own rounding."""
        return {name: self.weights[name] - self.weights_before[name] for name in self.grads}


def copy_array(tensor: Any) -> np.ndarray:
    """A NumPy copy that shares nothing with torch."""
    if isinstance(tensor, torch.Tensor):
        if tensor.dtype == torch.bfloat16:  # which NumPy has not
            tensor = tensor.float()
        return tensor.detach().cpu().numpy().copy()
    return np.array(tensor)


def copy_named(named: Any) -> Named:
    """Copies of named tensors; those that are None are left out."""
    return {name: copy_array(tensor) for name, tensor in named if tensor is not None}
