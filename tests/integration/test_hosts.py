"""One run in many processes: real ones, over the loopback."""

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet
import jaxnet.cli
from jaxnet import hosts, launch, lecture
from jaxnet.hosts import END_WITHIN, LOST
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


def test_two_find_each_other_on_slurm_and_are_one_run(tmp_path, alone):
    folder = tmp_path / "runs"
    found = run_peers(folder, tmp_path / "r.npz", EPOCHS, 2, slurm(2), place=False)
    check_same(found, alone[EPOCHS])
    # One process reads what two have written, and goes on.
    check_same(child.as_arrays(*child.train(str(folder), EPOCHS + 2)), alone[EPOCHS + 2])


def test_two_go_on_with_what_one_has_saved(tmp_path, alone):
    folder = tmp_path / "runs"
    child.train(str(folder), 2)
    check_same(run_peers(folder, tmp_path / "r.npz", EPOCHS, 2), alone[EPOCHS])


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


def test_a_killed_process_ends_all_and_another_number_goes_on(tmp_path, alone, record_property):
    folder = tmp_path / "runs"
    with peers(folder, tmp_path / "r.npz", 1000, 2, {"PACE": "0.2"}) as processes:
        took = lose(processes, 1, signal.SIGKILL, END_WITHIN)
    record_property("seconds from the kill to the end", round(took, 1))
    # The long run is another only in its number of epochs.
    for path in folder.iterdir():
        if path.name.isdecimal() and int(path.name) > EPOCHS:
            shutil.rmtree(path)
    assert sorted(path.name for path in folder.iterdir() if path.name.isdecimal())
    check_same(run_peers(folder, tmp_path / "r.npz", EPOCHS + 2, 3), alone[EPOCHS + 2])


WAITS = """
import os, signal, sys, time
from jaxnet import hosts
with hosts.connect(sys.argv[1], 2, int(sys.argv[2])):
    print("connected", flush=True)
    if sys.argv[2] == "1":
        time.sleep(1)
        sys.argv[3] == "fails" and 1 / 0
        time.sleep(60)
    hosts.meet()
"""


@pytest.mark.parametrize("how, status", [("fails", 1), ("ends", -signal.SIGTERM)])
def test_who_waits_for_another_hears_of_its_end(how, status):
    """Inside a barrier, not a collective; and a process that is told to end does."""
    port = launch.find_port()
    command = [sys.executable, "-c", WAITS, f"127.0.0.1:{port}"]
    with started([[*command, str(k), how] for k in range(2)], [{}, {}]) as processes:
        assert processes[1].stdout is not None
        assert processes[1].stdout.readline() == "connected\n"
        if how == "ends":
            processes[1].terminate()
        ends, took = finish(processes)
    assert [code for code, *_ in ends] == [1, status], ends
    assert "PeerLost: process 1 of 2 was lost" in ends[0][2] and took < END_WITHIN


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_of_one_is_its_own_and_ends_the_others(number, tmp_path):
    environment = {"FAIL_AT": str(number)}
    with peers(tmp_path / "runs", tmp_path / "r.npz", 1000, 2, environment) as processes:
        ends, _ = finish(processes)
    status, _, said = ends.pop(number)
    assert status == 1 and said.rstrip().endswith("ZeroDivisionError: mine alone")
    (status, _, said), other = ends[0], 1 - number
    assert status == LOST and f"process {number} of 2 was lost" in said, (other, said)
    assert "ZeroDivisionError" not in said and child.ADVICE in said


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


def test_the_lecture_in_two_processes_is_the_lecture(tmp_path):
    paths = {name: tmp_path / name for name in ("json", "jsonl", "figures", "checkpoint")}
    options = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    status, out, said = run_launched("--only", "logits", *options)
    assert status == 0, said
    assert out.count("experiment") == 1 and ".9577/.9626" in out and "Gloo" not in out
    assert not said, said
    (record,) = json.loads(paths["json"].read_text())
    here = lecture.run(lecture.EXPERIMENTS["logits"])
    assert (record["devices"], record["processes"]) == (2, 2)
    assert (here.record["devices"], here.record["processes"]) == (1, 1)
    for name in ("train_accuracy", "test_accuracy"):
        assert record[name] == here.record[name]
    losses = [[r["loss"] for r in found["reports"]] for found in (record, here.record)]
    assert np.allclose(*losses, rtol=1e-6, atol=0)
    lines = paths["jsonl"].read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 11))
    assert (paths["figures"] / "logits.png").is_file()
    # What all refuse is said once, and no checkpoint is touched.
    status, out, said = run_launched("--only", "logits", *options[-2:])
    assert (status, out) == (2, "") and said.count("Error") == 1, said
    assert "has checkpoints already" in said and "[1]" not in said


def test_the_coordinator_that_is_killed_ends_all_under_the_launcher(tmp_path, record_property):
    folder, log = tmp_path / "runs", tmp_path / "log"
    arguments = ("--only", "full_batch", "--checkpoint", str(folder), "--jsonl", str(log))
    with launched(*arguments) as processes:
        wait_until(lambda: log.is_file() and (folder / "full_batch").is_dir())
        (first,) = find_processes(str(folder), "--process-id\0000")
        os.kill(first, signal.SIGKILL)
        ((status, _, said),), took = finish(processes)
    record_property("seconds from the coordinator's kill to the end", round(took, 1))
    assert status == LOST, said
    assert "process 0 of 2, the coordinator, was killed by signal 9 (SIGKILL)" in said
    again = f"python -m jaxnet.launch --nproc 2 -- lecture {' '.join(arguments)} --resume"
    assert again in said.splitlines()[-1]
    assert took < launch.WAIT + launch.KILL + SLACK and no_child_is_left(str(folder))


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


def test_ctrl_c_saves_and_ends_all(tmp_path):
    folder, log = tmp_path / "runs", tmp_path / "log"
    arguments = ("--only", "full_batch", "--checkpoint", str(folder), "--jsonl", str(log))
    with launched(*arguments) as processes:
        wait_until(log.is_file)
        processes[0].send_signal(signal.SIGINT)
        ((status, out, said),), _ = finish(processes)
    assert (status, out) == (130, ""), said
    epoch = re.search(r"stopped after epoch (\d+) of 500, which is saved in", said)
    assert epoch and (folder / "full_batch" / epoch[1]).is_dir()
    again = f"to go on: python -m jaxnet.launch --nproc 2 -- lecture {' '.join(arguments)} --resume"
    assert said.count(again) == 1 and "[1]" not in said and "lost" not in said
    assert no_child_is_left(str(folder))


def test_a_port_that_is_taken_is_said():
    with launch.socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ("--nproc", "2", "--port", port)
        status, out, said = run_launched("--only", "logits", options=options)
    assert (status, out) == (2, ""), said
    assert f"port {port} is taken" in said and "process 0 of 2, the coordinator, ended" in said


SLEEP = [sys.executable, "-c", "import time; time.sleep(100)"]


def python(text):
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("commands", "status", "says"),
    [
        ([python("")] * 3, 0, "^$"),
        ([python("exit(2)")] * 3, 2, "^$"),
        ([SLEEP, python("exit(3)"), SLEEP], 3, "process 1 of 3 ended with status 3: .*\nADVICE"),
        ([python("exit(75)"), python("exit(3)")], 3, "process 1 of 2 ended with status 3"),
        (
            [SLEEP, python("import os; os.kill(os.getpid(), 9)")],
            LOST,
            r"process 1 of 2 was killed by signal 9 \(SIGKILL\): the others .*\nADVICE",
        ),
        (
            [python("import os; os.kill(os.getpid(), 15)"), python("import os; os.abort()")],
            LOST,
            r"process 0 of 2, the coordinator, was killed by signal 15 \(SIGTERM\)",
        ),
        ([python("import os; os.kill(os.getpid(), 9)")] * 2, LOST, "process 0 of 2, the coord"),
        ([python(""), python("print('mine')")], 0, r"^\[1\] mine\n$"),
    ],
)
def test_the_launcher_says_who_ended_and_passes_the_status_on(
    commands, status, says, monkeypatch, capfd
):
    monkeypatch.setattr(launch, "WAIT", 0.5)
    environments = [dict(os.environ)] * len(commands)
    assert launch.run_all(commands, environments, "ADVICE") == status
    assert re.search(says, capfd.readouterr().err)


STUBBORN = """
import signal, sys, time
from jaxnet.cli.processes import die_with_launcher
die_with_launcher()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(100)
"""
ALL = """
import sys
from jaxnet.launch import make_environment, run_all
command = [sys.executable, *sys.argv[1:]]
sys.exit(run_all([command] * 2, [make_environment(number) for number in range(2)]))
"""


@pytest.mark.parametrize(
    ("sends", "status"),
    [
        ([signal.SIGTERM], 143),
        ([signal.SIGINT, signal.SIGINT], 130),
        ([signal.SIGKILL], -signal.SIGKILL),
    ],
)
def test_no_process_outlives_the_launcher(sends, status, tmp_path):
    command = [sys.executable, "-c", ALL, "-c", STUBBORN, str(tmp_path)]
    with started([command], [{}]) as processes:
        wait_for(processes, "ready")
        wait_until(lambda: len(find_processes(str(tmp_path), "print(")) == 2)
        wait_for(processes, "[1] ready", "stderr")
        for send in sends:
            processes[0].send_signal(send)
            time.sleep(0.5)
        assert processes[0].wait(LIMIT) == status
        wait_until(lambda: no_child_is_left(str(tmp_path)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--nproc 2 --", "what is run must be lecture and its options, after --"),
        ("--nproc 2 -- sweep logits", "must be lecture and its options, not 'sweep'"),
        ("--nproc 0 -- lecture", "'--nproc': 0 is not in the range x>=1"),
        ("--nproc 2 -- lecture --only logist", "did you mean 'logits'"),
        ("--nproc 2 -- lecture --distributed", "--distributed is given to each process here"),
        ("--nproc 2 -- lecture --process-id 0", "--process-id is given to each process here"),
        ("-- lecture", "Missing option '--nproc'"),
    ],
)
def test_the_launcher_refuses_before_it_starts_anything(arguments, says, monkeypatch):
    monkeypatch.setattr(launch, "run_all", lambda *_: pytest.fail("it was started"))
    done = CliRunner().invoke(launch.command, arguments.split())
    assert done.exit_code == 2 and says in " ".join(done.output.split()), done.output


def test_each_process_has_devices_of_its_own(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    found = [launch.make_environment(k, 3, "again") for k in range(2)]
    assert [e["JAX_LOCAL_DEVICE_IDS"] for e in found] == ["0,1,2", "3,4,5"]
    assert {e["JAX_NUM_CPU_DEVICES"] for e in found} == {"3"}
    assert {e["TF_CPP_MIN_LOG_LEVEL"] for e in found} == {"2"}
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert launch.make_environment(0)["TF_CPP_MIN_LOG_LEVEL"] == "0"


class Awkward(Exception):
    """An error that pickles, and cannot be made from what it was pickled as."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_an_error_that_does_not_pickle_is_shared_as_its_text():
    value, error = pickle.loads(hosts._pack_error(Awkward(1, 2)))
    assert value is None and type(error) is RuntimeError and str(error) == "Awkward: 1 and 2"
    _, error = pickle.loads(hosts._pack_error(ValueError("plain")))
    assert type(error) is ValueError and str(error) == "plain"


def test_alone_nothing_is_asked_of_others():
    assert hosts.agree([1, 2]) == [1, 2] and hosts.any_of(True) is True
    with pytest.raises(Awkward):
        hosts.on_first(lambda: (_ for _ in ()).throw(Awkward(1, 2)))
    hosts.meet()
    assert not hosts.is_of_all(ValueError("mine"))


def test_what_an_error_says_of_a_peer_is_not_taken_from_the_systems_own():
    assert hosts._is_of_a_peer(RuntimeError("UNAVAILABLE: Gloo: connection closed by peer"))
    assert not hosts._is_of_a_peer(ConnectionResetError("connection reset by peer"))
    assert not hosts._is_of_a_peer(ValueError("epochs must be at least 1"))


def test_lost_processes_are_named():
    assert str(hosts.PeerLost([1], 3)).startswith("process 1 of 3 was lost")
    assert str(hosts.PeerLost([1, 2], 3, "so")).startswith("processes 1, 2 of 3 were lost")
    assert str(hosts.PeerLost([1, 2], 3, "so")).endswith("\nso")


@pytest.mark.skipif(len(jax.devices()) > 1, reason="needs a single device")
def test_devices_that_are_not_there_are_said():
    done = CliRunner().invoke(jaxnet.cli.main, ["lecture", "--devices", "3"])
    assert done.exit_code == 2, done.output
    assert "--devices must be at most 1" in done.output and "JAX_NUM_CPU_DEVICES=3" in done.output


def test_the_lecture_on_a_mesh_is_the_lecture(tmp_path):
    """Of one device here: many are in a process of their own, below."""
    done = CliRunner().invoke(
        jaxnet.cli.main,
        ["lecture", "--only", "logits", "--devices", "1", "--json", str(tmp_path / "json")],
    )
    assert done.exit_code == 0 and ".9577/.9626" in done.output
    assert json.loads((tmp_path / "json").read_text())[0]["devices"] == 1


def test_the_lecture_on_three_devices_of_one_process(tmp_path):
    command = [sys.executable, "-m", "jaxnet", "lecture", "--only", "logits", "--devices", "3"]
    command += ["--precision", "float64", "--json", str(tmp_path / "json")]
    with started([command], [{"JAX_NUM_CPU_DEVICES": "3"}]) as processes:
        ((status, _, said),), _ = finish(processes)
    assert status == 0, said
    (record,) = json.loads((tmp_path / "json").read_text())
    here = lecture.run(lecture.EXPERIMENTS["logits"], precision="float64").record
    assert (record["devices"], record["processes"]) == (3, 1)
    assert record["test_accuracy"] == here["test_accuracy"]
    losses = [[r["loss"] for r in found["reports"]] for found in (record, here)]
    assert np.allclose(*losses, rtol=1e-12, atol=0)
