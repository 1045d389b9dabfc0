"""The contestants that compile for half a minute train the same net."""

import pytest

from benchmarks import contest
from benchmarks.peers import contestants
from tests.integration.test_benchmarks import judge_runs, task

__all__ = ["task"]  # a fixture

LONG = [form for form in contestants() if form.name in contest.SLOW_TO_COMPILE]


@pytest.mark.parametrize("form", LONG, ids=lambda form: form.name)
def test_every_contestant_trains_the_same_net(form, task):
    """Without dropout its losses and weights are torch's."""
    for found in judge_runs(form, task):
        assert found["agree"], found
