"""The README's code runs, so that it cannot rot."""

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import torchref.cli

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (training,) = [block for block in blocks if "jaxnet.fit(" in block]
    exec(compile(training, "README.md", "exec"), {})
    assert "Report(epoch=3" in capsys.readouterr().out
    names: dict[str, Any] = {}
    for block in blocks:
        if "jaxnet.random." in block:
            exec(compile(block, "README.md", "exec"), names)
    assert names["masks"](names["generator"])[1].shape == (10, 16, 32)
    assert names["keep"].shape == (64, 16, 32)


def test_the_readmes_runs_survive_and_stop(tmp_path, monkeypatch, capsys):
    """What it prints of them is what they print."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (training,) = [block for block in blocks if "jaxnet.fit(" in block]
    rest = [block for block in blocks if "jaxnet.runs.fit(" in block]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(training, "README.md", "exec"), names)
    capsys.readouterr()
    exec(compile("".join(rest), "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("Report(") == 5 and names["best"].report.epoch == 2
    error = " ".join(printed[printed.index("the loss is not finite") :].split())
    assert error in " ".join(text.split())
    assert list((tmp_path / "my_run").glob("5"))


def test_the_readmes_sweep_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "jaxnet.run_sweep(" in block]
    exec(compile(block, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("lane,seed,lr,p,loss,train_accuracy,test_accuracy\n0,0,0.01,0.0,")
    assert said.count(" luck? ") == 4


def test_the_readmes_net_is_certified(tmp_path, monkeypatch):
    """As a stranger would: the file, the command, then the lines for Python."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (file,) = [block for block in blocks if "def build():" in block]
    lines = "".join(block for block in blocks if "torchref.certify(" in block)
    (command,) = re.findall(r"^python -m torchref (certify .*)$", text, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(file)
    done = CliRunner().invoke(torchref.cli.main, command.split())
    assert done.exit_code == 0, done.output
    assert done.output.startswith("AGREE: 64 steps, compared at every stage")
    assert "<svg" in Path("it.html").read_text()
    names: dict[str, Any] = {}
    exec(compile(file + lines, "README.md", "exec"), names)
    assert names["certificate"].agrees and names["outputs"].shape == (3, 1)
    found = names["parted"].divergence
    assert (found.stage, found.tensor, found.step) == ("update", "0.weight", 1)
