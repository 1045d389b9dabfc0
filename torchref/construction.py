"""The initial weights of a script, layer by layer, as jaxnet draws them at the same place."""

import copy
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

import jaxnet
from jaxnet import convert
from jaxnet.certificate.causes import FOLLOWED, kernel_causes
from jaxnet.random import distributions
from torchref.steps import Named, copy_array

normals = importlib.import_module("jaxnet.random.normal")  # the package has a function of that name


class Drawn(NamedTuple):
    """An initial tensor, drawn on both sides at the same place of the stream."""

    jax: np.ndarray
    torch: np.ndarray
    causes: tuple[str, ...]
    """That torch's kernels make the two differ, where they were tried and do; else empty."""


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
) -> dict[str, Drawn]:
    """By name, the initial tensors as jaxnet draws them and as torch drew them.

    Layers whose tensors are not what their own constructor gives were set by the script. Where two
    differ, and torch runs kernels without AVX2, it is tried whether these are the cause.
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
        try:
            ours = _draw(layer, stream)
        except convert.Unsupported:  # how its constructor draws is not known here
            continue
        causes = _try_kernels(layer, stream, ours, found)
        for key, value in ours.items():
            drawn[f"{name}.{key}".lstrip(".")] = Drawn(value, found[key], causes.get(key, ()))
    return drawn


def _draw(layer: torch.nn.Module, stream: torch.Tensor) -> Named:
    """What jaxnet draws for a layer from there on, under torch's names."""
    jnet, _ = convert.from_torch(layer)
    _, variables = jaxnet.init(jnet, jaxnet.random.set_state(stream.numpy()))
    return convert.to_state_dict(variables)


def _try_kernels(
    layer: torch.nn.Module, stream: torch.Tensor, ours: Named, torchs: Named
) -> dict[str, tuple[str, ...]]:
    """Of each tensor of floats that differs, what torch's kernels have to do with it."""
    kernels = torch.backends.cpu.get_cpu_capability()
    differing = [
        key
        for key, value in ours.items()
        if torchs[key].dtype.kind == "f" and value.tobytes() != torchs[key].tobytes()
    ]
    if kernels in FOLLOWED or not differing:
        return {}
    with _rounding_twice(distributions):
        uniform = _draw(layer, stream)
    with _rounding_twice(normals):
        normal = _draw(layer, stream)
    return {
        key: kernel_causes(kernels, ours[key], torchs[key], uniform[key], normal[key])
        for key in differing
    }


@contextmanager
def _rounding_twice(module: Any) -> Iterator[None]:
    """In here a module of `jaxnet.random` rounds a product, and the sum once more."""
    original = module.fused_multiply_add
    module.fused_multiply_add = lambda x, y, z: np.asarray(x * y + z)
    try:
        yield
    finally:
        module.fused_multiply_add = original


def _rebuilt(layer: Any) -> Named:
    """What a layer's constructor draws, on a copy."""
    fresh = copy.deepcopy(layer)
    fresh.reset_parameters()
    return {key: copy_array(value) for key, value in fresh.state_dict().items()}
