"""The command line from outside: what it prints, writes and returns; and that it needs no torch."""

import dataclasses
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
from jaxnet import lecture
from jaxnet.lecture.cli.processes import connect

PNG = b"\x89PNG\r\n\x1a\n"


def call(*arguments: str):
    return CliRunner().invoke(jaxnet.lecture.cli.main, list(arguments), prog_name="jaxnet")


def test_a_precision_is_obeyed_and_said(tmp_path, monkeypatch):
    """That `lecture.run` computes in it is in tests/test_precision.py."""
    results, asked = tmp_path / "results.json", []

    def run(*arguments, precision, **options):
        asked.append(precision)
        result = lecture.run(*arguments, **options)
        return result._replace(record=result.record | {"precision": precision})

    monkeypatch.setattr(jaxnet.lecture.cli.lecture, "run", run)
    done = call("lecture", "--only", "logits", "--precision", "float64", "--json", str(results))
    assert done.exit_code == 0, done.output
    assert "precision: float64 (float64, full matmul precision)" in done.output
    assert asked == ["float64"]
    assert max(map(len, done.output.splitlines())) <= 80
    assert json.loads(results.read_text())[0]["precision"] == "float64"


def test_a_missed_figure_is_marked_and_makes_the_exit_status_1(tmp_path, monkeypatch):
    published = lecture.Published(0.99)
    missed = dataclasses.replace(lecture.EXPERIMENTS["logits"], published=published)
    monkeypatch.setitem(lecture.EXPERIMENTS, "logits", missed)
    results = tmp_path / "results.json"
    done = call("lecture", "--only", "logits", "--json", str(results))
    assert done.exit_code == 1, done.output
    assert "✗ torch " in done.output and "was not reproduced" in done.output
    assert json.loads(results.read_text())[0]["reports"][-1]["epoch"] == 10


def test_a_row_on_other_random_numbers_fails(monkeypatch):
    """Without a figure to miss: the row says whose numbers it used."""
    card = jaxnet.random.manual_seed(0, "cuda")  # of a key tests/test_lecture.py has the record
    other = dataclasses.replace(lecture.EXPERIMENTS["logits"], seed=card)
    monkeypatch.setitem(lecture.EXPERIMENTS, "logits", other)
    done = call("lecture", "--only", "logits")
    assert done.exit_code == 1, done.output
    assert "torch cuda ✗" in done.output


def test_show_draws_digits(tmp_path):
    out = tmp_path / "new" / "digits.png"
    done = call("show", "--out", str(out))
    assert done.exit_code == 0 and str(out) in done.output
    assert out.read_bytes().startswith(PNG)


def test_digits_that_cannot_be_had_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    done = call("lecture", "--only", "ten_class")
    assert done.exit_code == 2, done.output
    assert "pip install" in " ".join(done.output.split())


def test_a_fault_of_our_own_is_not_called_bad_input(monkeypatch):
    monkeypatch.setattr(jaxnet.lecture.cli.lecture, "run", lambda *_, **__: int("a bug"))
    done = call("lecture", "--only", "logits")
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)


def test_json_goes_to_what_is_there_already(tmp_path):
    """A link stays a link, and a file keeps its permissions' default."""
    target = tmp_path / "target.json"
    target.write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert call("lecture", "--only", "logits", "--json", str(link)).exit_code == 0
    assert link.is_symlink() and json.loads(target.read_text())[0]["experiment"] == "logits"
    assert call("lecture", "--only", "logits", "--json", os.devnull).exit_code == 0
    assert not os.path.isfile(os.devnull)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "target.json"]


def test_a_process_of_many_ends_where_it_is_told_to(monkeypatch):
    """JAX's preemption service would take SIGTERM, and nobody asks it."""
    config: Any = jax.config
    seen = []
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda *place: seen.append((place, config.jax_enable_preemption_service)),
    )
    before = config.jax_enable_preemption_service
    try:
        place = {"coordinator": "a:1", "num_processes": 2, "process_id": 1}
        connect(SimpleNamespace(distributed=True, **place))
    finally:
        config.update("jax_enable_preemption_service", before)
    assert seen == [(("a:1", 2, 1), False)]


@pytest.mark.parametrize("command", ["lecture", "sweep logits"])
def test_where_nothing_can_be_drawn_that_is_said_before_the_first_run(
    command, tmp_path, monkeypatch
):
    """As with a backend in MPLBACKEND that matplotlib does not know."""
    monkeypatch.setitem(sys.modules, "jaxnet.lecture.figures", None)
    done = call(*command.split(), "--figures", str(tmp_path / "new"))
    assert done.exit_code == 2 and "Error: import of jaxnet.lecture.figures" in done.output
    assert not list(tmp_path.iterdir())
