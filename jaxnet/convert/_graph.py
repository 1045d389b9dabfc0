"""An exported graph, computed in torch: its values, and its gradients."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class GraphInTorch:
    """The functional graph of an `ExportedProgram`, with tensors of its own.

    Args:
      exported: the program.
      tensors: parameters and buffers by name; they are copied.
    """

    def __init__(self, exported: Any, tensors: Mapping[str, Any]) -> None:
        self._exported = exported
        copies: dict[int, Any] = {}
        for tensor in tensors.values():
            own = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            copies.setdefault(id(tensor), own)
        self.tensors = {name: copies[id(tensor)] for name, tensor in tensors.items()}

    def __call__(
        self, leaves: Sequence[Any], watch: Callable[[str, Any], Any] | None = None
    ) -> list[Any]:
        """The net's outputs; buffers that it changes are changed here."""
        import torch

        exported = self._exported
        signature, given = exported.graph_signature, iter(leaves)
        args = []
        for spec in signature.input_specs:
            if spec.kind.name == "USER_INPUT":
                args.append(next(given))
            elif spec.target in self.tensors:
                args.append(self.tensors[spec.target])
            else:
                args.append(exported.constants[spec.target].detach().clone())
        found = _interpret(exported.graph_module, args, watch)
        outputs = []
        for spec, value in zip(signature.output_specs, found, strict=True):
            if spec.kind.name == "USER_OUTPUT":
                outputs.append(value)
            elif spec.kind.name == "BUFFER_MUTATION":
                self.tensors[spec.target] = value.detach().clone()
        return [each for each in outputs if isinstance(each, torch.Tensor)]


def _as_any(value: Any) -> Any:
    return value


def _interpret(module: Any, args: list[Any], watch: Callable[[str, Any], Any] | None) -> Any:
    import torch

    class Interpreter(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if watch is not None and isinstance(value, torch.Tensor):
                watch(n.name, value)
            return value

        def call_function(self, target, args, kwargs):
            # As the net's own dropout computes it on a CPU: the same mask, and the same rounding.
            if target is torch.ops.aten.native_dropout.default and args[2]:
                x, p, *_ = map(_as_any, args)
                return torch.nn.functional.dropout(x, p, True), None
            # Of layouts that torch.export assumed: an attention's output may lie otherwise.
            if target is torch.ops.aten.view.default:
                target = torch.ops.aten.reshape.default
            return super().call_function(target, args, kwargs)

    return Interpreter(module).run(*args)
