"""The lecture's notebook, which trains every experiment, runs as it is stored."""

from scripts.notebooks import LECTURE
from tests.integration.test_notebooks import test_it_runs_and_prints_what_is_stored as run_again


def test_the_lecture_prints_what_is_stored():
    run_again(LECTURE)
