"""The README's code and the benchmarks run, so that they cannot rot."""

import json
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import benchmarks.__main__
import benchmarks.streams
import torchref.cli
from benchmarks.__main__ import compare, main, tabulate

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


def test_a_benchmark_agrees_and_is_written(tmp_path):
    path = tmp_path / "new" / "results.json"
    done = CliRunner().invoke(main, ["--only", "logits", "--rounds", "1", "--json", str(path)])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(path.read_text())["experiments"]
    assert row["agree"] and row["accuracies_torch"] == row["accuracies_jaxnet"]
    assert row["ratio"] == row["seconds_torch"][0] / row["seconds_jaxnet"][0]


def test_the_cost_of_random_numbers_is_measured_beside_their_equality(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.__main__, "STREAM_ROUNDS", 1)
    monkeypatch.setattr(benchmarks.streams, "MASKS", 2)
    path = tmp_path / "results.json"
    options = ["--only", "masks", "--only", "steps", "--rounds", "1", "--json", str(path)]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text())["streams"]
    assert len(rows) == 5 and all(row["agree"] for row in rows)
    assert rows[0]["ratio"] == rows[0]["seconds_other"][0] / rows[0]["seconds"][0]

    wrong = [row | {"agree": False} for row in rows]
    monkeypatch.setattr(benchmarks.__main__, "compare_masks", lambda *_: wrong)
    done = CliRunner().invoke(main, ["--only", "masks", "--rounds", "1"])
    assert done.exit_code == 1 and done.output.count("DIFFER") == 5
    assert f"{rows[0]['ratio']:.2f}x" not in done.output


def test_a_row_that_disagrees_prints_no_time(monkeypatch):
    row = compare("logits", 1, None) | {"agree": False}
    monkeypatch.setattr(benchmarks.__main__, "compare", lambda *_: row)
    done = CliRunner().invoke(main, ["--only", "logits", "--rounds", "1"])
    assert done.exit_code == 1 and "DIFFER" in done.output
    assert f"{row['ratio']:.1f}x" not in done.output
    assert tabulate([row | {"agree": True}]).row_count == 1
