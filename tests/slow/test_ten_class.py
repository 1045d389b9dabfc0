"""The first epoch of ten digits, certified: `JAXNET_MNIST` names a folder of MNIST's four files."""

import json

import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
from jaxnet import data
from tests.integration.test_ten_class import ROOT, TEN, certify_rows, root

__all__ = ["root"]  # a fixture


@pytest.mark.skipif(ROOT is None, reason="JAXNET_MNIST names no folder of MNIST's four IDX files")
def test_real_mnist_for_the_first_epoch(record_property):
    found = certify_rows(data.load_mnist(TEN.classes, ROOT)[0])
    assert found.agrees and found.steps == 938, str(found)
    worst = {stage: round(figures.share, 2) for stage, figures in found.stages.items()}
    record_property("largest error as a share of its bound", {k: v for k, v in worst.items() if v})


def test_the_command_line_runs_it_from_a_folder(root, tmp_path):
    results, figures = tmp_path / "results.json", tmp_path / "figures"
    done = CliRunner().invoke(
        jaxnet.lecture.cli.main,
        ["lecture", "--only", "ten_class", "--root", str(root)]
        + ["--json", str(results), "--figures", str(figures)],
    )
    assert done.exit_code == 0, done.output
    (row,) = [line for line in done.output.splitlines() if line.lstrip().startswith("ten_class ")]
    assert "beyond" in row and "✓" not in row and "✗" not in done.output
    assert json.loads(results.read_text())[0]["steps"] == 160
    drawn = sorted(path.name for path in figures.iterdir())
    assert drawn == [f"{name}.png" for name in ("digits", "predictions", "ten_class", "weights")]
