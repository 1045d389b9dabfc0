"""Every test runs with rank promotion refused, warnings as errors and annotations checked."""

import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes whose torch each takes every core wait for one another, spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest

# A suite that was started in the background inherits a Ctrl-C that is ignored, and hands it on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """What tests record of a run: rows on the edge that differ, the card that ran."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if report.when == "call":
            for name, value in report.user_properties:
                if value:
                    terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


@pytest.fixture(autouse=True, scope="session")
def refuse_rank_promotion():
    """Shapes that match only by silently added axes are errors in the tests."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
