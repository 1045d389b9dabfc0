"""The README's code and the benchmarks run, so that they cannot rot."""

import json
import re
from pathlib import Path

from click.testing import CliRunner

import benchmarks.__main__
from benchmarks.__main__ import compare, main, tabulate

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (first,) = [block for block in blocks if "jaxnet.fit(" in block]
    exec(compile(first, "README.md", "exec"), {})
    assert "Report(epoch=3" in capsys.readouterr().out


def test_a_benchmark_agrees_and_is_written(tmp_path):
    path = tmp_path / "new" / "results.json"
    done = CliRunner().invoke(main, ["--only", "logits", "--rounds", "1", "--json", str(path)])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(path.read_text())
    assert row["agree"] and row["accuracies_torch"] == row["accuracies_jaxnet"]
    assert row["ratio"] == row["seconds_torch"][0] / row["seconds_jaxnet"][0]


def test_a_row_that_disagrees_prints_no_time(monkeypatch):
    row = compare("logits", 1, None) | {"agree": False}
    monkeypatch.setattr(benchmarks.__main__, "compare", lambda *_: row)
    done = CliRunner().invoke(main, ["--only", "logits", "--rounds", "1"])
    assert done.exit_code == 1 and "DIFFER" in done.output
    assert f"{row['ratio']:.1f}x" not in done.output
    assert tabulate([row | {"agree": True}]).row_count == 1
