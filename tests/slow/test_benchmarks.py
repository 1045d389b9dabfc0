"""The contestants that compile for half a minute train the same net."""

import pytest

from benchmarks import contest
from benchmarks.peers import contestants
from tests.integration.test_benchmarks import check_runs, task

__all__ = ["task"]  # a fixture

LONG = [form for form in contestants() if form.name in contest.SLOW_TO_COMPILE]


@pytest.mark.parametrize("form", LONG, ids=lambda form: form.name)
def test_every_contestant_trains_the_same_net(form, task):
    check_runs(form, task)
