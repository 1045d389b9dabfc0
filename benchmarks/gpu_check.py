"""What a graphics card gives: its masks beside torch's, the lecture certified, steps a second.

`python -m benchmarks --gpu-check` has three parts. Masks: `torch.nn.functional.dropout` on the
card, beside what JAX computes there from the same seed and the card's size, bit for bit.
Certificates: jaxnet's side (each step, its masks and orders, a whole `jaxnet.fit`) runs on the
card; torch's side and its float64 reference run on the CPU, as the stream of torch's CPU generator
is the one that is proved, and both sides draw from it. Speed: both train on the card, with masks
from its stream. Each part takes a `Place`: `make_place("cpu")` runs the same lines on a CPU.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from benchmarks.task import Missing
from benchmarks.timing import as_json, describe_machine, interleave, median_ratio
from jaxnet import random
from jaxnet.callbacks.progress import count
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.certificate.report import headline
from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture._machine import name_processor
from jaxnet.lecture.cli.options import make_table
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.experiments import EXPERIMENTS, find, run
from jaxnet.train.state import History
from torchref.lecture import SECTIONS, ignore
from torchref.results import certify_experiment

RESULTS = Path(__file__).parent / "results"
SEEDS = 1, 2**40 + 1  # the card's stream, other than the CPU's, takes all 64 bits
PROBABILITIES = 0.9, 0.5, 0.04
SHAPES = [(12665, 32), (16, 32), (9, 32), (16, 3), (5, 8), (3, 4), (5, 2), (33, 7), (1,)]


class Place(NamedTuple):
    """Where the parts run: torch's name of it, JAX's device, what is known of the card, and the
    arguments of `jaxnet.random.manual_seed` for the stream of torch's generator there."""

    torch: str
    jax: Any
    card: dict[str, Any]
    stream: dict[str, Any]


class Sizes(NamedTuple):
    """How much of everything: masks of each shape, seed and probability; epochs certified, and
    steps of each that is in batches; training rows, all if None; seconds of timing an experiment;
    which experiments; and the seconds after which nothing else begins."""

    turns: int = 3
    epochs: int = 3
    batches: int = 50
    rows: int | None = None
    seconds: float = 4.0
    names: tuple[str, ...] = tuple(EXPERIMENTS)
    limit: float = 240.0


SIZES = Sizes()
Check = tuple[str, str, Callable[[], dict[str, Any]]]
"""Its part, its name, and what gives its row."""


def see_cards() -> tuple[Any, Any]:
    """JAX's first NVIDIA card and torch's properties of its first; None where one sees none."""
    try:
        device = jax.devices("cuda")[0]
    except RuntimeError:  # JAX's way to say that it has no such backend
        device = None
    seen = torch.cuda.is_available() and torch.version.cuda is not None
    return device, torch.cuda.get_device_properties(0) if seen else None


def make_place(kind: str = "cuda") -> Place:
    """The card, or the CPU and its own stream; a `Missing` where JAX or torch sees no card."""
    if kind == "cpu":
        return Place("cpu", jax.devices("cpu")[0], {"name": name_processor()}, {})
    device, seen = see_cards()
    if device is None or seen is None:
        names = device and device.device_kind, seen and seen.name
        cards = [f"the {name}" if name else "no NVIDIA card" for name in names]
        raise Missing("Nothing was checked: JAX sees {}, and torch sees {}.".format(*cards))
    size = {
        "multiprocessors": seen.multi_processor_count,
        "threads_per_multiprocessor": seen.max_threads_per_multi_processor,
    }
    card = {"name": seen.name, **size, "capability": f"{seen.major}.{seen.minor}"}
    card |= {"memory_bytes": seen.total_memory, "cuda_of_torch": torch.version.cuda}
    return Place("cuda", device, card, {"device": "cuda", **size})


def list_shapes(place: Place) -> list[tuple[int, ...]]:
    """Counts that 1, 2, 4, 8 or 16 divide, of one turn of the card's threads and of several."""
    stream = random.manual_seed(0, **place.stream).cuda
    threads = 256 if stream is None else stream.threads(2**40)
    # In a turn each thread makes four numbers at most.
    return [*SHAPES, *((8 * threads + more,) for more in (1, 2, 4, 8, 16))]


def check_masks(place: Place, shapes: Sequence[tuple[int, ...]], turns: int) -> dict[str, Any]:
    """Masks in sequence from each seed, of every probability and shape in turn, bit for bit."""
    masks, numbers, differing, first = 0, 0, 0, ""
    for seed in SEEDS:
        torch.manual_seed(seed)
        generator = random.manual_seed(seed, **place.stream)
        for call, (_, p, shape) in enumerate(product(range(turns), PROBABILITIES, shapes)):
            with jax.default_device(place.jax):
                generator, keep = random.dropout_mask(generator, p, shape)
            dropped = torch.nn.functional.dropout(torch.ones(shape, device=place.torch), p)
            apart = np.flatnonzero(np.asarray(keep) != (dropped != 0).cpu().numpy())
            if len(apart) and not first:
                first = f", first element {apart[0]} of {shape}, p={p}, seed {seed}, call {call}"
            masks, numbers, differing = masks + 1, numbers + keep.size, differing + len(apart)
    found = f"{masks} masks, {numbers:,} numbers; {differing:,} differ{first}"
    return {"agree": differing == 0, "found": found, "numbers": numbers, "differing": differing}


def thin(data: Dataset, rows: int | None) -> Dataset:
    """At most so many rows, evenly spaced: they lie in the order of their labels."""
    most = len(data.labels)
    chosen = np.linspace(0, most - 1, min(rows or most, most)).astype(int)
    return data._replace(images=data.images[chosen], labels=data.labels[chosen])


def check_certificate(place: Place, name: str, sizes: Sizes) -> dict[str, Any]:
    """An experiment's first epochs, certified."""
    experiment = find(name)
    data = thin(load_mnist(experiment.classes)[0], sizes.rows)
    if experiment.batch_size is not None:  # the float64 reference is slow: it looks at every step
        data = thin(data, sizes.batches * experiment.batch_size)
    with jax.default_device(place.jax):
        certificate = certify_experiment(name, data, epochs=sizes.epochs)
    return {
        "agree": certificate.agrees,
        "found": f"{headline(certificate)} {len(data.labels):,} rows.",
        "text": str(certificate).splitlines(),
    }


def train_torch(name: str, tensors: Sequence[torch.Tensor], losses: list | None = None) -> float:
    """Seconds of the lecture's loop, the card's work done; every loss goes to `losses`, if any."""
    X, y = tensors
    section = SECTIONS[name]
    net, loss_fn, optimizer = section.build()
    net = net.to(X.device)
    watch = ignore if losses is None else lambda net, out, loss: losses.append(loss.item())
    wait = torch.cuda.synchronize if X.is_cuda else lambda: None
    wait()
    begin = time.perf_counter()
    section.train((net, loss_fn, optimizer), X, y, lambda epoch, loss, acc: loss.item(), watch)
    wait()
    return time.perf_counter() - begin


def train_jaxnet(place: Place, name: str, data: tuple[Dataset, Dataset]) -> History:
    """The same run; its `run_seconds` end when the last loss and report are on the host."""
    generator = random.manual_seed(find(name).seed, **place.stream)
    done = run(replace(find(name), seed=generator), data, device=place.jax)
    jax.block_until_ready(done.state)  # nothing of it is left to disturb the next one
    return done.history


def check_speed(place: Place, name: str, sizes: Sizes) -> dict[str, Any]:
    """An experiment whole, on both sides: every loss first, then seconds where these agree."""
    train, test = (thin(rows, sizes.rows) for rows in load_mnist(find(name).classes))
    arrays = train.images, find(name).targets(train)
    tensors = [torch.tensor(array, device=place.torch) for array in arrays]
    losses: list[float] = []
    with jax.default_device(place.jax):
        first = train_torch(name, tensors, losses)
        history = train_jaxnet(place, name, (train, test))
        gap = float(np.abs(history.losses / np.array(losses) - 1).max())
        if not gap <= TRAJECTORY.rtol:
            return {"agree": False, "found": f"loss gap {gap:.0e}: not timed"}
        sides = {
            "torch": lambda: train_torch(name, tensors),
            "jaxnet": lambda: train_jaxnet(place, name, (train, test)).run_seconds,
        }
        rounds = int(np.clip(sizes.seconds / (first + history.run_seconds), 3, 15))
        seconds = interleave(sides, rounds, warm=True)
    pace = {side: len(losses) / float(np.median(values)) for side, values in seconds.items()}
    ratio = median_ratio(seconds["jaxnet"], seconds["torch"])
    paces = "jaxnet {jaxnet:,.0f} steps/s, torch {torch:,.0f}".format(**pace)
    return {
        "agree": True,
        "found": f"{paces}, {ratio:.2f}x; loss gap {gap:.0e}",
        "loss_gap": gap,
        "steps": len(losses),
        "seconds": seconds,
        "steps_per_second": pace,
        "ratio": ratio,
    }


def list_checks(place: Place, sizes: Sizes) -> list[Check]:
    """Every check, each to be run whatever becomes of the others."""
    shapes = list_shapes(place)
    several = [*((str(shape), [shape]) for shape in shapes), ("all in turn", shapes)]
    checks: list[Check] = [
        ("masks", name, partial(check_masks, place, some, sizes.turns)) for name, some in several
    ]
    for part, check in (("certificates", check_certificate), ("speed", check_speed)):
        checks += [(part, name, partial(check, place, name, sizes)) for name in sizes.names]
    return checks


def attempt(check: Check, late: bool) -> dict[str, Any]:
    """A check's row, which tells what was raised; nothing begins when it is late."""
    (part, name, call), begin = check, time.perf_counter()
    row: dict[str, Any] = {"part": part, "name": name, "agree": False}
    try:
        row |= {"error": "not begun: the time was over"} if late else call()
    except Exception as error:  # the others still run
        row["error"] = f"{type(error).__name__}: {error}"
    return row | {"took_seconds": time.perf_counter() - begin}


def check_card(path: Path | None, output: Output, *, quiet: bool) -> int:
    """Check the card, print a table, write `path`; 0 if all agrees, 1 if not, 2 without a card."""
    try:
        place = make_place()
    except Missing as sentence:
        output.say(str(sentence))
        return 2
    words = re.findall("[a-z0-9]+", place.card["name"].lower())
    path = path or RESULTS / f"{'-'.join(['gpu', *words])}.json"
    results: dict[str, Any] = {"card": place.card, "machine": describe_machine()}
    results |= {"seconds": 0.0, "agree": False, "rows": []}
    checks, begin = list_checks(place, SIZES), time.perf_counter()
    table = make_table(["part", "what", "", "found"])
    table.columns[-1].no_wrap = False
    with count("gpu check", len(checks), quiet=quiet) as tell:
        for done, check in enumerate(checks, 1):
            tell(done - 1, f"{check[0]}: {check[1]}")
            row = attempt(check, time.perf_counter() - begin > SIZES.limit)
            verdict = "FAILED" if "error" in row else "agrees" if row["agree"] else "DIFFERS"
            found = row.get("error", row.get("found", "")).partition("\n")[0]
            table.add_row(row["part"], row["name"], verdict, found)
            results["rows"].append(row)
            results["seconds"] = time.perf_counter() - begin
            results["agree"] = done == len(checks) and all(r["agree"] for r in results["rows"])
            output.save_so_far(path, as_json(results))
        tell(len(checks), "checked")
    saved = output.save(path, as_json(results))
    output.show(f"{place.card['name']}, {place.jax}; {results['seconds']:.0f} s.")
    output.show(table)
    if saved:
        output.say(f"wrote {path}")
    return output.status(0 if results["agree"] else 1)
