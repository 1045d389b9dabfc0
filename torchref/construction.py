"""The initial weights of a script, layer by layer, as jaxnet draws them at the same place."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import jaxnet
from jaxnet import convert
from torchref.recorder import Named, copy_array


@contextmanager
def stream_kept() -> Iterator[None]:
    """Whatever happens in here, torch's global stream is afterwards where it was."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def watch_construction() -> Iterator[dict[int, tuple[Any, torch.Tensor]]]:
    """Where torch's stream was when each module built in here began, by the module's id."""
    begun: dict[int, tuple[Any, torch.Tensor]] = {}
    original = torch.nn.Module.__init__

    def begin(self, *arguments, **keywords):
        begun.setdefault(id(self), (self, torch.get_rng_state()))
        original(self, *arguments, **keywords)

    torch.nn.Module.__init__ = begin
    try:
        yield begun
    finally:
        torch.nn.Module.__init__ = original


def draw_initial(
    net: torch.nn.Module, begun: Mapping[int, tuple[Any, torch.Tensor]]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By name, the initial tensors as jaxnet draws them and as torch drew them.

    Layers whose tensors are not what their own constructor gives were set by the script.
    """
    drawn = {}
    for name, layer in net.named_modules():
        if id(layer) not in begun or not hasattr(layer, "reset_parameters"):
            continue
        stream = begun[id(layer)][1]
        with stream_kept():
            torch.set_rng_state(stream)
            again = _rebuilt(layer)
        found = {key: copy_array(value) for key, value in layer.state_dict().items()}
        if any(found[key].tobytes() != value.tobytes() for key, value in again.items()):
            continue
        jnet, _ = convert.from_torch(layer)
        _, variables = jaxnet.init(jnet, jaxnet.random.set_state(stream.numpy()))
        for key, value in convert.to_state_dict(variables).items():
            drawn[f"{name}.{key}".lstrip(".")] = (value, found[key])
    return drawn


def _rebuilt(layer: Any) -> Named:
    """What a layer's constructor draws, on a copy."""
    fresh = copy.deepcopy(layer)
    fresh.reset_parameters()
    return {key: copy_array(value) for key, value in fresh.state_dict().items()}
