"""Whether the default tier's own tests catch each known fault, certificates apart.

`python -m tests.tiers [--workers N] [FAULT ...]` plants each fault of `tests.faults` in a process
of its own, in which the room's own tests of the default tier run until one of them fails. A row
says in which tier the fault is planted under a certificate, which must name it, and which test
failed.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

TESTS = {
    "jaxnet/nn/draws.py": "test_masks test_draws test_train",
    "jaxnet/nn/": "test_nn test_layers test_layers_images test_layers_norms test_layers_pools",
    "jaxnet/losses/": "test_losses test_losses_all",
    "jaxnet/optim/": "test_optim test_optim_edges test_schedules",
    "jaxnet/random/": "test_random test_masks test_draws",
    "jaxnet/data/": "test_batches test_train",
    "jaxnet/convert/": "test_convert test_convert_optimizers",
    "jaxnet/train/": "test_train test_draws",
}
"""The tests of the default tier that are a room's own."""

_planted = ExitStack()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """Plant the fault before any test module makes something of the healthy code."""
    del session
    from tests.faults import FAULTS
    from tests.mutants import planted, replaced

    fault = FAULTS[os.environ["JAXNET_FAULT"]]
    source = replaced(fault.file, fault.old, fault.new)
    changed = _planted.enter_context(planted(fault.file, source))
    assert changed, "no function was changed"


def find_catcher(name: str, file: str) -> str:
    """The first of the room's own tests that fails where the fault is planted; "" if none does."""
    modules = next(tests for room, tests in TESTS.items() if file.startswith(room))
    files = [f"tests/{module}.py" for module in modules.split()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.tiers", "-x", "-q", "--tb=no", *files],
        env=os.environ | {"JAXNET_FAULT": name, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return ""
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if not told:
        raise RuntimeError(f"{name}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return told[0].partition(" ")[2].partition(" - ")[0]


def main() -> None:
    from tests.faults import FAULTS, QUICK

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    names = arguments.names or list(FAULTS)
    with ThreadPoolExecutor(arguments.workers) as pool:
        catchers = pool.map(lambda name: find_catcher(name, FAULTS[name].file), names)
        for name, catcher in zip(names, catchers, strict=True):
            fault = FAULTS[name]
            tier = "default" if name in QUICK else "slow"
            print(f"{name} | {fault.file} | {fault.stage}: {tier} | {catcher or '-'}", flush=True)


if __name__ == "__main__":
    main()
