"""Many kills of one run, each at a drawn time."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.test_kills import kill_and_resume


def test_fifty_kills(tmp_path):
    halves = kill_and_resume(tmp_path, random.Random(6), times=50)
    print(f"{halves} of 50 kills fell into a save")
    assert halves > 5


def test_a_sweep_ends_on_ctrl_c_and_the_command_says_how_to_resume(tmp_path):
    """What was under way is kept, no other group begins, and `--resume` gives the same table."""
    arguments = ["sweep", "minibatch", "--seeds", "0:60", "--no-cache", "--out"]
    command = [sys.executable, "-m", "jaxnet", *arguments]
    folder, other = str(tmp_path / "sweep"), str(tmp_path / "other")
    process = subprocess.Popen([*command, folder], stderr=subprocess.PIPE, text=True)
    while not list(Path(folder).glob("group-*.safetensors")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert "Ctrl-C: finishing the runs that are under way" in errors
    done = int(re.search(r"stopped after (\d+) of 60 runs", errors)[1])  # type: ignore
    assert 0 < done < 60 and len(Path(folder, "lanes.csv").read_text().splitlines()) == 1 + done
    assert errors.endswith(f"to resume: jaxnet {' '.join(arguments)} {folder} --resume\n")
    for rest in ([folder, "--resume"], [other]):
        subprocess.run([*command, *rest], check=True, capture_output=True)
    tables = [Path(path, "lanes.csv").read_text() for path in (folder, other)]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 61
