"""What a certificate catches: known faults by stage and tensor, and nothing else."""

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import jaxnet
from jaxnet import nn, optim
from jaxnet.certificate import STAGES
from tests import judge_faults
from tests.cases import certify_case
from tests.faults import FAULTS, QUICK, TRAIN, find
from tests.mutants import planted, replaced
from tests.nets import build_random_net
from tests.tiny import LOSS, X, Y
from torchref.certification import certify

QUICK_CASES = ("dropout", "adamw", "saturated", "images", "words", "own port")
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
    assert found.causes


def test_the_quick_faults_are_of_every_stage_and_every_room():
    stages = {FAULTS[name].stage for name in QUICK}
    # Whatever changes weights has changed the update before.
    assert stages == {fault.stage for fault in FAULTS.values()} == {*STAGES} - {"weights"}
    rooms = {Path(FAULTS[name].file).parent for name in QUICK}
    assert rooms == {Path(fault.file).parent for fault in FAULTS.values()}


def test_every_fault_has_its_place():
    """Those of the slow tier too: code that moves takes its faults along."""
    places = [(fault.file, fault.old, fault.new) for fault in FAULTS.values()]
    for file, old, new in (*places, *judge_faults.FAULTS.values()):
        with planted(file, replaced(file, old, new)) as changed:
            assert changed, f"no function of {file} is changed by {new!r}"


PLACES = {
    "TrainStep.__call__": (TRAIN + "step.py", "StepInfo(value,", "StepInfo(2 * value,"),
    "Program.run_steps": (TRAIN + "epoch.py", "losses.append(first)", "losses.append(2 * first)"),
    "make_epochs": (TRAIN + "epoch.py", "(order, begin, count)", "(order, 0, count)"),
}
"""A method of a dataclass, another, and a closure, which changes with the function around it."""


@pytest.mark.parametrize("name", PLACES)
def test_a_fault_is_planted_wherever_code_lives_and_is_gone_afterwards(name):
    def fit():
        _, history = jaxnet.fit(
            nn.Sequential([nn.Linear(6, 1)]),
            (X, Y),
            loss=LOSS,
            optimizer=optim.sgd(0.1),
            epochs=2,
            batch_size=8,
            shuffle=True,
            seed=0,
        )
        return history.losses

    file, old, new = PLACES[name]
    before = fit()
    with planted(file, replaced(file, old, new)) as changed:
        assert changed == [name]
        assert not np.array_equal(fit(), before)
    assert np.array_equal(fit(), before)


@pytest.mark.parametrize("name", QUICK_CASES)
def test_the_cases_agree_as_they_are(name):
    certificate = certify_case(name)
    assert certificate.agrees, certificate
    assert certificate.steps == {"saturated": 3, "relu": 10}.get(name, 6)


@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
@hypothesis.given(st.data())
def test_no_correct_net_is_accused(data):
    certify_random(data)


def certify_random(data):
    net, x = build_random_net(data.draw)
    y = torch.randn(len(x), 2)
    loss, targets = data.draw(
        st.sampled_from(
            [
                (torch.nn.MSELoss(), y),
                (torch.nn.SmoothL1Loss(beta=0.5), y),
                (torch.nn.L1Loss(reduction="sum"), y),
                (torch.nn.BCEWithLogitsLoss(), (y > 0).float()),
                (torch.nn.CrossEntropyLoss(label_smoothing=0.1), (y[:, 0] > 0).long()),
            ]
        )
    )
    optimizer = data.draw(
        st.sampled_from(
            [
                lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
                lambda p: torch.optim.Adam(p, weight_decay=1e-2),
                lambda p: torch.optim.AdamW(p, amsgrad=True),
                lambda p: torch.optim.RMSprop(p, centered=True),
                lambda p: torch.optim.Adagrad(p),
            ]
        )
    )(net.parameters())
    certificate = certify(
        net,
        loss=loss,
        optimizer=optimizer,
        data=(x, targets),
        epochs=2,
        batch_size=data.draw(st.sampled_from([None, 4])),
        seed=data.draw(st.integers(0, 2**31)),
    )
    hypothesis.event(f"agrees: {certificate.agrees}")
    assert certificate.agrees, f"{net}\n{certificate}"
