"""What a certificate catches: known faults by stage and tensor, and nothing else."""

from pathlib import Path

import pytest

from jaxnet.certificate import STAGES
from tests.cases import certify_case
from tests.faults import FAULTS, QUICK, find
from tests.mutants import find_changed, replaced
from tests.nets import draw_case
from torchref.certification import certify

QUICK_CASES = ("adamw", "images", "own port")
"""The others are certified in `tests/slow`."""


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_fault_is_named_by_stage_and_tensor(name):
    name_the_fault(name)


def name_the_fault(name):
    fault = FAULTS[name]
    certificate = find(fault)
    found = certificate.divergence
    assert found is not None, certificate
    assert (found.stage, found.tensor, found.step) == fault[-3:], certificate
    assert found.causes or found.hints


def test_the_quick_faults_are_of_every_stage_and_every_room():
    stages = {FAULTS[name].stage for name in QUICK}
    # Whatever changes weights has changed the update before.
    assert stages == {fault.stage for fault in FAULTS.values()} == {*STAGES} - {"weights"}
    rooms = {Path(FAULTS[name].file).parent for name in QUICK}
    assert rooms == {Path(fault.file).parent for fault in FAULTS.values()}


def test_every_fault_has_its_place():
    """Those of the slow tier too: code that moves takes its faults along."""
    for name, fault in FAULTS.items():
        assert find_changed(fault.file, replaced(fault.file, fault.old, fault.new)), name


@pytest.mark.parametrize("name", QUICK_CASES)
def test_the_cases_agree_as_they_are(name):
    certificate = certify_case(name)
    assert certificate.agrees, certificate
    steps = {"saturated": 3, "relu": 10, "converged": 30, "short": 16, "README": 64}
    assert certificate.steps == steps.get(name, 6)


def test_no_correct_net_is_accused():
    """One of those of `tests/slow/test_right_nets.py`."""
    arguments, said = draw_case(5)
    certificate = certify(**arguments)
    assert certificate.agrees, f"{said}\n{certificate}"
