"""Faults of the training loop are seen in trainings that once hid them, and these agree as such."""

import pytest

from tests.judge_faults import TRAININGS, TRIALS, certify_with


@pytest.mark.parametrize(("training", "fault"), TRIALS)
def test_a_fault_of_the_loop_is_seen_by_the_whole_run(training, fault):
    certificate = certify_with(training, fault)
    found = certificate.divergence
    assert certificate.verdict == "DIVERGE" and found is not None, certificate
    assert found.stage == "whole run", certificate


@pytest.mark.parametrize("training", TRAININGS)
def test_the_trainings_agree_as_they_are(training):
    certificate = certify_with(training)
    assert certificate.verdict == "AGREE", certificate
