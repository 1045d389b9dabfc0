"""The report as a whole page: its sections, its code, the commands that make it."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
import torchref.cli
import torchref.lecture
from jaxnet import lecture
from jaxnet.lecture.report import write_report
from jaxnet.lecture.report.page import read_code
from jaxnet.lecture.torch_results import load_torch
from tests.helpers import Enough
from tests.test_report import SHORT, TOLD, load_few, make_torch, short
from torchref import results as torch_results

__all__ = ["short"]  # a fixture


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report of short runs, with torch's side of two of them and a certificate."""
    folder = tmp_path_factory.mktemp("report")
    chosen = [
        dataclasses.replace(lecture.EXPERIMENTS[name], epochs=epochs, report_every=1)
        for name, epochs in SHORT.items()
    ]
    data = {classes: load_few(classes) for classes in {e.classes for e in chosen}}
    found = [
        torch_results.measure("minibatch", data[(0, 1)], epochs=0),
        torch_results.measure("logits", data[(0, 1)], epochs=1),
    ]
    (folder / "torch.json").write_text(torch_results.as_json(found))
    torch = load_torch(folder / "torch.json")
    results = [lecture.run(experiment, data[experiment.classes]) for experiment in chosen]
    return write_report(results, data, folder / "report.html", torch=torch)


def without_scripts(page: Path) -> str:
    return re.sub(r"<script.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)


def test_the_page_tells_the_sections_in_the_lectures_order(page):
    text = without_scripts(page)
    shown = [s for s in TOLD["sections"] if set(s.get("experiments", ())) & set(SHORT)]
    titles = [section["title"] for section in shown]
    assert re.findall("<h2>(.*)</h2>", text) == ["Results", *titles, "Where this ran"]
    for section in shown:
        assert section["asks"] in text and section["why"][:60] in text
    assert "manual_sigmoid" not in text
    assert "AGREE: 1 steps; " in text and "lie within their bounds" in text
    assert "<dt>torch, train/test</dt>" in text and re.search(r"torch \d+\.\d\d s", text)
    assert "relative, where no bound is stated." in text, "on an eighth of the rows"
    pictures = [name for section in shown for name in section["pictures"]]
    assert text.count('<img src="data:image/png;base64,') == len(pictures)


def test_the_page_needs_nothing_else(page):
    text = without_scripts(page)
    urls = re.findall(r'(?:src|href|data|action)="([^"]+)"', text)
    assert len(urls) > 5 and all(url.startswith(("data:", "#")) for url in urls)
    assert {url[1:] for url in urls if url[0] == "#"} <= {*re.findall(r'id="([^"]+)"', text)}


@pytest.mark.parametrize("name", [*lecture.EXPERIMENTS, "device", "one_hot"])
def test_the_code_that_is_shown_is_what_runs(name):
    """jaxnet's is the experiment, loss for loss, and torch's is what `torchref` runs."""
    theirs, ours = read_code(name)
    if name not in lecture.EXPERIMENTS:
        exec(compile(ours, name, "exec"), names := {})
        exec(compile(theirs, name, "exec"), other := {})
        assert np.array_equal(np.asarray(names[MADE[name]]), np.asarray(other[MADE[name]]))
        return
    experiment = lecture.EXPERIMENTS[name]
    epochs = 1 if experiment.batch_size else 3
    ours = ours.replace(f"epochs={experiment.epochs},", f"epochs={epochs},")
    theirs = theirs.replace(f"range({experiment.epochs}):", f"range({epochs}):")
    assert f"epochs={epochs}," in ours and f"range({epochs}):" in theirs
    exec(compile(ours, name, "exec"), names := {})
    short = dataclasses.replace(experiment, epochs=epochs, report_every=1)
    result = lecture.run(short)
    assert np.array_equal(names["history"].losses, result.history.losses)
    assert names["on_train"]["accuracy"] == result.record["train_accuracy"]
    assert names["on_test"]["accuracy"] == result.record["test_accuracy"]
    exec(compile(theirs, name, "exec"), other := {})
    assert other["loss"].item() == find_torch_loss(name, result.record["steps"])
    for part in ("train", "test"):
        found = float(other[f"on_{part}"])
        assert found == pytest.approx(result.record[f"{part}_accuracy"], abs=1e-6)


MADE = {"device": "X", "one_hot": "targets"}


def find_torch_loss(name: str, step: int) -> float:
    """The loss of a step of the lecture's own loop."""
    losses: list[float] = []

    def watch(net: Any, output: Any, loss: Any) -> None:
        losses.append(loss.item())
        if len(losses) == step:
            raise Enough

    with pytest.raises(Enough):
        torchref.lecture.run(name, watch=watch)
    return losses[-1]


def test_the_commands_make_the_page(tmp_path, monkeypatch):
    """As the README has it: torch's side, then the report."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(torchref.cli.main, ["lecture", "--only", "logits", "--certify", "1"])
    assert done.exit_code == 0, done.output
    assert re.search(r"logits +0\.9577/0\.9626 .* AGREE: 1 step", done.output)
    command = ["report", "--only", "logits", "--torch", "torch.json"]
    done = runner.invoke(jaxnet.lecture.cli.main, command)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("wrote report.html (")
    assert "AGREE: 1 step" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (1.0, "0.0e+00 apart, relative, within the stated bound"),
        (1.4, "Here the two do not agree in three_class"),
        (np.nan, "Here the two do not agree in three_class"),
    ],
)
def test_what_the_page_claims_is_what_the_runs_say(short, tmp_path, factor, says):
    result, data = short
    losses = result.history.losses * np.array([1, factor], "float32")
    torch = make_torch(result, data[(0, 1, 2)], losses=losses)
    path = write_report([result], data, tmp_path / "a.html", torch={"three_class": torch})
    assert says in " ".join(path.read_text().split())
