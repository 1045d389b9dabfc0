"""Training on 1 to 8 devices of this CPU: what a program sends between them, and its seconds.

The devices share the cores of one machine, so the seconds say what devices cost and not what they
gain. Each number of devices is a process of its own, as JAX takes it when it starts.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec

import jaxnet
from benchmarks.timing import clock, interleave
from jaxnet import nn
from jaxnet.callbacks import Callback, Run, Stop
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.data import load_mnist
from jaxnet.precision import use
from jaxnet.train import OnMesh
from jaxnet.train.epoch import count_capacity, make_epochs

KINDS = (
    *("all-reduce", "all-gather", "all-to-all", "reduce-scatter"),
    *("ragged-all-to-all", "collective-permute", "collective-broadcast"),
)
Row = dict[str, Any]


class Net(NamedTuple):
    """Linear layers of these widths with ReLU between them, after Dropout(p) if p is not 0."""

    name: str
    widths: tuple[int, ...]
    p: float = 0.0

    @property
    def tensors(self) -> int:
        """Operands of a step's all-reduce: weights and biases of each layer, and the loss."""
        return 2 * (len(self.widths) - 1) + 1

    @property
    def bytes(self) -> int:
        """Of the same, in float32."""
        pairs = zip(self.widths, self.widths[1:], strict=False)
        return 4 * (sum(before * after + after for before, after in pairs) + 1)


LECTURE = Net("lecture's", (784, 32, 1), 0.5)
WIDE = Net("wide", (784, 1024, 1024, 10))


class Case(NamedTuple):
    """Epochs of a net over so many examples; "sharded" shards the hidden layers' weights."""

    net: Net
    batch: int
    examples: int
    epochs: int = 1
    weights: str = "replicated"


CASES = (
    Case(LECTURE, 16, 12_665),
    Case(LECTURE, 1024, 12_288, epochs=4),
    Case(LECTURE, 4096, 12_288, epochs=4),
    Case(LECTURE, 12_665, 12_665, epochs=4),
    Case(WIDE, 16, 512),
    Case(WIDE, 1024, 4096),
    Case(WIDE, 1024, 4096, weights="sharded"),
)


def compare_scaling(
    rounds: int, cases: Sequence[Case] = CASES, devices: Sequence[int] = (1, 2, 4, 8)
) -> dict[str, list[Row]]:
    """Rows of two parts: what the program of a case sends, and a step's seconds.

    The losses and the random stream of every case are first held against those of one device, the
    first of `devices`.
    """
    sent: list[Row] = []
    steps: dict[tuple[Case, int], Row] = {}
    calls: dict[Any, Callable[[], float]] = {}
    with ExitStack() as stack:
        processes = [(count, stack.enter_context(start_process(count))) for count in devices]
        alone: dict[tuple[Net, int], Row] = {}
        for case, (count, process) in product(cases, processes):
            if case.weights == "sharded" and count == 1:
                continue
            facts = process.submit(prepare, case).result()
            single = alone.setdefault((case.net, case.batch), facts)
            row = {"net": case.net.name, "batch": case.batch, "weights": case.weights}
            row["devices"] = count
            steps[case, count] = row | judge(facts, single)
            if count > 1:
                sent.append(row | describe(case, count, facts["collectives"]))
            calls[case, count] = partial(_time_step, process, case, facts["steps"])
        seconds: dict[Any, list[float]] = interleave(calls, rounds, warm=True)
    for (case, count), row in steps.items():
        row["seconds"] = seconds[case, count]
        row["seconds_other"] = seconds[case._replace(weights="replicated"), devices[0]]
    return {"communication": sent, "scaling": list(steps.values())}


def start_process(devices: int) -> ProcessPoolExecutor:
    """A process that has so many devices, and keeps what it has prepared."""
    return ProcessPoolExecutor(1, get_context("spawn"), _start, (devices,))


def _start(devices: int) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def _time_step(process: ProcessPoolExecutor, case: Case, steps: int) -> float:
    """Seconds of a step, of all epochs of a case."""
    return process.submit(_run_again, case).result() / (steps * case.epochs)


_prepared: dict[Case, Callable[[], Any]] = {}


def _run_again(case: Case) -> float:
    return clock(_prepared[case])


def judge(facts: Row, single: Row) -> Row:
    """Whether a run has the random stream of one device's, and its losses within the bound."""
    gap = float(np.abs(facts["losses"] / single["losses"] - 1).max())
    agree = facts["stream"] == single["stream"] and gap <= TRAJECTORY.rtol
    return {"agree": agree, "loss_gap": gap}


def describe(case: Case, devices: int, found: list[tuple[str, int, int]]) -> Row:
    """What a program sends.

    Where weights are replicated, it must be one all-reduce of the gradients and the loss, in the
    loop over steps, and nothing where the batches do not divide.
    """
    expected = [("all-reduce", case.net.tensors, case.net.bytes)]
    divides = case.batch % devices == 0
    counts = Counter(kind for kind, *_ in found)
    return {
        "agree": case.weights == "sharded" or found == (expected if divides else []),
        "collectives": ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        "tensors": sum(tensors for _, tensors, _ in found),
        "bytes": sum(size for *_, size in found),
    }


def list_collectives(text: str) -> list[tuple[str, int, int]]:
    """Kind, tensors and bytes of each collective of an optimized HLO module.

    >>> list_collectives('''
    ...   %x = f32[4]{0} parameter(0)
    ...   ROOT %sum = f32[4]{0} all-reduce(%x), to_apply=%add''')
    [('all-reduce', 1, 16)]
    """
    types = dict(re.findall(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ", text, re.MULTILINE))
    found = []
    # What `-done` ends was counted where it started.
    for kind, inside in re.findall(rf" ({'|'.join(KINDS)})(?:-start)?\((.*?)\)", text):
        operands = re.findall(r"%([\w.\-]+)", inside)
        found.append((kind, len(operands), sum(count_bytes(types[name]) for name in operands)))
    return found


def count_bytes(kind: str) -> int:
    """Bytes of a type, such as "(f32[32]{0}, pred[4]{0})"."""
    shapes = re.findall(r"\b[a-z]+(\d*)\[([\d,]*)\]", kind)
    counts = ((bits, filter(None, dims.split(","))) for bits, dims in shapes)
    return sum(math.prod(map(int, sizes)) * int(bits or 8) // 8 for bits, sizes in counts)


class _Catch(Callback):
    """Takes a run as `jaxnet.fit` has prepared it, and ends it before its first step."""

    def on_start(self, run: Run) -> None:
        self.run = run
        raise Stop


def prepare(case: Case) -> Row:
    """Compile and run a case as `jaxnet.fit` does, on all devices of this process: its facts."""
    net, loss = build(case.net)
    caught = _Catch()
    jaxnet.fit(
        net,
        _load(case),
        loss=loss,
        optimizer=jaxnet.optim.sgd(lr=1e-3),
        epochs=case.epochs,
        batch_size=case.batch,
        seed=1,
        callbacks=[caught],
        placement=_place(case),
    )
    run = caught.run
    with use(run.precision):
        whole = make_epochs(run.program, run.batching, count_capacity(run.batching))
        program = jax.jit(whole).lower(run.state, run.source.arrays, case.epochs).compile()

    def train() -> tuple[Any, np.ndarray]:
        state, losses = program(run.state, run.source.arrays, case.epochs)
        return state, np.asarray(losses)[: case.epochs].reshape(-1)

    _prepared[case] = train
    state, losses = train()
    return {
        "steps": run.batching.steps,
        "collectives": list_collectives(program.as_text() or ""),
        "losses": losses.astype(float),
        "stream": [int(state.generator.position), *map(int, np.asarray(state.generator.key)[:4])],
    }


def build(net: Net) -> tuple[Any, Callable]:
    """The net and its loss."""
    layers: list[Any] = []
    for before, after in zip(net.widths[:-2], net.widths[1:-1], strict=True):
        layers += [nn.Linear(before, after), *([nn.Dropout(net.p)] if net.p else []), nn.ReLU()]
    layers.append(nn.Linear(net.widths[-2], net.widths[-1]))
    if net.widths[-1] > 1:
        return nn.Sequential(layers), jaxnet.losses.cross_entropy
    return nn.Sequential([*layers, nn.Sigmoid()]), jaxnet.losses.binary_cross_entropy


def _load(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """So many of the lecture's digits, repeated where there are fewer, with their targets."""
    train, _ = load_mnist((0, 1))
    picked = np.resize(np.arange(len(train.labels)), case.examples)
    labels, outputs = train.labels[picked], case.net.widths[-1]
    y = np.eye(outputs, dtype=np.float32)[labels] if outputs > 1 else labels[:, None]
    return np.ascontiguousarray(train.images[picked]), y.astype(np.float32)


def _place(case: Case) -> OnMesh | None:
    """A mesh over all devices; sharded over it the weights of all layers but the last."""
    if jax.device_count() == 1:
        return None
    # `build` numbers the layers of a net without dropout 0, 2, 4, with the ReLUs between.
    names = [str(2 * layer) for layer in range(len(case.net.widths) - 2)]
    specs = dict.fromkeys(names, PartitionSpec("data")) if case.weights == "sharded" else None
    return OnMesh(jax.make_mesh((jax.device_count(),), ("data",)), specs)
