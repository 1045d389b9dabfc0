"""Processes that are one run, started, watched and ended by the tests."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxnet
import jaxnet.lecture.cli
from jaxnet import launch
from jaxnet._utils.processes import LOST
from tests import child

ROOT = Path(jaxnet.__file__).parent.parent

LIMIT = 120
"""Seconds after which a test gives up on a process: generous, for a machine that is shared."""

SLACK = 15
"""Seconds beside those that are stated, for the same reason."""

EPOCHS = 6


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory, monkeypatch):
    """Programs that the tests' processes keep, apart from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def alone():
    """The run as one process makes it, by its number of epochs."""
    return {epochs: child.as_arrays(*child.train(None, epochs)) for epochs in (EPOCHS, EPOCHS + 2)}


@contextlib.contextmanager
def started(commands, environments):
    """Processes that are gone afterwards, whatever happens."""
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def peers(folder, result, epochs, count, environment=None, *, place=True):
    """`tests.child run`, that many times."""
    port = launch.find_port()
    command = [sys.executable, "-m", "tests.child", "run", str(folder), str(result), str(epochs)]
    places = [[f"127.0.0.1:{port}", str(count), str(k)] if place else [] for k in range(count)]
    given = environment if isinstance(environment, list) else [environment or {}] * count
    return started([[*command, *each] for each in places], given)


def finish(processes):
    """Status, standard output and error of each, and the seconds that they took."""
    begin = time.monotonic()
    said = [process.communicate(timeout=LIMIT) for process in processes]
    seconds = time.monotonic() - begin
    return [(p.returncode, *texts) for p, texts in zip(processes, said, strict=True)], seconds


def run_peers(folder, result, epochs, count, environment=None, **options):
    """Train to the end; the run's arrays."""
    with peers(folder, result, epochs, count, environment, **options) as processes:
        ends, _ = finish(processes)
    assert [status for status, *_ in ends] == [0] * count, ends
    assert "trains" in ends[0][1]
    assert not any("trains" in out or "Error" in err for _, out, err in ends[1:])
    with np.load(result) as found:
        return dict(found)


def check_same(found, expected):
    """What a seed chooses is equal, losses are within the rounding of sums, counts too."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        if name.startswith(("generator", "loader_generator", "step")):
            assert np.array_equal(found[name], value), name
    assert np.allclose(found["losses"], expected["losses"], rtol=1e-6, atol=0)
    assert np.abs(found["accuracy"] - expected["accuracy"]).max() * 80 < 1.5  # a row on the edge


def slurm(count):
    """What srun tells each process, of a job on this machine."""
    job = str(os.getpid() % 4096)
    both = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(count)}
    both |= {"SLURM_STEP_NUM_NODES": "1"}
    return [both | {"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)} for k in range(count)]


def wait_for(processes, text, stream="stdout"):
    """Read what the first says up to a line with this."""
    for line in getattr(processes[0], stream):
        if text in line:
            return
    pytest.fail(f"the first process ended before it said {text!r}")


def lose(processes, number, send, seconds):
    """Lose one once they train: what the others say, and that they end in the stated time."""
    wait_for(processes, "trains 3")
    processes[number].send_signal(send)
    rest = [process for process in processes if process is not processes[number]]
    ends, took = finish(rest)
    for status, _, said in ends:
        assert status == LOST, said
        assert f"process {number} of {len(processes)} was lost" in said and child.ADVICE in said
        assert "Traceback" not in said
    assert took < seconds
    return took


def launched(*arguments, options=("--nproc", "2")):
    """`python -m jaxnet.launch ... -- lecture ...`."""
    command = [sys.executable, "-m", "jaxnet.launch", *options, "--", "lecture", *arguments]
    return started([command], [{}])


def run_launched(*arguments, **options):
    with launched(*arguments, **options) as processes:
        ends, _ = finish(processes)
    return ends[0]


def no_child_is_left(marker):
    """Whether no process that was started with this in its arguments is there."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in place.read_bytes() and int(place.parent.name) != os.getpid():
                return False
    return True


def wait_until(holds):
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def find_processes(*markers):
    """The numbers of the processes whose arguments have all of these."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            text = place.read_bytes().decode(errors="replace")
            if all(marker in text for marker in markers) and "jaxnet.launch" not in text:
                found.append(int(place.parent.name))
    return found
