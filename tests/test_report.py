"""The report: what it says of runs that differ, and which torch runs it takes."""

import dataclasses
import math
import tomllib
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from jaxnet import lecture
from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture.figures import training
from jaxnet.lecture.report import page, write_report
from jaxnet.lecture.torch_results import TorchRun, check_same, digest_rows, load_torch
from torchref import results as torch_results

SHORT = {"dropout": 50, "minibatch": 2, "logits": 10, "three_class": 10}
"""Epochs: those of `logits` and `minibatch` are the lecture's, as torch's run has them."""
TOLD = tomllib.loads(page._read("sections.toml"))


def load_few(classes: tuple[int, ...]) -> tuple[Dataset, Dataset]:
    """Every eighth digit: the page is the same, and made in a few seconds."""
    train, test = load_mnist(classes)
    return Dataset(train.images[::8], train.labels[::8]), Dataset(
        test.images[::8], test.labels[::8]
    )


def make_torch(result: lecture.Result, data: Any, **changes: Any) -> TorchRun:
    """torch's side as jaxnet's own run has it, but for what is changed in it."""
    same = {"losses": result.history.losses.copy(), "rows": digest_rows(data), "loss_bound": 1e-6}
    same |= {"machine": {"processor": "another one"}, "certificate": None}
    return result.record | same | changes


@pytest.fixture(scope="module")
def short() -> tuple[lecture.Result, dict[tuple[int, ...], tuple[Dataset, Dataset]]]:
    """Two epochs of three digits: not what was published."""
    experiment = dataclasses.replace(lecture.EXPERIMENTS["three_class"], epochs=2, report_every=1)
    data = {experiment.classes: load_few(experiment.classes)}
    return lecture.run(experiment, data[experiment.classes]), data


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without pictures, which take most of their time."""
    monkeypatch.setattr(page, "_draw", lambda *_: {})


@pytest.mark.usefixtures("no_pictures")
def test_a_missed_figure_and_a_parted_certificate_are_said(short, tmp_path):
    result, data = short
    wrong = {"agrees": False, "headline": "DIVERGE in <b>", "epochs": 1, "text": "</script>"}
    torch = {"three_class": make_torch(result, data[(0, 1, 2)], certificate=wrong)}
    text = write_report([result], data, tmp_path / "new" / "a.html", torch=torch).read_text()
    assert 'title="not what was published"' in text and '<span class="bad">part</span>' in text
    assert "DIVERGE in &lt;b&gt;" in text and "&lt;/script&gt;" in text
    assert (
        "Here the two do not agree in three_class" in text and "within the stated bound" not in text
    )


@pytest.mark.parametrize(("factor", "top"), [(1.0, 1e-5), (1.4, 0.5), (np.nan, 1e-5)])
def test_a_gap_is_in_the_picture_however_large(short, factor, top):
    """What is far apart lies within the axis, and what is no number is said."""
    result, data = short
    losses = result.history.losses * np.array([1, factor], "float32")
    axes = matplotlib.figure.Figure().subplots(2, 1)
    training._draw_losses(axes, result, make_torch(result, data[(0, 1, 2)], losses=losses))
    points = axes[1].lines[0].get_ydata()
    low, high = axes[1].get_ylim()
    assert high >= top and all(low < y < high for y in points if np.isfinite(y))
    said = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert ("1 not finite" in said) == np.isnan(factor)


def test_torchs_runs_of_something_else_are_rejected(short, tmp_path):
    """Other rows, another seed, another number of steps: before anything is trained."""
    result, data = short
    own = make_torch(result, data[(0, 1, 2)])
    experiment = dataclasses.replace(lecture.EXPERIMENTS["three_class"], epochs=2, report_every=1)
    check_same({"three_class": own}, [experiment], data)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"rows": "others"}, "on the same rows"),
        ({"seed": 1}, "on the same seed: 1 there, 43052 here"),
        ({"losses": own["losses"][:1]}, "on the same steps: 1 there, 2 here"),
        ({"reports": own["reports"][:1]}, "on the same reports: 1 there, 2 here"),
    ]
    for change, says in changes:
        with pytest.raises(ValueError, match=says):
            check_same({"three_class": own | change}, [experiment], data)
    other = own | {"losses": own["losses"][:1]}
    with pytest.raises(ValueError, match="1 there, 2 here"):
        write_report([result], data, tmp_path / "a.html", torch={"three_class": other})
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_is_kept_as_nothing(short, tmp_path):
    result, _ = short
    more = {"losses": [1.0, math.nan], "rows": "", "machine": {}}
    run = {**result.record, **more, "certificate": None, "loss_bound": None}
    path = tmp_path / "torch.json"
    path.write_text(torch_results.as_json([run]))
    assert np.isnan(load_torch(path)["three_class"]["losses"][1])


def test_every_picture_has_a_place():
    shown = [name for section in TOLD["sections"] for name in section.get("pictures", ())]
    assert sorted(shown) == sorted(TOLD["pictures"])
