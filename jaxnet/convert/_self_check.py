"""An exported graph held against its net in torch: what export loses without a word is found."""

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from jaxnet.convert._eager import Seen, replaying, watching
from jaxnet.convert._export import Call, kept, list_tensors, map_tensors
from jaxnet.convert._graph import GraphInTorch
from jaxnet.convert._snapshot import Snapshot
from jaxnet.convert._unsupported import Unsupported

_SEEDS = (1, 2)
"""Of two steps: what is kept in Python between calls shows in the second."""

_BOUND = {"torch.float32": 1e-4, "torch.float64": 1e-9}
"""How far a tensor of the graph's may be off, relative to the largest number in it: both sides run
torch's own kernels, in another order at most."""


def check(call: Call, exported: Any, steps: int = len(_SEEDS)) -> None:
    """Two forward and backward steps of the graph against the net's own.

    Raises:
      Unsupported: outputs, gradients, buffers or the stream differ; says what export may have lost.
    """
    import torch

    graph = GraphInTorch(exported, call.tensors())
    faults: list[str] = []
    with kept(call.net, call.train), torch.enable_grad():
        outside = _find_outside(call)
        for seed in _SEEDS[:steps]:
            torch.manual_seed(seed)
            theirs, seen = _step_of_net(call)
            torch.manual_seed(seed)
            ours = _step_of_graph(graph, call, seen)
            faults += [f"step {seed}: {fault}" for fault in _compare(ours, theirs)]
            now = call.tensors()
            for name, _ in call.net.named_buffers():
                if not _is_close(graph.tensors[name], now[name]):
                    faults.append(f"step {seed}: buffer {name!r} differs")
            if faults:
                break
        if outside:
            faults.append(f"the net draws from {outside}, which the graph holds as one number")
    if faults:
        raise Unsupported(faults, _LOST)


def _find_outside(call: Call) -> str:
    """Whose random numbers, beside torch's, decide what the net gives; "" for none.

    Code that checks types may draw some too, which change nothing: the net is called again from
    other states, and must give the same.
    """
    import torch

    def forward(seed):
        with kept(call.net, call.train), torch.no_grad():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(_SEEDS[0])
            snapshot = Snapshot(call.net)
            outputs = list_tensors(call.run())
            return snapshot.drew_outside, outputs

    drew, first = forward(0)
    for seed in range(1, _TRIES) if drew else ():
        again = forward(seed)[1]
        if not all(torch.equal(a, b) for a, b in zip(again, first, strict=True)):
            return drew
    return ""


_TRIES = 8

_LOST = (
    "torch.export keeps no gradient of a torch.autograd.Function of one's own, no hooks of "
    "tensors, no counters and other state in Python, no numbers of Python's or NumPy's random, and "
    "no draws whose result nothing uses. Take them out of the net, or write the port by hand and "
    "give it to torchref.certify(..., port=...); check=False leaves this comparison out"
)


class _Step(NamedTuple):
    outputs: list[Any]
    grads: dict[str, Any]
    state: Any


def _step_of_net(call: Call) -> tuple[_Step, Seen]:
    def forward(args, kwargs):
        with watching(call.net, outputs=False) as seen:
            heard.append(seen)
            return call.net(*args, **kwargs)

    heard: list[Seen] = []
    return _step(forward, call, call.tensors()), heard[0]


def _step_of_graph(graph: GraphInTorch, call: Call, seen: Seen) -> _Step:
    def forward(args, kwargs):
        with replaying(seen.draws):
            return graph(Call(call.net, args, kwargs, call.train).leaves())

    return _step(forward, call, graph.tensors)


def _step(function: Any, call: Call, tensors: Mapping[str, Any]) -> _Step:
    import torch

    leaves: list[Any] = []

    def open_input(tensor):
        own = tensor.detach().clone()
        if own.is_floating_point():
            leaves.append(own.requires_grad_())
            return own.clone()
        return own

    outputs = list_tensors(
        function(map_tensors(open_input, call.args), map_tensors(open_input, dict(call.kwargs)))
    )
    state = torch.get_rng_state()
    ends = [each for each in outputs if each.requires_grad]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in ends]
    sources = {f"input {i}": leaf for i, leaf in enumerate(leaves)}
    sources |= {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    grads = [None] * len(sources)
    if ends and sources:
        # An operation of one's own may have no derivative, on both sides.
        with suppress(RuntimeError):
            grads = torch.autograd.grad(ends, list(sources.values()), weights, allow_unused=True)
    return _Step([each.detach() for each in outputs], dict(zip(sources, grads, strict=True)), state)


def _compare(ours: _Step, theirs: _Step) -> Iterator[str]:
    import torch

    if len(ours.outputs) != len(theirs.outputs):
        yield f"the graph gives {len(ours.outputs)} tensors, the net {len(theirs.outputs)}"
        return
    for number, pair in enumerate(zip(ours.outputs, theirs.outputs, strict=True)):
        if not _is_close(*pair):
            yield f"output {number} differs, by {_measure(*pair):.1g} of its largest"
    wrong = [k for k, grad in theirs.grads.items() if not _is_close(ours.grads.get(k), grad)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        worst = max(_measure(ours.grads.get(k), theirs.grads[k]) for k in wrong)
        shown = ", ".join(map(repr, wrong[:3]))
        yield f"the gradients of {shown}{more} differ, by up to {worst:.1g} of the largest"
    if not torch.equal(ours.state, theirs.state):
        yield "the graph leaves torch's random stream elsewhere"


def _measure(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest number; None is a gradient of zeros."""
    import torch

    if ours is None and theirs is None:
        return 0.0
    ours = torch.zeros_like(theirs) if ours is None else ours.detach()
    theirs = torch.zeros_like(ours) if theirs is None else theirs.detach()
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    if not ours.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else float("inf")
    with np.errstate(all="ignore"):
        a, b = ours.double().numpy(), theirs.double().numpy()
        if np.array_equal(a, b, equal_nan=True):
            return 0.0
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30))


def _is_close(ours: Any, theirs: Any) -> bool:
    reference = ours if theirs is None else theirs
    bound = 0.0 if reference is None else _BOUND.get(str(reference.dtype), 1e-2)
    return _measure(ours, theirs) <= bound  # not of nan
