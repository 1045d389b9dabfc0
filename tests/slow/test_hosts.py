"""A process that neither goes on nor ends."""

import signal

from tests.integration.test_hosts import END_WITHIN, lose, peers


def test_a_frozen_process_ends_all(tmp_path, record_property):
    """The others notice within `END_WITHIN` seconds, and say which process it was."""
    with peers(tmp_path / "runs", tmp_path / "r.npz", 1000, 3, {"PACE": "0.2"}) as processes:
        took = lose(processes, 1, signal.SIGSTOP, END_WITHIN)
    record_property("seconds from the freeze to the end", round(took, 1))
