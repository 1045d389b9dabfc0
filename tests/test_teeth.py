"""What a certificate catches: known faults by stage and tensor, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

import jaxnet
from jaxnet import nn, optim
from jaxnet.certificate import STAGES
from tests.cases import certify_case
from tests.faults import FAULTS, QUICK, find
from tests.faults_training import TRAIN
from tests.mutants import find_changed, planted, replaced
from tests.nets import draw_case
from tests.tiny import LOSS, X, Y
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


PLACES = {
    "TrainStep.__call__": (TRAIN + "step.py", "StepInfo(value,", "StepInfo(2 * value,"),
    "Program.run_steps": (TRAIN + "epoch.py", "losses.append(first)", "losses.append(2 * first)"),
    "make_epochs": (TRAIN + "epoch.py", "(order, begin, count)", "(order, 0, count)"),
}
"""A method of a dataclass, another, and a closure, which changes with the function around it."""


def test_a_fault_is_planted_wherever_code_lives_and_is_gone_afterwards():
    def fit():
        options = {"epochs": 2, "batch_size": 8, "shuffle": True, "seed": 0}
        net = nn.Sequential([nn.Linear(6, 1)])
        _, history = jaxnet.fit(net, (X, Y), loss=LOSS, optimizer=optim.sgd(0.1), **options)
        return history.losses

    before = fit()
    for name, (file, old, new) in PLACES.items():
        with planted(file, replaced(file, old, new)) as changed:
            assert changed == [name] and not np.array_equal(fit(), before)
    assert np.array_equal(fit(), before)


@pytest.mark.parametrize("name", QUICK_CASES)
def test_the_cases_agree_as_they_are(name):
    certificate = certify_case(name)
    assert certificate.agrees, certificate
    steps = {"saturated": 3, "relu": 10, "converged": 30, "short": 16, "README": 64}
    assert certificate.steps == steps.get(name, 6)


@pytest.mark.parametrize("seed", [8, 5])
def test_no_correct_net_is_accused(seed):
    arguments, said = draw_case(seed)
    certificate = certify(**arguments)
    assert certificate.agrees, f"{said}\n{certificate}"
