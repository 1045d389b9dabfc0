"""Training on several devices: what is sent, what a step takes, and a model of both beyond here.

A step of a batch on N devices, of which each has a share of the rows, takes

    step(N) = compute(rows / N) + draws(rows) + all_reduce(bytes, tensors, N)

`compute` falls with N, `draws` does not (every device draws all masks), `all_reduce` grows. On CPU
devices, which share cores, the first two are multiplied by N / min(N, cores).
"""

import math
import socket
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks.collectives import Collective, count_bytes, count_runs
from benchmarks.scaling_worker import Workers, start_workers
from benchmarks.timing import interleave
from jaxnet.lecture._machine import count_cores
from jaxnet.random.mt19937 import BLOCK
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
    def flops(self) -> int:
        """Of one row's products: forward, weights' gradient, inputs' but for the first layer."""
        products = [a * b for a, b in zip(self.widths, self.widths[1:], strict=False)]
        return 6 * sum(products) - 2 * products[0]

    @property
    def masked(self) -> int:
        """Numbers that one row's masks take from torch's stream."""
        return sum(self.widths[1:-1]) if self.p else 0

    @property
    def tensors(self) -> int:
        """Operands of a step's all-reduce: weights and biases of each layer, and the loss."""
        return 2 * (len(self.widths) - 1) + 1

    @property
    def bytes(self) -> int:
        """Of the same."""
        return FLOAT * (self.weights + 1)


LECTURE = Net("lecture's", (784, 32, 1), 0.5)
PLAIN = Net("no dropout", (784, 32, 1))
WIDE = Net("wide", (784, 1024, 1024, 10))


class Case(NamedTuple):
    """Epochs of a net over so many rows; `spread` cuts the hidden layers' weights over devices."""

    net: Net
    batch: int
    rows: int
    epochs: int = 1
    spread: bool = False

    @property
    def name(self) -> str:
        """Of a line in the tables."""
        return f"{self.net.name} {self.batch}{' spread' if self.spread else ''}"


CASES = (
    Case(LECTURE, 16, 12_665),
    Case(LECTURE, 1024, 12_288, epochs=4),
    Case(LECTURE, 4096, 12_288, epochs=4),
    Case(LECTURE, 12_665, 12_665, epochs=4),
    Case(WIDE, 16, 512),
    Case(WIDE, 1024, 4096),
    Case(WIDE, 1024, 4096, spread=True),
)
APART = (0, 1, 5)  # of these cases, those that two processes train too
DEVICES = (1, 2, 4, 8)
ALONE = {LECTURE: (2, 16, 128, 1024, 4096), WIDE: (2, 16, 128, 1024)}  # rows, on one core
VECTORS = (  # float32 numbers of each tensor
    (1,),
    (4096,),
    (25_154,),
    (2**18,),
    (2**20,),
    (1,) * 5,
    (5_031,) * 5,
    (2**20 // 5,) * 5,
)
MASK, MASKS = 12_665 * 32, 20  # elements of a mask, and how many are drawn in a row


Shape = Literal["shared", "ring"]
SHAPES: dict[str, Shape] = {"devices": "shared", "processes": "ring"}


class Link(NamedTuple):
    """What sums of vectors over devices cost.

    `shared`: the copies of all N devices lie in one memory and pass through the same cores, so all
    of it grows with N: $N (\\alpha t + b / \\beta)$ for t tensors of b bytes in all. `ring`: each
    device sends its neighbour a part of 1 / N, 2 (N - 1) times in turn:
    $2 (N - 1) \\alpha t + 2 \\frac{N - 1}{N} b / \\beta$.
    """

    latency: float
    """alpha, in seconds: what an empty tensor costs."""
    bandwidth: float
    """beta, in bytes per second."""
    shape: Shape


def count_parts(shape: Shape, tensors: int, size: float, devices: int) -> tuple[float, float]:
    """How often an all-reduce pays a link's latency, and how many bytes it sends.

    >>> count_parts("ring", 1, 800, 8), count_parts("shared", 5, 800, 8)
    ((14, 1400.0), (40, 6400))
    """
    if shape == "shared":
        return devices * tensors, devices * size
    turns = 2 * (devices - 1)
    return turns * tensors, turns / devices * size


def reduce_seconds(link: Link, tensors: int, size: float, devices: int) -> float:
    """Seconds of an all-reduce; none on one device.

    >>> reduce_seconds(Link(1e-6, 1e9, "ring"), 1, 1000, 2)
    3e-06
    """
    if devices == 1:
        return 0.0
    turns, sent = count_parts(link.shape, tensors, size, devices)
    return turns * link.latency + sent / link.bandwidth


class Work(NamedTuple):
    """Seconds of a step on one core: a line over its rows, draws left out."""

    fixed: float
    each: float

    def of(self, rows: float) -> float:
        """Seconds of so many rows."""
        return self.fixed + self.each * rows


class Model(NamedTuple):
    """What the measured machine costs, from runs on one core and from all-reduces alone."""

    cores: int
    draw: float
    """Seconds of one number of a mask."""
    work: dict[str, Work]
    links: dict[str, Link]


def predict_step(model: Model, net: Net, batch: int, devices: int, place: str) -> float:
    """Seconds of a step on CPU devices that share `model.cores`.

    Rows that do not divide are computed whole on every device, and nothing is sent.
    """
    divides = batch % devices == 0
    rows = batch // devices if divides else batch
    busy = model.work[net.name].of(rows) + model.draw * net.masked * batch
    crowd = devices / min(devices, model.cores)
    sent = reduce_seconds(model.links[place], net.tensors, net.bytes, devices) if divides else 0.0
    return busy * crowd + sent


def fit_positive(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Factors, none negative, whose sum of columns is nearest to the seconds, relatively.

    >>> [round(factor, 6) for factor in fit_positive([(1, 1, 1), (0, 1, 2)], [3.0, 5.0, 7.0])]
    [3.0, 2.0]
    """
    scale = 1 / np.asarray(seconds, float)
    matrix = np.asarray(columns, float).T * scale[:, None]
    size = np.linalg.norm(matrix, axis=0)
    return (nnls(matrix / size, np.ones(len(scale)))[0] / size).tolist()


def fit_model(rows: Sequence[dict[str, Any]]) -> Model:
    """The model's numbers from the rows of one core and of all-reduces; no step on devices."""
    (drawn,) = select(rows, "draws")
    draw = middle(drawn) / (MASK * MASKS)
    work = {}
    for net in ALONE:
        found = [row for row in select(rows, "alone") if row["net"] == net.name]
        counts = [row["rows"] for row in found]
        ones = [1.0] * len(found)
        spent = [middle(row) - draw * net.masked * row["rows"] for row in found]
        work[net.name] = Work(*fit_positive([ones, counts], spent))
    links = {}
    for place, shape in SHAPES.items():
        found = [row for row in select(rows, "all_reduce") if row["place"] == place]
        parts = [count_parts(shape, row["tensors"], row["bytes"], row["devices"]) for row in found]
        latency, slowness = fit_positive(list(zip(*parts, strict=True)), list(map(middle, found)))
        links[place] = Link(latency, 1 / slowness if slowness else math.inf, shape)
    return Model(drawn["cores"], draw, work, links)


def select(rows: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Of the rows those of one kind whose sides agree."""
    return [row for row in rows if row["kind"] == kind and row["agree"]]


def middle(row: dict[str, Any]) -> float:
    """The median of a row's seconds."""
    return statistics.median(row["seconds"])


def predict_row(model: Model, row: dict[str, Any]) -> float | None:
    """What the model says of a measured row; nothing of what it was fitted to or cannot know.

    One device uses both cores for large products and one for small ones; weights that are spread
    are sent in other ways than by one all-reduce.
    """
    if row["kind"] == "all_reduce":
        link = model.links[row["place"]]
        return reduce_seconds(link, row["tensors"], row["bytes"], row["devices"])
    if row["devices"] == 1 or row["spread"]:
        return None
    net = next(net for net in ALONE if net.name == row["net"])
    return predict_step(model, net, row["batch"], row["devices"], row["place"])


class Accelerator(NamedTuple):
    """What is assumed of a card or chip, and of many of them; docs/scaling.md says from where."""

    name: str
    peak: float
    """Float32 multiplications and additions per second, by its data sheet."""
    share: float
    """What part of its peaks is reached."""
    memory: float
    """Bytes per second, by its data sheet."""
    launch: float
    """Seconds of the smallest operation."""
    tile: int
    """Rows that a product computes at once: fewer cost as much."""
    group: int
    """Devices of a node, next to each other; 0 for a three-dimensional torus of all."""
    start: float
    """Seconds before a collective begins."""
    near: tuple[float, float]
    """Latency of a hop to a neighbour, and bytes per second that a device sends, both ways full."""
    far: tuple[float, float]
    """The same between nodes, for each device."""


H100 = Accelerator(
    "H100",
    peak=67e12,
    share=0.5,
    memory=3.35e12,
    launch=4e-6,
    tile=128,
    group=8,
    start=6.8e-6,
    near=(0.6e-6, 450e9),
    far=(5.0e-6, 50e9),
)
V5P = Accelerator(
    "TPU v5p",
    peak=459e12 / 6,
    share=0.5,
    memory=2.765e12,
    launch=1e-6,
    tile=128,
    group=0,
    start=0.0,
    near=(1e-6, 600e9),
    far=(1e-6, 600e9),
)
ACCELERATORS = (H100, V5P)
OPERATIONS = 5  # of a layer's step: product, its gradient, the bias's, the next inputs', update
TURN = 4  # operations in which 624 numbers of torch's stream are drawn
TOUCHES = 6  # times that a step reads or writes each weight or its gradient
LINKED = 0.8  # of a link's data sheet
MANY = (1, 8, 64, 512, 4096)


def reduce_far(device: Accelerator, size: float, devices: int) -> float:
    """Seconds of an all-reduce over accelerators, its tensors sent as one.

    In a torus each of three rings has its own links, and the parts go around twice, half of them
    either way: as many hops as the sides are long together. With nodes: a chain in the node and a
    tree between nodes, up and down, as NCCL estimates its latency; bytes are scattered in the node,
    so that each device sends its part alone to other nodes.
    """
    if devices == 1:
        return 0.0
    (near, width), (far, far_width) = device.near, device.far
    if not device.group:
        hops = 3 * devices ** (1 / 3)
        return device.start + hops * near + _ring(size, devices) / (width * LINKED)
    inside = min(devices, device.group)
    nodes = math.ceil(devices / device.group)
    hops = 2 * (inside - 1) * near + 2 * math.ceil(math.log2(nodes)) * far
    sent = _ring(size, inside) / width + _ring(size / inside, nodes) / far_width
    return device.start + hops + sent / LINKED


def _ring(size: float, devices: int) -> float:
    """Bytes that each device of a ring sends."""
    return 2 * (devices - 1) / devices * size


def step_far(device: Accelerator, net: Net, batch: int, devices: int) -> float:
    """Seconds of a step on accelerators, of which each has a share of the batch."""
    divides = batch % devices == 0
    rows = batch // devices if divides else batch
    padded = math.ceil(rows / device.tile) * device.tile
    products = padded * net.flops / (device.peak * device.share)
    memory = TOUCHES * FLOAT * net.weights / (device.memory * device.share)
    floor = OPERATIONS * (len(net.widths) - 1) * device.launch
    draws = batch * net.masked / BLOCK * TURN * device.launch
    sent = reduce_far(device, net.bytes, devices) if divides else 0.0
    return floor + max(products, memory) + draws + sent


def find_batch(device: Accelerator, net: Net, devices: int, gain: float) -> int | None:
    """The smallest power of two of rows whose step is `gain` times as fast as on one device.

    None if there is none up to 2^30 rows.
    """
    for exponent in range(31):
        batch = 2**exponent
        alone, spread = (step_far(device, net, batch, count) for count in (1, devices))
        if batch >= devices and alone > gain * spread:
            return batch
    return None


def compare_scaling(
    rounds: int,
    cases: Sequence[Case] = CASES,
    devices: Sequence[int] = DEVICES,
    vectors: Sequence[tuple[int, ...]] = VECTORS,
    apart: Sequence[int] = APART,
) -> list[dict[str, Any]]:
    """Rows of five kinds, each timed in rounds in which all take turns.

    `communication`: what the program of a case sends, read from it. `step`: its seconds, on
    several devices and in two processes. `all_reduce`: that alone. `alone`, `draws`: on one core.
    The losses and the random stream of every case are first held against those of one device.
    """
    places: dict[str, dict[str, Any]] = {f"devices {n}": {"devices": n} for n in devices}
    places["processes 2"] = {"devices": 1, "processes": 2, "port": _find_port()}
    places["core 1"] = {"devices": 1, "one_core": True}
    with start_workers(**places) as workers:
        rows = [
            *_prepare_cases(workers, cases, apart),
            *_prepare_vectors(workers, vectors),
            *_prepare_alone(workers),
        ]
        calls = {
            row["id"]: _make_call(workers[row["worker"]], row["id"], row.pop("times"))
            for row in rows
            if "times" in row
        }
        seconds = interleave(calls, rounds, warm=True)
    for row in rows:
        row |= {"seconds": seconds[row["id"]]} if row["id"] in seconds else {}
        del row["worker"], row["id"]
    return rows


def _make_call(worker: Workers, name: str, times: int) -> Callable[[], float]:
    """Seconds of each of the things that one command does `times`."""
    return lambda: worker.ask("time", name) / times


def _find_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _prepare_cases(
    workers: dict[str, Workers], cases: Sequence[Case], apart: Sequence[int]
) -> list[dict[str, Any]]:
    rows, singles = [], {}
    for number, case in enumerate(cases):
        for name, worker in workers.items():
            place = name.split()[0]
            if place == "core" or (place == "processes" and number not in apart):
                continue
            if case.spread and worker.devices == 1:
                continue
            row = {
                "worker": name,
                "id": f"{case.name} {name}",
                "net": case.net.name,
                "batch": case.batch,
                "spread": case.spread,
                "place": place,
                "devices": worker.devices,
            }
            facts = worker.ask("step", row["id"], **_say(case))
            single = singles.setdefault((case.net, case.batch), facts)
            right = judge(facts, single)
            rows.append({"kind": "step", **row, **right, "times": facts["steps"] * case.epochs})
            if place == "devices" and worker.devices > 1:
                sent = describe(case, worker.devices, facts)
                rows.append({"kind": "communication", **row, **sent, "id": f"{row['id']} sent"})
    return rows


def _say(case: Case) -> dict[str, Any]:
    """A case as its worker is told it."""
    net, *_ = case
    return {"widths": net.widths, "p": net.p} | {
        name: value for name, value in case._asdict().items() if name != "net"
    }


def judge(facts: dict[str, Any], single: dict[str, Any]) -> dict[str, Any]:
    """Whether a run has the random stream of one device's, and its losses within the bound."""
    losses, losses_single = np.array(facts["losses"]), np.array(single["losses"])
    gap = float(np.abs(losses / losses_single - 1).max())
    agree = facts["stream"] == single["stream"] and gap <= TRAJECTORY.rtol
    return {"agree": bool(agree), "loss_gap": gap}


def describe(case: Case, devices: int, facts: dict[str, Any]) -> dict[str, Any]:
    """What a step and an epoch of a case send, by the program's own text.

    Where weights are whole, a step whose rows divide must be one all-reduce of the gradients and
    the loss, and one whose rows do not must send nothing.
    """
    found = [
        Collective(kind, tensors, size, tuple(loops))
        for kind, tensors, size, loops in facts["collectives"]
    ]
    steps = [one for one in found if facts["full"] == 1 or one.loops[-1:] == (facts["full"],)]
    kinds = [one.kind for one in steps]
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    sent = sum(one.bytes for one in steps)
    expected = [("all-reduce", case.net.tensors, case.net.bytes)]
    divides = case.batch % devices == 0
    return {
        "agree": case.spread or [one[:3] for one in steps] == (expected if divides else []),
        "weights": facts["weights"],
        "steps": facts["steps"],
        "kinds": counts,
        "tensors": sum(one.tensors for one in steps),
        "bytes": sent,
        "epoch_runs": count_runs(found),
        "epoch_bytes": count_bytes(found),
    }


def _prepare_vectors(
    workers: dict[str, Workers], vectors: Sequence[tuple[int, ...]]
) -> list[dict[str, Any]]:
    rows = []
    for sizes in vectors:
        for name, worker in workers.items():
            if worker.devices == 1:
                continue
            size = FLOAT * sum(sizes)
            place = name.split()[0]
            apart = place == "processes"
            times = 10 if apart else max(4, min(200, 2**24 // (worker.devices * size)))
            identity = f"{len(sizes)} of {sizes[0]} {name}"
            facts = worker.ask("all_reduce", identity, sizes=sizes, repeats=times)
            found = [tuple(parts[:3]) for parts in facts["collectives"]]
            rows.append(
                {
                    "kind": "all_reduce",
                    "worker": name,
                    "id": identity,
                    "place": place,
                    "devices": worker.devices,
                    "tensors": len(sizes),
                    "bytes": size,
                    "agree": facts["right"] and found == [("all-reduce", len(sizes), size)],
                    "times": times,
                }
            )
    return rows


def _prepare_alone(workers: dict[str, Workers]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    worker = workers["core 1"]
    for net, counts in ALONE.items():
        for count in counts:
            steps = max(2, min(200, 4096 // count))
            case = Case(net, count, count * steps)
            identity = f"{case.name} alone"
            worker.ask("step", identity, **_say(case))
            row = {"net": net.name, "rows": count, "agree": True, "times": steps}
            rows.append({"kind": "alone", "worker": "core 1", "id": identity, **row})
    worker.ask("draws", "draws", p=LECTURE.p, count=MASK, repeats=MASKS)
    row = {"cores": count_cores(), "agree": True, "times": 1}
    return [*rows, {"kind": "draws", "worker": "core 1", "id": "draws", **row}]
