"""The command line with its pictures, and where its streams are not open."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from jaxnet import lecture
from tests.test_cli import call

PNG = b"\x89PNG\r\n\x1a\n"


def test_lecture_writes_table_json_and_figures(tmp_path, monkeypatch):
    published = lecture.Published(0.9577, 0.9626)  # what it gives: the lecture prints none
    known = dataclasses.replace(lecture.EXPERIMENTS["manual_sigmoid"], published=published)
    monkeypatch.setitem(lecture.EXPERIMENTS, "manual_sigmoid", known)
    results, figures = tmp_path / "new" / "results.json", tmp_path / "[/] figures"  # no markup
    done = call(
        *("lecture", "--only", "manual_sigmoid", "--json", str(results)),
        *("--figures", str(figures), "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert ".9577/.9626 ✓ torch" in done.output
    assert "precision: parity (float32, full matmul precision)" in done.output
    assert str(figures) in done.output.replace("\n", "")
    (record,) = json.loads(results.read_text())
    assert (
        list(record)
        == (
            "experiment section seed published train_accuracy test_accuracy reports "
            "compile_seconds run_seconds steps device random precision devices"
        ).split()
    )
    assert record["steps"] == len(record["reports"]) == 10 and record["precision"] == "parity"
    pictures = sorted(figures.iterdir())
    drawn = "digits manual_sigmoid predictions sigmoid weights"
    assert [path.stem for path in pictures] == drawn.split()
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


def run_shell(command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m {command}'],
        capture_output=True,
        text=True,
        **options,
    )


def test_show_draws_digits(tmp_path):
    out = tmp_path / "new" / "digits.png"
    done = call("show", "--out", str(out))
    assert done.exit_code == 0 and str(out) in done.output
    assert out.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("streams", "status", "output", "errors"),
    [
        ("--jsonl /dev/full 2>&1", 2, ".9577/.9626", ""),
        (">/dev/full", 2, "", "Error: standard output"),
        (">&- 2>&-", 0, "", ""),
        ("> >(:)", 0, "", ""),
    ],
)
def test_where_a_stream_is_closed_or_full_the_result_is_there(
    streams, status, output, errors, tmp_path
):
    """Each is a shell's line, and no path is markup. `:` reads nothing and ends at once."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    command = f"jaxnet lecture --only logits --json '[/].json' {streams}"
    done = run_shell(command, cwd=tmp_path, env=environment)
    assert done.returncode == status, done.stderr
    assert output in done.stdout and errors in done.stderr and "Traceback" not in done.stderr
    assert ("saved as" in done.stdout) == ("--jsonl" in streams)
    written = json.loads((tmp_path / "[/].json").read_bytes())
    assert written[0]["experiment"] == "logits"


def test_help_that_cannot_be_written_is_an_error_in_a_sentence():
    done = run_shell("jaxnet --help >/dev/full")
    assert done.returncode == 2 and done.stderr == "Error: [Errno 28] No space left on device\n"
