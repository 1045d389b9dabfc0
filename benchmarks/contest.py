"""`minibatch` step by step: jaxnet beside every other way to train it."""

import statistics
import time
from typing import Any

import numpy as np

import jaxnet
from benchmarks.peers import contestants
from benchmarks.peers.torch_eager import LECTURE
from benchmarks.task import Contestant, Missing, Task, Trained
from benchmarks.timing import clock, interleave, median_ratio
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.convert import to_state_dict
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import EXPERIMENTS

OURS = "jaxnet.fit"
NAMES = [contestant.name for contestant in contestants()]
SLOW_TO_COMPILE = ("torch.compile, net and optimizer", "torch.compile, 28 steps a call")

# Without dropout everybody computes the same, by other sums; C adds rows to the weights one by one.
SAME_LOSS, SAME_WEIGHTS = 1e-4, 1e-3
# With masks of its own a net ends a little elsewhere: another seed moves the loss by .1%, the
# farthest contestant by .8%; dropping .4 instead of .5 would move it by 2.5%.
LIKE_ACCURACY, LIKE_LOSS = 0.002, 0.015


def make_task(data: Dataset, epochs: int = 2) -> Task:
    """The lecture's `minibatch` on these rows."""
    net = EXPERIMENTS["minibatch"].net
    _, variables = jaxnet.init(net, jaxnet.random.manual_seed(1))
    params = to_state_dict(variables)
    y = data.labels[:, None].astype(np.float32)
    return Task(np.ascontiguousarray(data.images), y, params, epochs=epochs)


def compare_peers(task: Task, rounds: int, names: list[str] | None = None) -> list[dict[str, Any]]:
    """A row for each contestant: what it computes, held against torch, and seconds of training.

    A contestant's first run compiles and is checked; `rounds` more are timed, all taking turns.
    """
    chosen = [c for c in contestants() if names is None or c.name in names or c.name == OURS]
    references = {p: train_once(LECTURE, task._replace(p=p)) for p in (task.p, 0.0)}
    rows, calls = [], {}
    for contestant in chosen:
        row = contestant._asdict() | {"agree": None, "steps": task.steps, "seconds": []}
        del row["prepare"]
        rows.append(row)
        try:
            train, read = contestant.prepare(task)  # imports
            begin = time.perf_counter()
            trained = read(train())
            row["first_seconds"] = time.perf_counter() - begin
        except Missing as missing:
            row["missing"] = str(missing)
            continue
        reference = references[0.0 if contestant.stream == "none" else task.p]
        row |= judge(contestant.stream, trained, reference, task)
        if row["agree"]:
            calls[contestant.name] = lambda train=train: clock(train)
    seconds = interleave(calls, rounds, warm=True)
    for row in rows:
        if taken := seconds.get(row["name"]):
            row["seconds"], row["step_seconds"] = taken, [each / task.steps for each in taken]
            row["compile_seconds"] = max(0.0, row["first_seconds"] - statistics.median(taken))
            if OURS in seconds:
                row["ratio"] = median_ratio(seconds[OURS], taken)
    return rows


def train_once(contestant: Contestant, task: Task) -> Trained:
    train, read = contestant.prepare(task)
    return read(train())


def judge(stream: str, trained: Trained, reference: Trained, task: Task) -> dict[str, Any]:
    """How far a run is from torch's, and whether that is as near as it must be.

    On torch's masks each step's loss, without dropout losses and weights, on masks of its own an
    accuracy and a loss over the training rows.
    """
    accuracy, loss = measure(trained, task)
    found: dict[str, Any] = {"accuracy": accuracy, "loss": loss}
    if trained.losses is not None and stream != "own":
        found["loss_gap"] = float(np.abs(trained.losses / reference.losses - 1).max())
    if stream == "torch":
        found["agree"] = found["loss_gap"] <= TRAJECTORY.rtol
    elif stream == "none":
        found["weight_gap"] = _weight_gap(trained, reference)
        near = found["weight_gap"] <= SAME_WEIGHTS
        found["agree"] = near and found.get("loss_gap", 0.0) <= SAME_LOSS
    else:
        accuracy_torch, loss_torch = measure(reference, task)
        near = abs(accuracy - accuracy_torch) <= LIKE_ACCURACY
        found["agree"] = near and abs(loss / loss_torch - 1) <= LIKE_LOSS
    return found


def measure(trained: Trained, task: Task) -> tuple[float, float]:
    """Accuracy and mean BCE over the task's rows, without dropout, in float64 by NumPy."""
    p = {name: value.astype(np.float64) for name, value in trained.params.items()}
    hidden = np.maximum(task.x @ p["0.weight"].T + p["0.bias"], 0)
    logits = hidden @ p["3.weight"].T + p["3.bias"]
    losses = np.logaddexp(0, logits) - task.y * logits
    return float(((logits > 0) == task.y).mean()), float(losses.mean())


def _weight_gap(trained: Trained, reference: Trained) -> float:
    """The largest difference in any tensor, as a share of its largest element."""
    return max(
        float(np.abs(trained.params[name] - value).max() / np.abs(value).max())
        for name, value in reference.params.items()
    )
