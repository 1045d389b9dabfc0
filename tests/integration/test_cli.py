"""The command line with every picture, on many devices, and where its streams are not open."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxnet import lecture
from tests.test_cli import PNG, call


def test_lecture_writes_table_json_and_figures(tmp_path):
    results, figures = tmp_path / "new" / "results.json", tmp_path / "[/] figures"  # no markup
    done = call(
        *("lecture", "--only", "three_class", "--only", "manual_sigmoid"),
        *("--json", str(results), "--figures", str(figures), "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert "three_class" in done.output and ".9827/.9860 ✓ torch" in done.output
    assert str(figures) in done.output.replace("\n", "")
    records = json.loads(results.read_text())
    assert [record["experiment"] for record in records] == ["three_class", "manual_sigmoid"]
    assert (
        list(records[0])
        == (
            "experiment section seed published train_accuracy test_accuracy reports "
            "compile_seconds run_seconds steps device random precision devices"
        ).split()
    )
    assert records[0]["steps"] == 100 and len(records[1]["reports"]) == 10
    assert "precision: parity (float32, full matmul precision)" in done.output
    assert {record["precision"] for record in records} == {"parity"}
    pictures = sorted(figures.iterdir())
    drawn = (
        "codes confusion digits manual_sigmoid multinomial predictions sigmoid three_class weights"
    )
    assert [path.stem for path in pictures] == drawn.split()
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


def test_the_lecture_on_three_devices_is_the_lecture(tmp_path):
    path = tmp_path / "results.json"
    options = ["--devices", "3", "--precision", "float64", "--json", str(path)]
    done = call("lecture", "--only", "logits", *options)
    assert done.exit_code == 0 and ".9577/.9626" in done.output, done.output
    (record,) = json.loads(path.read_text())
    here = lecture.run(lecture.EXPERIMENTS["logits"], precision="float64").record
    assert (record["devices"], here["devices"]) == (3, 1)
    assert record["test_accuracy"] == here["test_accuracy"]
    losses = [[report["loss"] for report in found["reports"]] for found in (record, here)]
    np.testing.assert_allclose(*losses, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("command", "status", "output", "errors"),
    [
        ("lecture --only logits --json '[/].json' --jsonl /dev/full", 2, ".9577/.9626", "saved as"),
        ("lecture --only logits --json '[/].json' 2>&-", 0, ".9577/.9626", ""),
        ("lecture --only logits --json '[/].json' >/dev/full", 2, "", "Error: standard output"),
        ("show --out '[/].png' >&- 2>&-", 0, "", ""),
        ("show --out '[/].png' > >(:)", 0, "", ""),
    ],
)
def test_where_a_stream_is_closed_or_full_the_result_is_there(
    command, status, output, errors, tmp_path
):
    """Each is a shell's line, and no path is markup. `:` reads nothing and ends at once."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m jaxnet {command}'],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert output in done.stdout and errors in done.stderr and "Traceback" not in done.stderr
    written = (tmp_path / command.split("'")[1]).read_bytes()
    assert written.startswith(PNG) or json.loads(written)[0]["experiment"] == "logits"


@pytest.mark.parametrize("package", ["jaxnet", "torchref"])
def test_help_that_cannot_be_written_is_an_error_in_a_sentence(package):
    command = f'"{sys.executable}" -m {package} --help >/dev/full'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "Error: [Errno 28] No space left on device\n"
