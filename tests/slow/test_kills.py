"""Many kills of one run, each at a drawn time."""

import random

from tests.integration.test_kills import kill_and_resume


def test_fifty_kills(tmp_path):
    halves = kill_and_resume(tmp_path, random.Random(6), times=50)
    print(f"{halves} of 50 kills fell into a save")
    assert halves > 5
