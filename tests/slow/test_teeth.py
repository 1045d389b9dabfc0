"""What a certificate catches: the rest of the known faults, drawn mutants; and no right net."""

import traceback
from typing import Any

import numpy as np
import pytest

from jaxnet.certificate.bounds import VISIBLE
from jaxnet.certificate.comparison import Comparator
from tests.cases import CASES, certify_case
from tests.faults import FAULTS, QUICK
from tests.mutants import Mutant, drawn, lines_run, mutants_of, planted
from tests.test_teeth import name_the_fault
from torchref.own_comparison import OwnComparison


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in QUICK])
def test_a_planted_fault_is_named_by_stage_and_tensor(name):
    name_the_fault(name)


class Listening(Comparator):
    """Keeps every number that the port gives, to see what a mutant changes."""

    heard: list[tuple[str, str, np.ndarray]] = []
    last: "Listening | None" = None

    def __init__(self) -> None:
        super().__init__()
        self.heard = []
        Listening.last = self

    def accept(self, stage, tensor, jax, torch, view, held):
        self.heard.append((stage, tensor, np.asarray(jax, np.float64)))
        return super().accept(stage, tensor, jax, torch, view, held)


EVEN = {"batch_size": 10}
"""For mutants: every batch has its rows, so that each program is compiled once."""

MOST = 4
"""Cases that a mutant which survives is tried in."""


def listen(name: str) -> list[tuple[str, str, np.ndarray]]:
    certify_case(name, **EVEN)
    assert Listening.last is not None
    return Listening.last.heard


def largest_change(before: list, after: list) -> float:
    """Of any number, relative to the largest of its tensor in that step."""
    changes = [0.0]
    for (stage, tensor, old), (other, name, new) in zip(before, after, strict=True):
        assert (stage, tensor) == (other, name)
        finite = np.isfinite(old)
        scale = np.max(np.abs(old), where=finite, initial=0.0)
        gap = np.max(np.abs(old - new), where=finite, initial=0.0)
        changes.append(gap / scale if scale else gap)
    return max(changes)


def end_here(self: Any, *_: Any) -> None:
    """No whole run: the stream ends where the last step has left it."""
    self._last = self._generator


def test_drawn_mutants_are_caught(monkeypatch, record_property, count=100):
    """Changes of operators, constants and axes in the lines that the cases run."""
    monkeypatch.setattr("torchref.comparison.Comparator", Listening)
    # Step by step is enough to see them: a whole run would show them later, and compile again.
    monkeypatch.setattr(OwnComparison, "compare_whole_run", end_here)
    small = [name for name in CASES if name not in ("converged", "short", "README")]
    lines = {name: lines_run(lambda name=name: certify_case(name, **EVEN)) for name in small}
    mutants = drawn(mutants_of(set().union(*lines.values())), count, seed=4)
    assert len(mutants) == count
    plain, survivors = {}, {}
    for mutant in mutants:
        cases = [name for name in small if (mutant.file, mutant.line) in lines[name]][:MOST]
        change = survive(mutant, cases, plain)
        if change is not None:
            seen = f"{change:.1e} of a tensor" if change else "no number"
            survivors[str(mutant)] = f"changes {seen}"
            assert change < VISIBLE, f"missed: {mutant}, {change}"
    record_property("mutants that change too little to see", survivors)


def survive(mutant: Mutant, cases: list[str], plain: dict[str, list]) -> float | None:
    """The largest change in the cases that run the mutant's line; None if one is caught."""
    changes = []
    for name in cases:
        with planted(mutant.file, mutant.source) as changed:
            assert changed, f"{mutant} changes no function"
            try:
                certificate = certify_case(name, **EVEN)
            except Exception as error:  # a mutant that does not run is caught as well
                last = traceback.extract_tb(error.__traceback__)[-1].filename
                # JAX hides its frames: what the port's programs raise seems to come from there.
                ours = "torchref" in last and not last.endswith(("candidate.py", "comparison.py"))
                assert not ours, f"the certificate fails on {mutant}"
                return None
            if not certificate.agrees:
                return None
            assert Listening.last is not None
            heard = Listening.last.heard
        if name not in plain:
            plain[name] = listen(name)
        changes.append(largest_change(plain[name], heard))
    return max(changes, default=0.0)
