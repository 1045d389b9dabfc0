"""How long a training step takes: torch's as given, torch.compile's, and the port's."""

import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from operator import truediv
from typing import Any

import jax
import torch

from jaxnet.certificate import Timing
from jaxnet.lecture._machine import count_cores, name_processor
from torchref.batch import Batch
from torchref.comparison import Comparison
from torchref.plan import Plan

_ROUNDS = 7
_BLOCK = 0.1
"""Seconds that a contestant's turn takes at least."""

_BUSY = 0.1
"""Of a core: what other processes may take before it is said."""

Steps = Callable[[int], float]
"""Seconds that so many training steps take."""


def time_steps(comparison: Comparison) -> Timing:
    """Time a training step of a comparison's run, which is put back as it was.

    Contestants take turns, each beginning a round in its turn, so that whatever else slows the
    machine slows all; the speedup is the median of the rounds' own ratios.
    """
    plan, begun = comparison.plan, comparison.plan.snapshot()
    try:
        _, batch = next(plan.batches())
        contestants: dict[str, Steps] = {}
        blocks, compiled, notes = {}, {}, []
        for name, make in (
            ("torch", lambda: _run_torch(plan, batch)),
            ("torch.compile", lambda: _run_torch(_compile(plan), batch)),
            ("port", lambda: comparison.time_port(_as_numpy(batch))),
        ):
            try:
                run = make()
                blocks[name], compiled[name] = _warm(run)
                contestants[name] = run
            except Exception as error:  # whatever a compiler raises of the caller's net
                if name != "torch.compile":
                    raise
                line = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0][:200]
                notes.append(f"torch.compile does not compile it: {line}")
        begin = time.perf_counter(), _count_busy()
        seconds = _interleave(contestants, blocks)
        notes += _find_others(*begin)
    finally:
        begun.restore()
    theirs, _ = seconds["torch"], compiled.pop("torch")
    return Timing(
        {name: 1e3 * statistics.median(own) for name, own in seconds.items()},
        {name: statistics.median(map(truediv, theirs, seconds[name])) for name in compiled},
        compiled,
        batch.num_examples,
        _ROUNDS,
        f"{name_processor()}; {count_cores()} cores, {torch.get_num_threads()} threads of torch's",
        tuple(notes),
    )


def _run_torch(plan: Plan, batch: Batch) -> Steps:
    def run(steps: int) -> float:
        plan.net.train()
        begin = time.perf_counter()
        for _ in range(steps):
            plan.optimizer.zero_grad()
            plan.differentiate(batch)
            plan.optimizer.step()
        return time.perf_counter() - begin

    return run


def _compile(plan: Plan) -> Plan:
    torch.compiler.reset()  # what an earlier net has left, its limit of compilations too
    compiled: Any = torch.compile(plan.net)
    return plan._replace(net=compiled)


def _as_numpy(batch: Batch) -> Batch:
    return jax.tree.map(lambda tensor: tensor.numpy(), batch)


def _warm(run: Steps) -> tuple[int, float]:
    """How many steps fill a turn, and what the first one took more."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a compiler's own
        run(1)
    first = time.perf_counter() - begin
    run(1)  # the second may compile again, for memory laid out otherwise
    one = max(run(2) / 2, 1e-7)
    return min(math.ceil(_BLOCK / one), 10_000), max(first - one, 0.0)


def _interleave(contestants: Mapping[str, Steps], blocks: Mapping[str, int]) -> Any:
    """Seconds of a step in each round, by contestant."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(_ROUNDS):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            seconds[name].append(contestants[name](blocks[name]) / blocks[name])
    return seconds


def _count_busy() -> float | None:
    """Seconds of all processors that other processes have used; None where nothing tells."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    own, tick = os.times(), os.sysconf("SC_CLK_TCK")
    used = own.user + own.system + own.children_user + own.children_system
    return (user + nice + system + irq + soft + steal) / tick - used


def _find_others(began: float, before: float | None) -> list[str]:
    """What is to be said of a machine that had other work meanwhile."""
    after = _count_busy()
    if before is None or after is None:
        return []
    cores = (after - before) / (time.perf_counter() - began)
    if cores < _BUSY:
        return []
    return [f"The machine was busy: others took {cores:.1f} of its cores meanwhile."]
