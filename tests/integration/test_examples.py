"""The README's code runs, so that it cannot rot."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

import jaxnet
import torchref.cli
from jaxnet.lecture.experiments import EXPERIMENTS, Result
from jaxnet.lecture.figures.gallery import list_pictures

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    training, _ = [block for block in blocks if "jaxnet.fit(" in block]
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
    training, spread = [block for block in blocks if "jaxnet.fit(" in block]
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
    exec(compile(spread, "README.md", "exec"), names)
    assert len(names["history"].losses) == 3 * 625


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
    assert done.output.startswith("AGREE: 64 steps; ")
    assert "<svg" in Path("it.html").read_text()
    names: dict[str, Any] = {}
    exec(compile(file + lines, "README.md", "exec"), names)
    assert names["certificate"].agrees and names["outputs"].shape == (3, 1)
    found = names["wrong"].divergence
    assert (found.stage, found.tensor, found.step) == ("update", "0.weight", 1)


def test_the_gallery_names_every_picture_that_is_drawn():
    """Those of the lecture, of a sweep and of the benchmarks; each is there, and no other."""
    text = README.read_text(encoding="utf-8")
    gallery = text[text.index("\n## Gallery") : text.index("\n## In Python")]
    named = re.findall(r"!\[\]\(docs/gallery/([\w-]+)\.png\) `\1\.png`: ", gallery)
    state = jaxnet.train.start(jaxnet.optim.sgd(), {"params": {}}, jaxnet.random.manual_seed(0))
    history = jaxnet.History(np.zeros(0), (), 0.0, 0.0, "parity")
    results = [Result({"experiment": name}, state, history) for name in EXPERIMENTS]
    rows = jaxnet.data.mnist.Dataset(np.zeros((0, 784)), np.zeros(0))
    data = {e.classes: (rows, rows) for e in EXPERIMENTS.values()}
    drawn = [
        *list_pictures(results, data, {}),
        "sweep-histogram",
        "sweep-losses",
        "peers",
        "growth",
        "scaling",
    ]
    assert sorted(named) == sorted(drawn)
    assert sorted(path.stem for path in (README.parent / "docs/gallery").iterdir()) == sorted(drawn)
    commands = ("--figures docs/gallery --torch torch.json", "--seeds 0:256 --figures docs/gallery")
    assert all(command in gallery for command in commands)
