"""A torch net's graphs, by `torch.export`."""

import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from jaxnet.convert._nodes import is_torch, shorten
from jaxnet.convert._snapshot import Snapshot
from jaxnet.convert._unsupported import Unsupported


class Call(NamedTuple):
    """A net and the inputs of a call of it."""

    net: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    train: bool

    def leaves(self) -> list[Any]:
        """The inputs in the graph's order."""
        from torch.utils import _pytree

        return _pytree.tree_leaves((self.args, dict(self.kwargs)))

    def run(self) -> Any:
        """What the net gives of copies of the inputs."""
        import torch

        args, kwargs = map_tensors(torch.clone, (self.args, dict(self.kwargs)))
        return self.net(*args, **kwargs)

    def tensors(self) -> dict[str, Any]:
        """Parameters and buffers, under all of their names."""
        named = [*self.net.named_parameters(remove_duplicate=False)]
        return dict([*named, *self.net.named_buffers(remove_duplicate=False)])


def export(call: Call) -> Any:
    """The functional graph of a net in a mode, an `ExportedProgram`; the net stays as it is.

    Axis 0 of the inputs may vary where the net allows it, and axis 1 of sequences.

    Raises:
      Unsupported: torch.export cannot trace the net; the message has the line.
    """
    free = _double_rows((call.args, dict(call.kwargs)))
    for axes in ((0, 1), (0,)) if any(map(_is_sequence, list_tensors(free))) else ((0,),):
        with kept(call.net, call.train), suppress(Exception):  # of whatever kind torch raises
            return _trace(call.net, *free, dynamic_shapes=_free(free, axes))
    return trace(call)


def trace(call: Call) -> Any:
    """The same for the sizes of these inputs alone."""
    with kept(call.net, call.train):
        try:
            return _trace(call.net, call.args, dict(call.kwargs))
        except Exception as error:
            raise _explain(call.net, error) from error


def _trace(net: Any, args: Any, kwargs: Any, **options: Any) -> Any:
    import torch

    with _quiet():
        exported = torch.export.export(net, args, kwargs, strict=False, **options)
        _detach_no_grad(exported)
        return exported.run_decompositions({})


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's own warnings and logs on the way: what becomes of it is said by an error."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def kept(net: Any, train: bool | None = None) -> Iterator[None]:
    """In here the net is in a mode; afterwards it and the random streams are as they were."""
    import torch

    snapshot = Snapshot(net)
    states = torch.get_rng_state()
    try:
        if train is not None:
            net.train(train)
        yield
    finally:
        snapshot.restore()
        torch.set_rng_state(states)


def list_tensors(values: Any) -> list[Any]:
    """The tensors in tuples, lists and mappings, in order."""
    import torch
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def map_tensors(function: Any, values: Any) -> Any:
    """The same nesting with `function` of every tensor."""
    import torch
    from torch.utils import _pytree

    return _pytree.tree_map_only(torch.Tensor, function, values)


def _double_rows(values: Any) -> Any:
    """Inputs of one row twice: what is 1 in an example is never free in torch.export."""
    import torch

    sizes = {tensor.shape[0] for tensor in list_tensors(values) if tensor.ndim}
    if sizes != {1}:
        return values
    return map_tensors(lambda each: torch.cat([each, each]) if each.ndim else each, values)


def _free(inputs: Any, axes: tuple[int, ...]) -> Any:
    """Which axes of which inputs may vary, as torch.export takes it."""
    import torch

    collection = torch.export.ShapesCollection()
    for tensor in {id(each): each for each in list_tensors(inputs)}.values():
        own = axes if _is_sequence(tensor) else axes[:1]
        if free := {axis: torch.export.Dim.AUTO for axis in own if axis < tensor.ndim}:
            collection[tensor] = free
    return collection


def _is_sequence(tensor: Any) -> bool:
    """Whether axis 1 may be time: of images it is channels, of rows features.

    torch.export would find that out too, slowly.
    """
    return tensor.ndim == 3 or (tensor.ndim == 2 and not tensor.is_floating_point())


def _detach_no_grad(exported: Any) -> None:
    """Detach what regions under `torch.no_grad()` give: what follows forgets the regions."""
    import torch

    region = torch.ops.higher_order.wrap_with_set_grad_enabled
    for module in exported.graph_module.modules():
        graph = getattr(module, "graph", None)
        if graph is None:
            continue
        for node in list(graph.nodes):
            if node.op != "call_function" or node.target is not region or node.args[0] is not False:
                continue
            for user in list(node.users):
                with graph.inserting_after(user):
                    detached = graph.call_function(torch.ops.aten.detach.default, (user,))
                    detached.meta = dict(user.meta)
                user.replace_all_uses_with(
                    detached, delete_user_cb=lambda other, own=detached: other is not own
                )
        module.recompile()


ADVICE = (
    "change the net, or write its port by hand: with port=(apply, variables, optax_optimizer) "
    "torchref.certify holds it against torch's"
)


def _explain(net: Any, error: Exception) -> Unsupported:
    """What torch.export raised, with the line of the net's own code."""
    text = str(error).strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_inner(f.filename)]
    place, module = "", _find_module(net, error)
    if frames:
        frame = frames[-1]
        place = f" at {shorten(frame.filename)}:{frame.lineno}: {frame.line}"
    if any(sign in text for sign in ("data-dependent", "DataDependent", "unbacked")):
        said = "what the net does depends on values that it computes, which no graph holds"
    else:
        said = f"torch.export raised {type(error).__name__}: {text.splitlines()[0] if text else ''}"
    if "not a known type" in text:
        said = (
            f"{text.partition(',')[0]}: a net may take and give tensors in tuples, lists, "
            "dictionaries and dataclasses; one of transformers needs use_cache=False"
        )
    return Unsupported([f"{module}{said}{place}"], ADVICE)


def _is_inner(path: str) -> bool:
    return is_torch(path) or "/jaxnet/convert/" in path or path.startswith("<")


def _find_module(net: Any, error: Exception) -> str:
    """The module whose forward raised, with its class."""
    names = {id(module): (name, type(module)) for name, module in net.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        own = frame.f_locals.get("self")
        if id(own) in names and not is_torch(frame.f_code.co_filename):
            name, kind = names[id(own)]
            found = f"in module {name!r} ({kind.__name__}), " if name else f"in {kind.__name__}, "
    return found
