"""One run in many processes: real ones, over the loopback."""

import json
import os
import pickle
import re
import signal
import sys

import jax
import pytest
from click.testing import CliRunner

import jaxnet
import jaxnet.lecture.cli
from jaxnet import hosts, launch
from jaxnet._utils.processes import LOST
from tests import child
from tests.peers import (
    EPOCHS,
    alone,
    check_same,
    finish,
    launched,
    no_child_is_left,
    one_cache,
    run_peers,
    slurm,
    wait_until,
)

__all__ = ["alone", "one_cache"]  # fixtures


def test_two_find_each_other_on_slurm_and_are_one_run(tmp_path, alone):
    folder = tmp_path / "runs"
    found = run_peers(folder, tmp_path / "r.npz", EPOCHS, 2, slurm(2), place=False)
    check_same(found, alone[EPOCHS])
    # One process reads what two have written, and goes on.
    check_same(child.as_arrays(*child.train(str(folder), EPOCHS + 2)), alone[EPOCHS + 2])


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
    done = CliRunner().invoke(jaxnet.lecture.cli.main, ["lecture", "--devices", "3"])
    assert done.exit_code == 2, done.output
    assert "--devices must be at most 1" in done.output and "JAX_NUM_CPU_DEVICES=3" in done.output


def test_the_lecture_on_a_mesh_is_the_lecture(tmp_path):
    """Of one device here: many are in a process of their own, below."""
    done = CliRunner().invoke(
        jaxnet.lecture.cli.main,
        ["lecture", "--only", "logits", "--devices", "1", "--json", str(tmp_path / "json")],
    )
    assert done.exit_code == 0 and ".9577/.9626" in done.output
    assert json.loads((tmp_path / "json").read_text())[0]["devices"] == 1
