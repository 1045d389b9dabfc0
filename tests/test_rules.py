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
from tests.helpers import each_row
from tests.rule_cases import Call, collect
from tests.rules import compare, find_operator

CASES = collect()
ELSEWHERE = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"}
"""Arguments that a graph leaves out."""

ROOMS = sorted({RULES[name].source for name in CASES})


def list_first(room: str) -> list[tuple[str, Call]]:
    """The first call of each rule of a room; several names may have one."""
    firsts: dict[Any, str] = {}
    for name in CASES:
        function = RULES[name].function
        if RULES[name].source == room:
            firsts.setdefault(getattr(function, "func", function), name)
    return [(name, CASES[name][0]) for name in firsts.values()]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.rpartition(".")[2])
def test_rules(room: str):
    calls = list_first(room)
    wide = [each for each in calls if each[1].double]
    with precision.use("float64"):
        faults = list(compare(wide, np.float64)) if wide else []
    if drawn := [each for each in calls if not each[1].double]:
        faults += compare(drawn, np.float32)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def _list_types(name):
    arguments = find_operator(name)._schema.arguments
    return [(str(each.type), each.kwarg_only and each.name) for each in arguments]


def test_every_rule_has_a_call():
    """Or is that of another name of an operator that has one."""
    assert CASES.keys() <= RULES.keys()
    tried = {(RULES[name].function, str(_list_types(name))) for name in CASES}
    others = RULES.keys() - CASES.keys()
    assert not [n for n in others if (RULES[n].function, str(_list_types(n))) not in tried]


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
