"""torch's own samples of its operators (OpInfo), through the rules: value and gradient.

A sample is traced to the operators that it calls, and these are computed by the rules.
"""

import collections
import sys
import types
import unittest
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from jaxnet import precision
from jaxnet.program.registry import RULES
from tests.rules import measure

# torch's table of samples imports its own tests' tools, of which one is no part of torch.
sys.modules.setdefault("expecttest", types.ModuleType("expecttest"))
vars(sys.modules["expecttest"]).setdefault("TestCase", unittest.TestCase)
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

COUNT = 1
"""So many samples of an operator: each compiles programs of its own, for seconds."""

LEAST = 0.9
"""The share of samples that must pass, of those that the rules are made for."""

KNOWN = {name.split(".")[1] for name in RULES}
INFOS = [info for info in op_db if info.aten_name in KNOWN and torch.float64 in info.dtypes]


def _flatten(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [x for item in value for x in _flatten(item)] if isinstance(value, list | tuple) else []


def _has_slope(output: torch.Tensor) -> bool:
    """Whether it has a gradient: a node of the name is left where torch implements none."""
    missing = "NotImplemented" in type(output.grad_fn).__name__
    return output.requires_grad and not output.is_complex() and not missing


def check(info: Any, sample: Any) -> str:
    """What is wrong with one sample: "" where nothing is, "rule" where an operator has none."""
    leaves = [x for x in _flatten([sample.input, *sample.args, *sample.kwargs.values()])]

    def compute(*given):
        rest = iter(given)

        def put(value):
            if isinstance(value, torch.Tensor):
                return next(rest)
            return type(value)(map(put, value)) if isinstance(value, list | tuple) else value

        args = [put(sample.input), *map(put, sample.args)]
        return info.op(*args, **{key: put(value) for key, value in sample.kwargs.items()})

    inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in leaves]
    graph = make_fx(compute, pre_dispatch=True)(*[x.detach() for x in inputs]).graph
    nodes = [node for node in graph.nodes if node.op == "call_function"]
    names = [str(node.target) for node in nodes]
    if any(name.startswith("aten.") and name not in RULES for name in names):
        return "rule"
    if any(RULES[name].draws and "lstm" not in name for name in names if name in RULES):
        return "rule"
    outputs = _flatten(compute(*inputs))
    slopes = [x for x in inputs if x.requires_grad]
    floats = [y for y in outputs if _has_slope(y)]
    theirs = (
        torch.autograd.grad([y.sum() for y in floats], slopes, allow_unused=True)
        if (floats and slopes)
        else [None] * len(slopes)
    )

    def run(values):
        rest, found = iter(values), {}
        for node, leaf in zip(graph.find_nodes(op="placeholder"), inputs, strict=True):
            found[node] = next(rest) if leaf.requires_grad else jnp.asarray(leaf.numpy())
        for node in nodes:
            found[node] = _apply(node, found)
        (last,) = next(iter(graph.find_nodes(op="output"))).args
        flat = [found[y] for y in (last if isinstance(last, list | tuple) else [last])]
        return sum(jnp.sum(y) for y, t in zip(flat, outputs, strict=True) if _has_slope(t)), flat

    values = [jnp.asarray(x.detach().numpy()) for x in slopes]
    if floats and values:
        (_, own), gradients = jax.value_and_grad(run, has_aux=True)(values)
    else:
        (_, own), gradients = run(values), [np.zeros(x.shape) for x in slopes]
    pairs = [(y, t.detach().numpy()) for y, t in zip(own, outputs, strict=True)]
    pairs += [
        (g, np.zeros(x.shape) if t is None else t.numpy(force=True))
        for g, t, x in zip(gradients, theirs, slopes, strict=True)
    ]
    for i, (found, exact) in enumerate(pairs):
        scale = np.abs(np.where(np.isfinite(exact), exact, 0)).max(initial=1.0)
        if fault := measure(np.asarray(found), exact, 1e-10 * scale, f"array {i}"):
            return fault
    return ""


def _apply(node: Any, found: dict[Any, Any]) -> Any:
    def get(value):
        if isinstance(value, torch.fx.Node):
            return found[value]
        if isinstance(value, list | tuple):
            return [get(item) for item in value]
        return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value

    args = [get(value) for value in node.args]
    if str(node.target) not in RULES:
        return node.target(*args)
    own = RULES[str(node.target)]
    left = {"device", "layout", "pin_memory", "memory_format", "non_blocking"}
    keywords = {key: get(value) for key, value in node.kwargs.items() if key not in left}
    made = node.meta["val"]
    if own.wants_result:
        dtype = str(made.dtype).removeprefix("torch.")
        keywords["result"] = jax.ShapeDtypeStruct(tuple(made.shape), jnp.dtype(dtype))
    if own.draws:
        keywords["draw"] = None
    y = own.function(*args, **keywords)
    if isinstance(made, torch.Tensor):
        return y.astype(jnp.dtype(str(made.dtype).removeprefix("torch.")))
    return y


def count_samples() -> tuple[dict[str, list[int]], list[str]]:
    """By operator, the samples that passed and those that were made; and what was wrong."""
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    faults = []
    for info in INFOS:
        samples = info.sample_inputs("cpu", torch.float64, requires_grad=False)
        for sample, _ in zip(samples, range(COUNT), strict=False):
            try:
                fault = check(info, sample)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}".partition("\n")[0]
            if fault != "rule":
                counts[info.name][1] += 1
                counts[info.name][0] += not fault
                faults += [f"{info.name}: {fault}"[:300]] if fault else []
    return counts, faults


def test_torchs_own_samples(record_property):
    with precision.use("float64"), warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        counts, faults = count_samples()
    passed, made = (sum(count[i] for count in counts.values()) for i in (0, 1))
    record_property("samples", f"{passed} of {made}, of {len(counts)} operators")
    assert passed >= LEAST * made > 0, "\n".join(faults)


if __name__ == "__main__":
    pytest.main([__file__])
