"""torch's own samples of its operators (OpInfo), through the rules: value and gradient.

A sample is traced to the operators that it calls, and these are computed by the rules.
`python -m tests.slow.test_opinfo docs/opinfo.json` writes the shares that the docs show.
"""

import collections
import json
import sys
import types
import unittest
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from jaxnet import precision
from jaxnet.program.registry import RULES
from tests.rules import measure

# torch's table of samples imports its own tests' tools, of which one is no part of torch.
sys.modules.setdefault("expecttest", types.ModuleType("expecttest"))
vars(sys.modules["expecttest"]).setdefault("TestCase", unittest.TestCase)
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

COUNT = 8
"""So many samples of an operator at most: its first."""

SHARES = Path(__file__).parents[2] / "docs" / "opinfo.json"

KNOWN = {name.split(".")[1] for name in RULES}
INFOS = [
    info
    for info in op_db
    if info.aten_name in KNOWN and torch.float64 in info.dtypes and "empty" not in info.name
]
"""What is empty may hold anything."""


def _flatten(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [x for item in value for x in _flatten(item)] if isinstance(value, list | tuple) else []


def _has_slope(output: torch.Tensor) -> bool:
    """Whether it has a gradient: a node of the name is left where torch implements none."""
    missing = "NotImplemented" in type(output.grad_fn).__name__
    return output.requires_grad and not output.is_complex() and not missing


def _weigh(output: torch.Tensor) -> np.ndarray:
    """A random cotangent: the sum of a softmax has no gradient."""
    return np.random.default_rng(0).normal(size=tuple(output.shape)).astype(np.float64)


class Sample(NamedTuple):
    """A sample in torch: its graph, its inputs, its outputs and their gradients."""

    graph: torch.fx.Graph
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]
    grads: list[torch.Tensor | None]

    @property
    def values(self) -> list[np.ndarray]:
        return [x.detach().numpy() for x in self.inputs]

    def run(self, values: list[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """The same outputs and gradients, by the rules."""
        slopes = [x.requires_grad for x in self.inputs]
        floats = [value for value, slope in zip(values, slopes, strict=True) if slope]

        def compute(floats):
            rest, found = iter(floats), {}
            nodes = self.graph.find_nodes(op="placeholder")
            for node, value, slope in zip(nodes, values, slopes, strict=True):
                found[node] = next(rest) if slope else value
            for node in [node for node in self.graph.nodes if node.op == "call_function"]:
                found[node] = _apply(node, found)
            (last,) = next(iter(self.graph.find_nodes(op="output"))).args
            own = [found[y] for y in (last if isinstance(last, list | tuple) else [last])]
            pairs = zip(own, self.outputs, strict=True)
            return sum(jnp.sum(y * _weigh(t)) for y, t in pairs if _has_slope(t)), own

        if not floats or not any(map(_has_slope, self.outputs)):
            return compute(floats)[1], [jnp.zeros_like(x) for x in floats]
        (_, own), grads = jax.value_and_grad(compute, has_aux=True)(floats)
        return own, grads

    def compare(self, own: list[Any], grads: list[Any]) -> str:
        """What is wrong; "" where nothing is."""
        leaves = [x for x in self.inputs if x.requires_grad]
        exact = [y.detach().resolve_conj().numpy() for y in self.outputs] + [
            np.zeros(x.shape) if grad is None else grad.numpy(force=True)
            for x, grad in zip(leaves, self.grads, strict=True)
        ]
        for number, (ours, theirs) in enumerate(zip([*own, *grads], exact, strict=True)):
            scale = np.abs(np.where(np.isfinite(theirs), theirs, 0)).max(initial=1.0)
            if fault := measure(np.asarray(ours), theirs, 1e-10 * scale, f"array {number}"):
                return fault
        return ""


def make_sample(info: Any, sample: Any) -> Sample | None:
    """The sample traced and computed in torch; None where an operator of it has no rule."""
    leaves = _flatten([sample.input, *sample.args, *sample.kwargs.values()])

    def compute(*given):
        rest = iter(given)

        def put(value):
            if isinstance(value, torch.Tensor):
                return next(rest)
            return type(value)(map(put, value)) if isinstance(value, list | tuple) else value

        args = [put(sample.input), *map(put, sample.args)]
        return info.op(*args, **{key: put(value) for key, value in sample.kwargs.items()})

    inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in leaves]
    try:
        compute(*inputs)
    except RuntimeError as error:  # running statistics
        if "not differentiable" not in str(error):
            raise
        inputs = [x.detach().requires_grad_(x is inputs[0]) for x in inputs]
    graph = make_fx(compute, pre_dispatch=True)(*[x.detach() for x in inputs]).graph
    names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    if any(name.startswith("aten.") and name not in RULES for name in names):
        return None
    # What a net's graph never has: there the statistics are outputs.
    training = info.name == "nn.functional.batch_norm" and sample.kwargs.get("training")
    if training and isinstance(sample.args[0], torch.Tensor):
        return None
    if any(RULES[name].draws and "lstm" not in name for name in names if name in RULES):
        return None
    outputs = _flatten(compute(*inputs))
    slopes, floats = [x for x in inputs if x.requires_grad], [y for y in outputs if _has_slope(y)]
    grads: list[Any] = [None] * len(slopes)
    if floats and slopes:
        total = sum((y * torch.from_numpy(_weigh(y))).sum() for y in floats)
        grads = list(torch.autograd.grad(total, slopes, allow_unused=True))  # pyright: ignore
    return Sample(graph, inputs, outputs, grads)


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


def check(info: Any) -> list[str]:
    """What is wrong with each sample, "" where nothing is, of those that the rules are made for."""
    samples = info.sample_inputs("cpu", torch.float64, requires_grad=False)
    own = []
    for sample, _ in zip(samples, range(COUNT), strict=False):
        try:
            made = make_sample(info, sample)
        except Exception as error:  # torch itself cannot trace or differentiate it
            print(f"{info.name}: no sample, {type(error).__name__}: {error}".partition("\n")[0])
            continue
        own += [] if made is None else [made]

    def run(samples: list[Sample]) -> list[str]:
        values = [sample.values for sample in samples]
        compiled = jax.jit(lambda values: [s.run(v) for s, v in zip(samples, values, strict=True)])
        found = compiled(values)
        return [s.compare(*parts) for s, parts in zip(samples, found, strict=True)]

    try:
        return run(own)
    except Exception:  # one of them has no translation: each alone
        faults = []
        for sample in own:
            try:
                faults += run([sample])
            except Exception as error:
                faults.append(f"{type(error).__name__}: {error}".partition("\n")[0])
        return faults


def count_samples() -> tuple[dict[str, list[int]], list[str]]:
    """By ATen's name, the samples that passed and those that were made; and what was wrong."""
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    all_faults = []
    with precision.use("float64"), warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        for info in INFOS:
            faults = check(info)
            counts[info.aten_name][0] += faults.count("")
            counts[info.aten_name][1] += len(faults)
            all_faults += [f"{info.name}: {fault}"[:300] for fault in faults if fault]
    return {name: count for name, count in sorted(counts.items()) if count[1]}, all_faults


def test_torchs_own_samples(record_property):
    """As many as the docs say pass, of each operator."""
    counts, faults = count_samples()
    passed, made = (sum(count[i] for count in counts.values()) for i in (0, 1))
    record_property("samples", f"{passed} of {made}, of {len(counts)} operators")
    told = json.loads(SHARES.read_text(encoding="utf-8"))
    assert told and counts == told, "\n".join(faults)


if __name__ == "__main__":
    counts, faults = count_samples()
    lines = ",\n".join(f"  {json.dumps(name)}: {count}" for name, count in counts.items())
    Path(sys.argv[1]).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(*faults, sep="\n")
