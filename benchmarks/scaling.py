"""Training on 1 to 8 devices of this CPU: what a program sends between them, and its seconds.

The devices share the cores of one machine, so the seconds say what devices cost and not what they
gain.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from benchmarks.collectives import Collective, count_bytes, count_runs
from benchmarks.scaling_worker import Worker, start_workers
from benchmarks.timing import interleave
from jaxnet.certificate.bounds import TRAJECTORY

FLOAT = 4  # bytes of a float32


class Net(NamedTuple):
    """Linear layers of these widths with ReLU between them, after Dropout(p) if p is not 0."""

    name: str
    widths: tuple[int, ...]
    p: float = 0.0

    @property
    def weights(self) -> int:
        """Numbers in the weights and biases, and so in their gradients."""
        pairs = zip(self.widths, self.widths[1:], strict=False)
        return sum(width_in * width_out + width_out for width_in, width_out in pairs)

    @property
    def tensors(self) -> int:
        """Operands of a step's all-reduce: weights and biases of each layer, and the loss."""
        return 2 * (len(self.widths) - 1) + 1

    @property
    def bytes(self) -> int:
        """Of the same."""
        return FLOAT * (self.weights + 1)


LECTURE = Net("lecture's", (784, 32, 1), 0.5)
WIDE = Net("wide", (784, 1024, 1024, 10))


class Case(NamedTuple):
    """Epochs of a net over so many examples; `sharded` shards the hidden layers' weights."""

    net: Net
    batch: int
    examples: int
    epochs: int = 1
    sharded: bool = False

    @property
    def name(self) -> str:
        """Of a line in the tables."""
        return f"{self.net.name} {self.batch}{' sharded' if self.sharded else ''}"


CASES = (
    Case(LECTURE, 16, 12_665),
    Case(LECTURE, 1024, 12_288, epochs=4),
    Case(LECTURE, 4096, 12_288, epochs=4),
    Case(LECTURE, 12_665, 12_665, epochs=4),
    Case(WIDE, 16, 512),
    Case(WIDE, 1024, 4096),
    Case(WIDE, 1024, 4096, sharded=True),
)
DEVICES = (1, 2, 4, 8)


def compare_scaling(
    rounds: int, cases: Sequence[Case] = CASES, devices: Sequence[int] = DEVICES
) -> list[dict[str, Any]]:
    """Rows of two kinds; the seconds are of rounds in which all take turns.

    `communication`: what the program of a case sends, read from it. `step`: its seconds. The losses
    and the random stream of every case are first held against those of one device, the first of
    `devices`.
    """
    rows: list[dict[str, Any]] = []
    steps: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], float]] = {}
    singles: dict[tuple[Net, int], dict[str, Any]] = {}
    with start_workers(devices) as workers:
        for case, worker in product(cases, workers):
            if case.sharded and worker.devices == 1:
                continue
            facts = worker.ask("prepare", case.name, **tell(case))
            single = singles.setdefault((case.net, case.batch), facts)
            step, *sent = make_rows(case, worker.devices, facts, single)
            rows += [step, *sent]
            name = f"{case.name} on {worker.devices}"
            calls[name] = partial(_time_step, worker, case, facts["steps"])
            steps[name] = step
        seconds = interleave(calls, rounds, warm=True)
    for name, step in steps.items():
        step["seconds"] = seconds[name]
    return rows


def _time_step(worker: Worker, case: Case, steps: int) -> float:
    """Seconds of a step, of a command that trains all epochs of a case."""
    return worker.ask("time", case.name) / (steps * case.epochs)


def make_rows(
    case: Case, devices: int, facts: dict[str, Any], single: dict[str, Any]
) -> list[dict[str, Any]]:
    """A case's rows on one number of devices: of its step and, on several, of what is sent."""
    row = {"net": case.net.name, "batch": case.batch, "sharded": case.sharded, "devices": devices}
    rows = [{"kind": "step", **row, **judge(facts, single)}]
    if devices > 1:
        rows.append({"kind": "communication", **row, **describe(case, devices, facts)})
    return rows


def tell(case: Case) -> dict[str, Any]:
    """A case as its worker is told it."""
    options = {name: value for name, value in case._asdict().items() if name != "net"}
    return {"widths": case.net.widths, "p": case.net.p, **options}


def judge(facts: dict[str, Any], single: dict[str, Any]) -> dict[str, Any]:
    """Whether a run has the random stream of one device's, and its losses within the bound."""
    losses, losses_single = np.array(facts["losses"]), np.array(single["losses"])
    gap = float(np.abs(losses / losses_single - 1).max())
    agree = facts["stream"] == single["stream"] and gap <= TRAJECTORY.rtol
    return {"agree": bool(agree), "loss_gap": gap}


def describe(case: Case, devices: int, facts: dict[str, Any]) -> dict[str, Any]:
    """What a step and an epoch of a case send, by the program's own text.

    Where weights are replicated, a step whose batch divides must be one all-reduce of the gradients
    and the loss, and one whose batch does not must send nothing.
    """
    found = [
        Collective(kind, tensors, size, tuple(loops))
        for kind, tensors, size, loops in facts["collectives"]
    ]
    steps = [one for one in found if facts["full"] == 1 or one.loops[-1:] == (facts["full"],)]
    kinds = [one.kind for one in steps]
    expected = [("all-reduce", case.net.tensors, case.net.bytes)]
    divides = case.batch % devices == 0
    return {
        "agree": case.sharded or [one[:3] for one in steps] == (expected if divides else []),
        "weights": facts["weights"],
        "steps": facts["steps"],
        "kinds": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "tensors": sum(one.tensors for one in steps),
        "bytes": sum(one.bytes for one in steps),
        "epoch_runs": count_runs(found),
        "epoch_bytes": count_bytes(found),
    }


def select(rows: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Of the rows those of one kind whose sides agree."""
    return [row for row in rows if row["kind"] == kind and row["agree"]]


def middle(row: dict[str, Any]) -> float:
    """The median of a row's seconds."""
    return statistics.median(row["seconds"])


def find_gain(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> float | None:
    """How many times as fast as the same batch on one device; None of one device itself."""
    if row["devices"] == 1:
        return None
    same = [one for one in select(rows, "step") if one["devices"] == 1]
    alone = [one for one in same if all(one[name] == row[name] for name in ("net", "batch"))]
    return middle(alone[0]) / middle(row) if alone else None
