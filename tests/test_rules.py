"""Every rule against torch's operator: value, and the gradient of every input.

The calls stand in `tests/rule_cases`. Here the first of each rule are made, in float64;
`tests/slow/test_rules.py` makes all of them, in float32 too.
"""

import inspect
from typing import Any

import numpy as np
import pytest

from jaxnet import precision
from jaxnet.program.registry import RULES, rule
from jaxnet.program.rules.aliases import ALIASES
from tests.helpers import each_row
from tests.rule_cases import Call, collect
from tests.rules import compare, find_operator

CASES = collect()
UNTRIED = {"aten.exponential.default": "no exponential numbers can be drawn here yet"}
"""Rules without a call, each with the reason."""

ELSEWHERE = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}
"""Arguments that a graph leaves out."""

ROOMS = sorted({RULES[name].source for name in CASES})


def list_first(room: str, count: int = 1) -> list[tuple[str, Call]]:
    """The first calls of each rule of a room; several names may have one."""
    functions: dict[Any, list[str]] = {}
    for name in CASES:
        if RULES[name].source == room and CASES[name]:
            function = RULES[name].function
            functions.setdefault(getattr(function, "func", function), []).append(name)
    # What computes pools of one, two and three axes is a partial function: it is tried with two.
    names = [
        same[len(same) // 2 if hasattr(RULES[same[0]].function, "func") else 0]
        for same in functions.values()
    ]
    return [(name, call) for name in names for call in CASES[name][:count]]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.rpartition(".")[2])
def test_rules(room: str):
    calls = list_first(room)
    wide = [each for each in calls if each[1].double]
    with precision.use("float64"):
        faults = list(compare(wide, np.float64)) if wide else []
    if drawn := [each for each in calls if not each[1].double]:
        faults += compare(drawn, np.float32)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


OTHER_NAMES = [
    (f"aten.{other}", f"aten.{name}")
    for name, others in ALIASES.items()
    for other in others.split()
]


def test_every_rule_has_a_call():
    """What a rule is held against; another name of an operator has the same rule."""
    tried = {name for name, calls in CASES.items() if calls}
    assert RULES.keys() - tried - {other for other, _ in OTHER_NAMES} == UNTRIED.keys()
    assert CASES.keys() <= RULES.keys()


@each_row("other, name", OTHER_NAMES)
def test_another_name_is_of_the_same_operator(other, name):
    assert RULES[other].function is RULES[name].function
    first, second = (find_operator(n)._schema.arguments for n in (other, name))
    assert [str(a.type) for a in first] == [str(a.type) for a in second]
    assert [a.kwarg_only and a.name for a in first] == [a.kwarg_only and a.name for a in second]


@each_row("name", RULES)
def test_a_rule_takes_what_the_operator_takes(name):
    schema = find_operator(name)._schema.arguments
    parameters = inspect.signature(RULES[name].function).parameters.values()
    names = {p.name for p in parameters}
    free = any(p.kind == p.VAR_KEYWORD for p in parameters)
    given = [a for a in schema if a.name not in ELSEWHERE]
    positions = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    if not any(p.kind == p.VAR_POSITIONAL for p in parameters):
        assert len(positions) >= len(given), f"{[a.name for a in given]}"
    for place, argument in enumerate(given):
        assert not argument.kwarg_only or free or argument.name in names, argument.name
        if place and argument.has_default_value() and argument.name in names:
            default = {p.name: p.default for p in parameters}[argument.name]
            said = argument.default_value
            assert _is_same_default(default, said), f"{argument.name}={default}, torch {said}"


def _is_same_default(ours, torchs) -> bool:
    """Where torch has a list for all axes, one number stands for it; 4 is int64."""
    if ours is None or torchs in (None, "valid"):
        return torchs in (None, 4) or ours in ((), 0)
    return bool(np.all(np.asarray(ours) == np.asarray(torchs)))


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="has a rule already, of jaxnet.program.rules.activations"):
        rule("aten.relu.default")(lambda x: x)
    with pytest.raises(ValueError, match="not 'relu'"):
        rule("relu")
    with pytest.raises(TypeError, match="function"):
        rule("ours.three.default")(3)  # type: ignore
    before = RULES["aten.relu.default"]
    try:
        rule("aten.relu.default", replace=True)(abs)
        assert RULES["aten.relu.default"].function is abs
    finally:
        RULES["aten.relu.default"] = before
