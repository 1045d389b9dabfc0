"""Processes that are killed, freeze, fail, or go on with what others have saved."""

import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest

from jaxnet import launch, lecture
from jaxnet._utils.processes import END_WITHIN, LOST
from tests import child
from tests.peers import (
    EPOCHS,
    LIMIT,
    SLACK,
    alone,
    check_same,
    find_processes,
    finish,
    launched,
    lose,
    no_child_is_left,
    one_cache,
    peers,
    run_launched,
    run_peers,
    started,
    wait_for,
    wait_until,
)

__all__ = ["alone", "one_cache"]  # fixtures


def test_two_go_on_with_what_one_has_saved(tmp_path, alone):
    folder = tmp_path / "runs"
    child.train(str(folder), 2)
    check_same(run_peers(folder, tmp_path / "r.npz", EPOCHS, 2), alone[EPOCHS])


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


def test_a_port_that_is_taken_is_said():
    with launch.socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ("--nproc", "2", "--port", port)
        status, out, said = run_launched("--only", "logits", options=options)
    assert (status, out) == (2, ""), said
    assert f"port {port} is taken" in said and "process 0 of 2, the coordinator, ended" in said


STUBBORN = """
import signal, sys, time
from jaxnet.lecture.cli.processes import die_with_launcher
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


def test_a_frozen_process_ends_all(tmp_path, record_property):
    """The others notice within `END_WITHIN` seconds, and say which process it was."""
    with peers(tmp_path / "runs", tmp_path / "r.npz", 1000, 3, {"PACE": "0.2"}) as processes:
        took = lose(processes, 1, signal.SIGSTOP, END_WITHIN)
    record_property("seconds from the freeze to the end", round(took, 1))
