"""Every test runs with rank promotion refused, warnings as errors and annotations checked."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes whose torch each takes every core wait for one another, spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest

TOGETHER = ("test_bad_input", "test_sweeps", "test_certificate", "test_recorder", "test_examples")
"""Files whose tests share what one of them makes: one process runs them where there are several."""


def pytest_collection_modifyitems(items):
    """Tests of one lecture's experiment share its runs, and so does each of these files."""
    for item in items:
        file = item.path.stem
        called = getattr(item, "callspec", None)
        if file == "test_lecture" and called is not None and "name" in called.params:
            item.add_marker(pytest.mark.xdist_group(f"lecture {called.params['name']}"))
        elif file in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(file))


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
