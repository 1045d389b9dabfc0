"""The command line from outside: what it prints, writes and returns; and that it needs no torch."""

import dataclasses
import functools
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
from jaxnet.lecture import experiments
from jaxnet.lecture.cli.processes import connect

LOGITS = ("lecture", "--only", "logits")


def call(*arguments: str):
    return CliRunner().invoke(jaxnet.lecture.cli.main, list(arguments), prog_name="jaxnet")


@functools.cache
def run_logits() -> lecture.Result:
    return lecture.run(lecture.EXPERIMENTS["logits"])


@pytest.fixture
def ran(monkeypatch) -> dict[str, Any]:
    """One run for every command, whose record is changed by what is put in here; and the options
    of the last command."""
    record: dict[str, Any] = {}

    def run(experiment, data, **options):
        record["options"] = options
        result = run_logits()
        changed = {key: value for key, value in record.items() if key != "options"}
        return result._replace(record=result.record | changed)

    monkeypatch.setattr(jaxnet.lecture.cli.lecture, "run", run)
    return record


def test_a_precision_is_obeyed_and_said(tmp_path, ran):
    """That `lecture.run` computes in it is in tests/test_precision.py."""
    results, ran["precision"] = tmp_path / "results.json", "float64"
    done = call(*LOGITS, "--precision", "float64", "--json", str(results))
    assert done.exit_code == 0, done.output
    assert "precision: float64 (float64, full matmul precision)" in done.output
    assert ran["options"]["precision"] == "float64"
    assert max(map(len, done.output.splitlines())) <= 80
    assert json.loads(results.read_text())[0]["precision"] == "float64"


def test_devices_are_a_mesh(ran):
    """That a run on one is the lecture is in tests/test_mesh.py."""
    assert call(*LOGITS, "--devices", "3").exit_code == 0
    assert ran["options"]["placement"].mesh.devices.size == 3


def test_a_missed_figure_is_marked_and_makes_the_exit_status_1(tmp_path, monkeypatch):
    published = lecture.Published(0.99)
    missed = dataclasses.replace(lecture.EXPERIMENTS["logits"], published=published)
    monkeypatch.setitem(lecture.EXPERIMENTS, "logits", missed)
    results = tmp_path / "results.json"
    done = call(*LOGITS, "--json", str(results))
    assert done.exit_code == 1, done.output
    assert "✗ torch " in done.output and "was not reproduced" in done.output
    assert json.loads(results.read_text())[0]["reports"][-1]["epoch"] == 10


def test_a_row_on_other_random_numbers_fails(ran):
    """Without a figure to miss: the row says whose numbers it used."""
    result, card = run_logits(), jaxnet.random.manual_seed(0, "cuda")  # a key: test_lecture.py
    state = result.state._replace(generator=card)
    made = experiments._record(lecture.EXPERIMENTS["logits"], state, result.history, (1.0, 1.0))
    ran["random"] = made["random"]
    done = call(*LOGITS)
    assert done.exit_code == 1, done.output
    assert "torch cuda ✗" in done.output


def test_digits_that_cannot_be_had_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    done = call("lecture", "--only", "ten_class")
    assert done.exit_code == 2, done.output
    assert "pip install" in " ".join(done.output.split())


def test_a_fault_of_our_own_is_not_called_bad_input(monkeypatch):
    monkeypatch.setattr(jaxnet.lecture.cli.lecture, "run", lambda *_, **__: int("a bug"))
    done = call(*LOGITS)
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)


@pytest.mark.usefixtures("ran")
def test_json_goes_to_what_is_there_already(tmp_path):
    """A link stays a link, and a file keeps its permissions' default."""
    target = tmp_path / "target.json"
    target.write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert call(*LOGITS, "--json", str(link)).exit_code == 0
    assert link.is_symlink() and json.loads(target.read_text())[0]["experiment"] == "logits"
    assert call(*LOGITS, "--json", os.devnull).exit_code == 0
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
