"""Every test runs with rank promotion refused and warnings as errors."""

import gc
import hashlib
import os
import shutil
import signal
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes whose torch each takes every core wait for one another, spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def name_processor() -> str:
    """What JAX's keys of compiled programs leave out: they are machine code of one processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        kind = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        kind = os.uname().nodename
    return hashlib.sha256(kind.encode()).hexdigest()[:8]


# Before JAX is imported: all workers and child processes share what any of them has compiled.
PROGRAMS = Path(__file__).parent / ".cache" / f"programs-{name_processor()}"
if "PYTEST_XDIST_WORKER" not in os.environ and PROGRAMS.is_dir():
    # Programs of code that has changed stay: with 512 MiB of them it begins anew.
    if sum(path.stat().st_size for path in PROGRAMS.iterdir()) > 2**29:
        shutil.rmtree(PROGRAMS)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
# To write and to read a smaller program takes as long as to compile it.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
# Most of the suite's time goes into compiling, and three quarters of that into what makes programs
# fast: here they are compiled plainly. `make test-parity`, `make test-slow` and whoever sets
# XLA_FLAGS compile them as users do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 "
    "--xla_cpu_parallel_codegen_split_count=1",
)

import jax  # noqa: E402
import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

# Meshes are tried in the tests' own process; the first of these devices computes all else.
jax.config.update("jax_num_cpu_devices", 8)

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


class Sharing(LoadScopeScheduling):
    """The tests of a file run in one process, which shares what they make.

    Those of the lecture's whole runs in one for each experiment: they take longer than all else.
    """

    def _split_scope(self, nodeid):
        file, _, name = nodeid.partition("::")
        return f"{file} {name.partition('[')[2]}" if "test_lecture.py" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.option.dist not in ("no", "load"):
        return None  # another was asked for
    config.option.loadscopereorder = False  # by number of tests: the longest have few
    return Sharing(config, log)


def pytest_collection_modifyitems(items):
    """What takes longest goes first, doctests last: no process is left with much at the end."""
    items.sort(key=lambda item: (item.path.stem != "test_lecture", item.path.stem[:5] != "test_"))


def pytest_collection_finish():
    """What is imported is not looked through for cycles again and again: an eighth of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def refuse_rank_promotion():
    """Shapes that match only by silently added axes are errors in the tests."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
