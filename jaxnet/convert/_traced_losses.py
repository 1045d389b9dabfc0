"""A torch callable as a loss in JAX, exported anew for the shapes of each call."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.convert._export import Call, trace
from jaxnet.convert._nodes import encode_program
from jaxnet.convert._ports import check_rules, find_aliases
from jaxnet.convert._self_check import check
from jaxnet.convert._unsupported import Unsupported
from jaxnet.program import Program, run
from jaxnet.program._trees import flatten
from jaxnet.program.registry import is_random


class TracedLoss:
    """`loss(outputs, targets)` by the graph of a torch callable.

    It is exported when JAX first traces it with outputs and targets of some shapes, and held
    against torch there; for other shapes once more.

    Raises:
      Unsupported: it has no graph, or draws random numbers; or an operation of it has no rule.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self._programs: dict[Any, tuple[Program, dict[str, Any]]] = {}

    def __call__(self, outputs: Any, targets: Any) -> Any:
        """The loss, a scalar."""
        leaves, structure = jax.tree.flatten((outputs, targets))
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        key = structure, tuple((leaf.shape, leaf.dtype.name) for leaf in leaves)
        if key not in self._programs:
            self._programs[key] = _export(self.function, structure, leaves)
        program, tensors = self._programs[key]
        return run(program, tensors, _order(program, structure, leaves))[0]


def _order(program: Program, structure: Any, leaves: Any) -> Any:
    """The leaves as torch orders them: JAX sorts the keys of dictionaries."""
    return flatten(program.in_tree[0], jax.tree.unflatten(structure, leaves))


def _export(function: Any, structure: Any, leaves: Any) -> tuple[Program, dict[str, Any]]:
    import torch

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.function = function

        def forward(self, outputs, targets):
            return self.function(_with_attributes(outputs), targets)

    examples = jax.tree.unflatten(structure, [_make_example(leaf) for leaf in leaves])
    net = Loss()
    training = getattr(function, "training", True)
    call = Call(net, examples, {}, training)
    exported = trace(call)
    aliases = find_aliases(net)
    program = encode_program(exported, aliases)
    check_rules([program])
    if any(is_random(node.op) for node in program.nodes):
        raise Unsupported(["loss draws random numbers, which has no translation"])
    check(call, exported)
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    tensors = {name: value.detach().cpu().numpy().copy() for name, value in named.items()}
    return program, tensors


class _Fields(dict):
    """What a port gives where the net gives a dataclass: `out.logits`, `out["logits"]`."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"the outputs have no {name!r}, but {sorted(self)}")
        return self[name]

    def __missing__(self, key: Any) -> Any:
        if not isinstance(key, int):
            raise KeyError(key)
        # JAX has sorted the keys: which was the first, nobody knows.
        raise KeyError(f"{key}: name one of the outputs {sorted(self)}, instead of counting them")


def _with_attributes(outputs: Any) -> Any:
    if isinstance(outputs, dict):
        return _Fields({key: _with_attributes(value) for key, value in outputs.items()})
    if isinstance(outputs, tuple | list):
        parts = [_with_attributes(value) for value in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    return outputs


def _make_example(leaf: Any) -> Any:
    """Numbers that any loss takes: between 0 and 1, which probabilities are too; classes 0."""
    import torch

    name: str = leaf.dtype.name
    kind = getattr(torch, "int64" if name == "int32" else name)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return torch.zeros(leaf.shape, dtype=kind)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(leaf.shape, generator=generator).to(kind) * 0.8 + 0.1
