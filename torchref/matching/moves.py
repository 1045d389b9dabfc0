"""How the outputs of a net and of its port move with each of their tensors."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from torchref.batch import Batch
from torchref.construction import stream_kept
from torchref.forms import Form
from torchref.matching.linear import IndexMap
from torchref.matching.numbers import Prints
from torchref.names import name_outputs
from torchref.plan import Plan
from torchref.sighting import align
from torchref.steps import Named

_SUMS = 2
_SHARE = 0.3
"""How far a matched tensor is moved, as a share of its numbers' spread (or of 1): far enough that a
branch that starts at 0 shows what lies before it."""


def make_move(plan: Plan, form: Form, batch: Batch, named: Named) -> Callable[[IndexMap], Prints]:
    """What `match` asks for, of outputs in evaluation mode; the plan is put back as it is.

    Args:
      plan: torch's run.
      form: the port.
      batch: a few rows.
      named: torch's parameters.
    """

    def move(found: IndexMap) -> Prints:
        moved, begun = _jiggle(named, found), plan.snapshot()
        with stream_kept():
            try:
                outputs = _forward(plan, moved, batch)
                sums = np.random.default_rng(1)
                cotangents = [
                    {k: np.float32(sums.normal(size=o.shape)) for k, o in outputs.items()}
                    for _ in range(_SUMS)
                ]
                theirs = _torch_prints(plan.net, outputs, cotangents)
            finally:
                begun.restore()
        placed = found.place(form.params, moved)
        return Prints(theirs, _port_prints(form, placed, batch, cotangents))

    return move


def _jiggle(named: Named, found: IndexMap) -> Named:
    """What has been matched, moved at random."""
    rng = np.random.default_rng(0)
    moved = {}
    for name, array in named.items():
        spread = float(array.std()) or 1.0
        noise = rng.normal(size=array.shape) * _SHARE * spread
        if name not in found.without and array.dtype.kind == "f":
            moved[name] = (array + noise).astype(array.dtype)
    return moved


def _forward(plan: Plan, moved: Named, batch: Batch) -> dict[str, torch.Tensor]:
    """The outputs with other weights."""
    with torch.no_grad():
        for name, array in moved.items():
            plan.net.get_parameter(name).copy_(torch.from_numpy(array))
    plan.net.eval()
    outputs = name_outputs("", plan.forward(jax.tree.map(torch.from_numpy, batch)))
    return {name: each for name, each in outputs.items() if each.is_floating_point()}


def _torch_prints(net: torch.nn.Module, outputs: dict[str, Any], cotangents: list[Any]) -> Named:
    named = dict(net.named_parameters())
    prints = {name: np.zeros((_SUMS, *tensor.shape)) for name, tensor in named.items()}
    asked = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    for row, cotangent in enumerate(cotangents):
        grads = torch.autograd.grad(
            list(outputs.values()), list(asked.values()),
            [torch.from_numpy(each) for each in cotangent.values()],
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        for name, grad in zip(asked, grads, strict=True):
            if grad is not None:
                prints[name][row] = grad.numpy()
    return prints


def _port_prints(form: Form, params: Any, batch: Batch, cotangents: list[Any]) -> list[np.ndarray]:
    def predict(params: Any) -> Any:
        outputs = name_outputs("", form.apply(params, form.state, *batch[:2], train=False)[0])
        return {name: align(outputs[name], each.shape) for name, each in cotangents[0].items()}

    @jax.jit
    def grads(params: Any, cotangent: Any) -> Any:
        return jax.vjp(predict, params)[1](cotangent)[0]

    found = [jax.tree.leaves(grads(params, each)) for each in cotangents]
    return [
        np.stack([np.asarray(leaf, np.float64) for leaf in each])
        for each in zip(*found, strict=True)
    ]
