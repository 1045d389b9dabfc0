"""The command for sweeps, with its pictures."""

import csv
import json

from tests.test_sweeps import call, few

__all__ = ["few"]  # a fixture


def test_the_command_prints_writes_draws_and_resumes(few, tmp_path):
    out, figures = tmp_path / "[/] out", tmp_path / "[red]figures"  # no markup
    arguments = "minibatch --seeds 0:6 --p 0.5 --p 0 --lr 0.1 --lr 0.01".split()
    arguments += ["--out", str(out), "--figures", str(figures)]
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    assert "24 of 24 runs" not in done.output  # progress, and no terminal
    assert done.output.count(" luck? ") == 4 and "lr 0.01, p 0.0: Was" in done.output
    assert "is what the lecture's own seed, 1, gives" in done.output
    assert max(map(len, done.stdout.replace(str(tmp_path), "").splitlines())) <= 80
    with open(out / "lanes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and list(rows[0])[:4] == ["lane", "seed", "lr", "p"]
    drawn = [path.name for path in sorted(figures.iterdir())]
    assert drawn == ["sweep-histogram.png", "sweep-losses.png"]
    again = call(*arguments)
    assert again.exit_code == 2 and "holds files" in again.output
    assert call(*arguments, "--resume").exit_code == 0
    assert json.loads((out / "sweep.json").read_text())["epochs"] == 2
