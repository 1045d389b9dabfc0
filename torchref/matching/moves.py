"""How the outputs of a net and of its port move with each of their tensors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from torchref.matching.linear import IndexMap
from torchref.matching.numbers import Prints
from torchref.steps import Named

_SUMS = 2
_SHARE = 0.3
"""How far a matched tensor is moved, as a share of its numbers' spread (or of 1): far enough that a
branch that starts at 0 shows what lies before it."""


def make_move(
    net: torch.nn.Module,
    forward: Callable[[], Any],
    predict: Callable[[Any], Any],
    params: Any,
    named: Named,
) -> Callable[[IndexMap], Prints]:
    """What `match` asks for.

    Args:
      net: torch's, in evaluation mode while it is asked, with gradients and weights put back.
      forward: torch's outputs of a few rows, a list of tensors.
      predict: the port's of the same rows from its parameters, a list of arrays.
      params: the port's.
      named: torch's parameters.
    """

    def move(found: IndexMap) -> Prints:
        moved = _jiggle(named, found)
        sums = np.random.default_rng(1)
        outputs = jax.eval_shape(predict, params)
        cotangents = [
            [np.float32(sums.normal(size=o.shape)) for o in outputs] for _ in range(_SUMS)
        ]
        ours = _port_prints(predict, found.place(params, moved), cotangents)
        return Prints(_torch_prints(net, forward, moved, cotangents), ours)

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


def _port_prints(predict: Callable, params: Any, cotangents: list[Any]) -> list[np.ndarray]:
    @jax.jit
    def grads(params: Any, cotangent: Any) -> Any:
        _, back = jax.vjp(predict, params)
        return back(cotangent)[0]

    found = [jax.tree.leaves(grads(params, list(map(jnp.asarray, c)))) for c in cotangents]
    return [
        np.stack([np.asarray(leaf, np.float64) for leaf in each])
        for each in zip(*found, strict=True)
    ]


def _torch_prints(
    net: torch.nn.Module, forward: Callable, moved: Named, cotangents: list[Any]
) -> Named:
    tensors = dict(net.named_parameters())
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    asked = [tensor for tensor in tensors.values() if tensor.requires_grad]
    try:
        with torch.no_grad():
            for name, array in moved.items():
                tensors[name].copy_(torch.as_tensor(array))
        outputs = forward()
        found = [
            torch.autograd.grad(
                outputs, asked, [torch.from_numpy(c) for c in cotangent],
                retain_graph=True, allow_unused=True,
            )
            for cotangent in cotangents
        ]  # fmt: skip
    finally:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(kept[name])
    names = [name for name, tensor in tensors.items() if tensor.requires_grad]
    prints = {name: np.zeros((_SUMS, *tensor.shape)) for name, tensor in tensors.items()}
    for at, name in enumerate(names):
        for row, grads in enumerate(found):
            if grads[at] is not None:
                prints[name][row] = grads[at].numpy()
    return prints
