"""What an exported graph leaves out: the memory order of draws, and the names of layers."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxnet.convert._eager import Seen, fingerprint, replaying, watching
from jaxnet.convert._export import ADVICE, Call, kept, map_tensors
from jaxnet.convert._graph import GraphInTorch
from jaxnet.convert._unsupported import Unsupported
from jaxnet.program import Node, Program, Tensor
from jaxnet.program.run import canonical, trace_draws

SEED = 1


def complete(call: Call, exported: Any, program: Program, tensors: Sequence[Tensor]) -> Program:
    """The program with the names of layers, and the memory order of its draws.

    Raises:
      Unsupported: the net's own forward draws otherwise than the graph.
    """
    seen = _watch(call)
    listed = _list_draws(program, tensors, call)
    _compare_draws(seen, [draw.shape for _, draw in listed])
    orders = {(): [drawn.order for drawn in seen.draws]}
    if seen.draws:
        orders = _vary(call, program, orders[()], tensors)
    nodes = _with_orders(program, [name for name, _ in listed], orders)
    layers = _name_layers(call, exported, program, seen)
    return dataclasses.replace(program, nodes=nodes, layers=layers)


def _watch(call: Call) -> Seen:
    import torch

    with kept(call.net, call.train), torch.enable_grad():
        torch.manual_seed(SEED)
        with watching(call.net) as seen:
            call.run()
    return seen


def _list_draws(program: Program, tensors: Sequence[Tensor], call: Call) -> list[tuple[str, Any]]:
    """The draws of the graph, each with the name of its node."""
    faults: list[tuple[Node, str]] = []
    found = trace_draws(program, tensors, [_as_struct(leaf) for leaf in call.leaves()], faults)
    if faults:
        said = [f"{node.op} in {node.place} has no translation: {why}" for node, why in faults]
        raise Unsupported(list(dict.fromkeys(said)), ADVICE)
    return found


def _as_struct(leaf: Any) -> Any:
    if not hasattr(leaf, "shape"):
        return leaf
    return jax.ShapeDtypeStruct(tuple(leaf.shape), canonical(str(leaf.dtype)[6:]))


def _compare_draws(seen: Seen, shapes: Sequence[tuple[int, ...]]) -> None:
    found = [_squeeze(drawn.shape) for drawn in seen.draws]
    if found == [_squeeze(shape) for shape in shapes]:
        return
    pairs = enumerate(zip(found, map(_squeeze, shapes), strict=False))
    number = next((i for i, (a, b) in pairs if a != b), min(len(found), len(shapes)))
    drawn = seen.draws[number] if number < len(found) else None
    place = f"in module {drawn.module!r}, {list(drawn.shape)}" if drawn else "which the net has not"
    said = f"the net draws {len(found)} times in torch and its graph {len(shapes)} times: they "
    said += f"differ at draw {number}, {place}. torch.export leaves out draws whose result nothing "
    raise Unsupported([said + "uses: take them out of the net"])


def _squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _vary(
    call: Call, program: Program, first: list[Any], tensors: Sequence[Tensor]
) -> dict[tuple[tuple[str, int], ...], list[Any]]:
    """The orders at other sizes of the inputs, which may decide how torch lays out what it drops.

    Under () where they are the same at all of them.
    """
    leaves = call.leaves()
    here = dict(_read_sizes(program, leaves))
    found = {tuple(sorted(here.items())): first}
    for name, size in here.items():
        for other in {1, size + 1} - {size}:
            varied = _resize(call, program, name, other)
            try:
                seen = _watch(varied)
            except Exception:  # a size that the net itself does not take
                continue
            if len(seen.draws) == len(first):
                key = tuple(sorted({**here, name: other}.items()))
                found[key] = [drawn.order for drawn in seen.draws]
                shapes = [drawn.shape for drawn in seen.draws]
                if all(map(_agree, found[key], first, shapes)):
                    del found[key]
    return {(): first} if len(found) == 1 else found


def _agree(order: Any, first: Any, shape: Sequence[int]) -> bool:
    """Whether two orders lay out a tensor alike: an axis of one element may stand anywhere."""
    axes = [axis for axis in order if shape[axis] != 1]
    return axes == [axis for axis in first if shape[axis] != 1]


def _read_sizes(program: Program, leaves: Sequence[Any]) -> Iterator[tuple[str, int]]:
    for each, leaf in zip(program.users, leaves, strict=True):
        for size, actual in zip(each.spec.shape if each.spec else (), leaf.shape, strict=False):
            if isinstance(size, str) and size.isidentifier():
                yield size, actual


def _resize(call: Call, program: Program, name: str, size: int) -> Call:
    """The call with rows repeated or left out along the axes of a symbol."""
    import torch
    from torch.utils import _pytree

    leaves, structure = _pytree.tree_flatten((call.args, dict(call.kwargs)))
    for number, each in enumerate(program.users):
        for axis, own in enumerate(each.spec.shape if each.spec else ()):
            if own == name:
                rows = torch.arange(size) % leaves[number].shape[axis]
                leaves[number] = leaves[number].index_select(axis, rows)
    args, kwargs = _pytree.tree_unflatten(leaves, structure)
    return call._replace(args=args, kwargs=kwargs)


def _with_orders(program: Program, names: list[str], orders: Mapping[Any, Any]) -> tuple[Node, ...]:
    nodes = []
    for node in program.nodes:
        mine = [number for number, name in enumerate(names) if name == node.name]
        own = tuple(_encode_order(orders, number) for number in mine)
        nodes.append(dataclasses.replace(node, orders=own) if any(own) else node)
    return tuple(nodes)


def _encode_order(orders: Mapping[Any, Any], number: int) -> Any:
    if list(orders) == [()]:
        order = orders[()][number]
        return None if list(order) == sorted(order) else tuple(order)
    return tuple((key, tuple(found[number])) for key, found in orders.items())


def _name_layers(
    call: Call, exported: Any, program: Program, seen: Seen
) -> tuple[tuple[str, str], ...]:
    """Which value of the graph each module's output is, found by its bits."""
    import torch

    kept_values = {node.name for node in program.nodes} | {each.name for each in program.inputs}
    modules = {node.name: node.module for node in program.nodes}
    found: dict[Any, list[str]] = {}

    def watch(name, value):
        if name in kept_values:
            found.setdefault(fingerprint(value), []).append(name)

    with kept(call.net, call.train), torch.enable_grad():
        torch.manual_seed(SEED)
        graph = GraphInTorch(exported, call.tensors())
        with replaying(seen.draws):
            graph(map_tensors(torch.clone, call.leaves()), watch)
    layers = []
    for name, key in seen.outputs.items():
        path = name.partition("#")[0].partition("[")[0]
        names = found.get(key, [])
        inside = [n for n in names if f"{modules.get(n, '')}.".startswith(f"{path}.")]
        if names:
            layers.append((name, (inside or names)[-1]))
    return tuple(layers)
