"""The README's code runs and prints what it shows; the gallery names every picture."""

import json
import re
import runpy
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

import jaxnet
import torchref.cli
from jaxnet.lecture.experiments import EXPERIMENTS, Result
from jaxnet.lecture.figures.gallery import list_pictures
from tests.integration.test_docs import DOCS, ROOT, list_fixed, read

README = read(ROOT / "README.md")
TWO_NETS = ROOT / "examples" / "two_nets.py"


def test_the_example_runs_and_resumes(tmp_path, monkeypatch, capsys):
    shown = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [str(TWO_NETS), str(tmp_path / "run")])
        runpy.run_path(str(TWO_NETS), run_name="__main__")
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and shown[0].count("the discriminator's loss") == 5
    assert (tmp_path / "run" / "100").is_dir()
    assert len(TWO_NETS.read_text().splitlines()) <= 80


def list_blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_the_readme_is_a_page():
    assert len(README.splitlines()) <= 160


def test_the_readmes_loops_print_the_same(tmp_path, monkeypatch, capsys):
    """torch's losses and jaxnet's, both as shown; then the layer that is saved."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in list_blocks("python"):
        if "def build():" not in block:
            exec(compile(block, "README.md", "exec"), names)
    shown, _ = list_blocks("text")
    assert capsys.readouterr().out == 2 * shown
    assert len(names["history"].losses) == 792
    layer, variables = jaxnet.convert.load(tmp_path / "my_layer")
    assert layer.apply(variables, np.ones((3, 9, 32), np.float32)).shape == (3, 9, 32)


def test_the_readmes_net_is_certified(tmp_path, monkeypatch):
    """As a stranger would: the file, then the command; the certificate begins as shown."""
    (file,) = [block for block in list_blocks("python") if "def build():" in block]
    (command,) = re.findall(r"^python -m torchref (certify .*)$", README, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("my_port.py").write_text(file)
    done = CliRunner().invoke(torchref.cli.main, command.split())
    assert done.exit_code == 0, done.output
    _, shown = list_blocks("text")
    assert list_fixed(done.output.split("\n\nof bound")[0]) == list_fixed(shown)


def test_the_readmes_table_is_what_was_measured():
    results = json.loads(read(ROOT / "benchmarks/results/cpu.json"))
    for row in results["experiments"]:
        (cells,) = re.findall(rf"^\| `{row['experiment']}` \| (.*) \|$", README, re.MULTILINE)
        accuracies, _, *measured = cells.split(" | ")
        for value in row["accuracies_jaxnet"][-2:]:
            assert f"{value:.4f}".removeprefix("0") in accuracies
        seconds = [statistics.median(row[f"seconds_{side}"]) for side in ("torch", "jaxnet")]
        middles = [f"{middle:.3g}" for middle in seconds]
        assert measured == [f"{row['loss_gap']:.1e}", *middles, f"{row['ratio']:.1f}x"]


def test_the_gallery_names_every_picture_that_is_drawn():
    """Those of the lecture, of a sweep and of the benchmarks; each is there, and no other."""
    gallery = read(DOCS / "gallery.md")
    named = re.findall(r"!\[\]\(gallery/([\w-]+)\.png\) `\1\.png`: ", gallery)
    state = jaxnet.train.start(jaxnet.optim.sgd(), {"params": {}}, jaxnet.random.manual_seed(0))
    history = jaxnet.History(np.zeros(0), (), 0.0, 0.0, "parity")
    results = [Result({"experiment": name}, state, history) for name in EXPERIMENTS]
    rows = jaxnet.data.Dataset(np.zeros((0, 784)), np.zeros(0))
    data = {e.classes: (rows, rows) for e in EXPERIMENTS.values()}
    others = "sweep-histogram sweep-losses peers growth scaling"
    drawn = [*list_pictures(results, data, {}), *others.split()]
    assert sorted(named) == sorted(drawn)
    assert sorted(path.stem for path in (DOCS / "gallery").iterdir()) == sorted(drawn)
    commands = ("--figures docs/gallery --torch torch.json", "--seeds 0:256 --figures docs/gallery")
    assert all(command in gallery for command in commands)
