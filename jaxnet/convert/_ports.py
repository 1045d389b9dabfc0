"""A torch net of any kind as a `TorchNet`, from its exported graphs."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnet import nn
from jaxnet.convert._completion import complete
from jaxnet.convert._export import ADVICE, Call, export, kept, map_tensors, trace
from jaxnet.convert._export import list_tensors as list_inputs
from jaxnet.convert._nodes import encode_program
from jaxnet.convert._self_check import check
from jaxnet.convert._unsupported import Unsupported
from jaxnet.convert.state import BUFFERS, check_exact
from jaxnet.program import Port, Program, Spec, Tensor, TorchNet
from jaxnet.program._inputs import fits
from jaxnet.program.net import nest_tensors, start_variables
from jaxnet.program.run import list_missing

_UNKNOWN_WORDS = "rrelu rrelu_with_noise poisson _standard_gamma binomial _sample_dirichlet".split()
"""Operations that take a number of random words that depends on data."""


class Exported(NamedTuple):
    """A net's call, its graph, and the graph as plain data."""

    call: Call
    graph: Any
    program: Program


def port_from_torch(
    net: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    checked: bool,
    batch_sizes: Collection[int] = (),
) -> tuple[TorchNet, nn.Variables]:
    """`from_torch` by way of torch.export."""
    with kept(net):
        pairs = [_export_both(net, args, kwargs)]
        for size in batch_sizes:
            leaves = Call(net, *_take_rows((args, dict(kwargs)), size, copied=False), True).leaves()
            if not any(all(fits(each.program, leaves) for each in pair) for pair in pairs):
                rows, named = _take_rows((args, dict(kwargs)), size)
                # Of one row an example's graph says nothing of other sizes.
                free = any(each.program.symbols or _count_rows(each) < 2 for each in pairs[0])
                pairs.append(_export_both(net, rows, named, free))
        return _port(net, pairs, checked)


def _count_rows(exported: Exported) -> int:
    return next((len(x) for x in list_inputs(exported.call.leaves()) if x.ndim), 0)


def _export_both(
    net: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], free: bool = True
) -> list[Exported]:
    """In training and in evaluation mode; `free`, for other sizes too where the net allows it."""
    aliases, pair = find_aliases(net), []
    for call in (Call(net, args, kwargs, mode) for mode in (True, False)):
        graph = export(call) if free else trace(call)
        program = encode_program(graph, aliases)
        if not fits(program, call.leaves()):  # of one row: it was exported from two
            graph = trace(call)
            program = encode_program(graph, aliases)
        pair.append(Exported(call, graph, program))
    return pair


def _take_rows(inputs: Any, count: int, copied: bool = True) -> tuple[Any, Any]:
    """So many rows of the examples, over and over; not `copied`, the first row alone.

    An input of another length than the first one's has no rows.
    """
    import torch

    rows = next((len(x) for x in list_inputs(inputs) if x.ndim), 0)

    def take(x: Any) -> Any:
        if not x.ndim or len(x) != rows or not rows:
            return x
        return x[torch.arange(count) % rows] if copied else x[:1].expand(count, *x.shape[1:])

    return map_tensors(take, inputs)


def _port(net: Any, pairs: list[list[Exported]], checked: bool) -> tuple[TorchNet, nn.Variables]:
    programs = [each.program for pair in pairs for each in pair]
    check_rules(programs)
    aliases = find_aliases(net)
    tensors = list_tensors(net, aliases, programs)
    done = []
    for pair in pairs:
        done.append([complete(*each, tensors) for each in pair])
        for each in pair if checked else ():
            check(each.call, each.graph, steps=2 if each.call.train else 1)
    (train, evaluate), *others = done
    start, others = read_start(net, tensors), tuple((first, second) for first, second in others)
    port = Port(train, evaluate, tensors, tuple(aliases.items()), checked, start, others)
    return TorchNet(port), start_variables(port)


def check_rules(programs: Any) -> None:
    """Reject operations that no rule computes, all at once.

    Raises:
      Unsupported: there are some; each is named with its module and line.
    """
    faults: dict[str, None] = {}
    names: dict[str, None] = {}
    for program in programs:
        for node in list_missing(program):
            said = f"{node.op} in {node.place} has no rule"
            if node.op.split(".")[1].rstrip("_") in _UNKNOWN_WORDS:
                said += ", nor can it have one: how many random words it takes depends on data"
            else:
                names[node.op] = None
            faults[said] = None
    if faults:
        listed = ", ".join(f'"{name}"' for name in names)
        rule = f"register what it computes with @jaxnet.program.rule({listed}), " if names else ""
        raise Unsupported(list(faults), f"{rule}{ADVICE}")


def find_aliases(net: Any) -> dict[str, str]:
    """Further names of shared tensors, and the first name of each."""
    first: dict[int, str] = {}
    aliases = {}
    named = [*net.named_parameters(remove_duplicate=False)]
    for name, tensor in [*named, *net.named_buffers(remove_duplicate=False)]:
        if id(tensor) in first:
            aliases[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
    return aliases


def list_tensors(net: Any, aliases: Mapping[str, str], programs: Any) -> tuple[Tensor, ...]:
    """Parameters and buffers, each once, with their collections."""
    used = {each.target for p in programs for each in p.inputs if each.kind == "tensor"}
    names = [name for name in net.state_dict() if name not in aliases]
    parameters = dict(net.named_parameters())
    every = {**parameters, **dict(net.named_buffers())}
    names += [name for name in every if name in used and name not in names]
    found = []
    for name in names:
        if name not in every:
            raise Unsupported([f"the net's state_dict has {name!r}, which is no tensor of it"])
        tensor = every[name]
        spec = Spec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        batch = name.rpartition(".")[2] in BUFFERS
        kind = "params" if name in parameters else "batch_stats" if batch else "buffers"
        frozen = name in parameters and not tensor.requires_grad
        found.append(Tensor(name, kind, spec, frozen))
    if clash := [each.name for each in found if each.name.split(".")[0] == "params"]:
        raise Unsupported([f"the net has {clash[0]!r}: Flax keeps the name 'params'"])
    return tuple(found)


def read_variables(net: Any) -> nn.Variables:
    """A net's parameters and buffers in their collections."""
    tensors = list_tensors(net, find_aliases(net), ())
    return nest_tensors(tensors, read_start(net, tensors))


def read_start(net: Any, tensors: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    """Copies of the net's tensors; a ValueError where JAX's types would change a number."""
    every = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    start = {}
    for each in tensors:
        array = np.array(every[each.name].detach().cpu().numpy())
        start[each.name] = np.asarray(check_exact(each.name, array))
    return start
