"""The report: what it says, that its code is the runs' code, and how it does in a real browser."""

import dataclasses
import itertools
import math
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet.cli
import torchref.cli
import torchref.lecture
from jaxnet import lecture
from jaxnet.data import Dataset, load_mnist
from jaxnet.figures import training
from jaxnet.report import write_report
from jaxnet.report.sections import PICTURES, SECTIONS, read_code
from jaxnet.torch_results import TorchRun, check_same, digest_rows, load_torch
from tests.helpers import Enough
from torchref import results as torch_results

BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
SHORT = {"dropout": 50, "minibatch": 2, "logits": 10, "three_class": 10}
"""Epochs: those of `logits` and `minibatch` are the lecture's, as torch's run has them."""
PEER = {"form": "fast", "stream": "torch", "threads": 2, "agree": True, "steps": 1000}
TIMED = {
    "machine": {"processor": "a processor", "cores": 2, "date": "2026-01-01"},
    "peers": [
        PEER | {"name": "jaxnet.fit", "seconds": [0.1, 0.2, 0.3]},
        PEER | {"name": "another", "seconds": [1.0, 2.0, 3.0]},
        PEER | {"name": "one that differs", "agree": False, "seconds": [0.1]},
    ],
    "experiments": [
        {
            "experiment": "logits",
            "agree": True,
            "ratio": 3.25,
            "seconds_torch": [6.0, 7.0],
            "seconds_jaxnet": [2.0, 2.5],
        }
    ],
}


def load_few(classes: tuple[int, ...]) -> tuple[Dataset, Dataset]:
    """Every eighth digit: the page is the same, and made in a few seconds."""
    train, test = load_mnist(classes)
    return Dataset(train.images[::8], train.labels[::8]), Dataset(
        test.images[::8], test.labels[::8]
    )


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
    torch = load_torch(torch_results.save(found, folder / "torch.json"))
    results = [lecture.run(experiment, data[experiment.classes]) for experiment in chosen]
    return write_report(results, data, folder / "report.html", torch=torch, benchmarks=TIMED)


class Reader(HTMLParser):
    """What a page refers to, and the texts of its headings."""

    def __init__(self, text: str):
        super().__init__()
        self.urls: list[str] = []
        self.ids: set[str] = set()
        self.headings: list[str] = []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.urls += [url for key in ("src", "href", "data", "action") if (url := found.get(key))]
        self.ids.add(found.get("id") or "")
        self._heading = tag == "h2"

    def handle_endtag(self, tag):
        self._heading = False

    def handle_data(self, data):
        if self._heading:
            self.headings.append(data)


def test_the_page_tells_the_sections_in_the_lectures_order(page):
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    shown = [section for section in SECTIONS if set(section.experiments) & set(SHORT)]
    titles = [section.title for section in shown]
    assert reader.headings == ["Results", *titles, "How fast", "Where this ran"]
    for section in shown:
        assert section.asks in text and section.why[0][:60] in text
    assert "manual_sigmoid" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "AGREE: 1 steps" in text and "compared at every stage" in text
    assert "<dt>torch, train/test</dt>" in text and re.search(r"torch \d+\.\d\d s", text)
    assert "one that differs" not in text and ">another<" in text and "3.2x" in text
    assert "relative, where no bound is stated." in text, "on an eighth of the rows"
    pictures = [name for section in shown for name in section.pictures]
    assert text.count('<img src="data:image/png;base64,') == len(pictures)


def test_the_page_needs_nothing_else(page):
    reader = Reader(page.read_text(encoding="utf-8"))
    outside = [url for url in reader.urls if not url.startswith(("data:", "#"))]
    assert not outside
    assert {url[1:] for url in reader.urls if url.startswith("#")} <= reader.ids


def make_torch(result: lecture.Result, data: Any, **changes: Any) -> TorchRun:
    """torch's side as jaxnet's own run has it, but for what is changed in it."""
    losses, rows = result.history.losses.copy(), digest_rows(data)
    same = TorchRun(result.record, losses, {"processor": "another one"}, None, rows, 1e-6)
    return same._replace(**changes)


@pytest.fixture(scope="module")
def short() -> tuple[lecture.Result, dict[tuple[int, ...], tuple[Dataset, Dataset]]]:
    """Two epochs of three digits: not what was published."""
    experiment = dataclasses.replace(lecture.EXPERIMENTS["three_class"], epochs=2, report_every=1)
    data = {experiment.classes: load_few(experiment.classes)}
    return lecture.run(experiment, data[experiment.classes]), data


def test_a_missed_figure_and_a_parted_certificate_are_said(short, tmp_path):
    result, data = short
    wrong = {"agrees": False, "headline": "PART in <b>", "epochs": 1, "text": "</script>"}
    torch = {"three_class": make_torch(result, data[(0, 1, 2)], certificate=wrong)}
    text = write_report([result], data, tmp_path / "new" / "a.html", torch=torch).read_text()
    assert 'title="not what was published"' in text and '<span class="bad">part</span>' in text
    assert "PART in &lt;b&gt;" in text and "&lt;/script&gt;" in text
    assert "Here the two part in three_class" in text and "within the stated bound" not in text


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (1.0, "0.0e+00 apart, relative, within the stated bound"),
        (1.4, "Here the two part in three_class"),
        (np.nan, "Here the two part in three_class"),
    ],
)
def test_what_the_page_claims_is_what_the_runs_say(short, tmp_path, factor, says):
    result, data = short
    losses = result.history.losses * np.array([1, factor], "float32")
    torch = make_torch(result, data[(0, 1, 2)], losses=losses)
    path = write_report([result], data, tmp_path / "a.html", torch={"three_class": torch})
    assert says in path.read_text()


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


def test_torchs_runs_of_something_else_are_refused(short, tmp_path):
    """Other rows, another seed, another number of steps: before anything is trained."""
    result, data = short
    own = make_torch(result, data[(0, 1, 2)])
    experiment = dataclasses.replace(lecture.EXPERIMENTS["three_class"], epochs=2)
    check_same({"three_class": own}, [experiment], data)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"rows": "others"}, "on the same rows"),
        ({"record": result.record | {"seed": 1}}, "on the same seed: 1 there, 43052 here"),
        ({"record": result.record | {"steps": 3}}, "on the same steps: 3 there, 2 here"),
    ]
    for change, says in changes:
        with pytest.raises(ValueError, match=says):
            check_same({"three_class": own._replace(**change)}, [experiment], data)
    other = own._replace(losses=own.losses[:1])
    with pytest.raises(ValueError, match="1 there, 2 here"):
        write_report([result], data, tmp_path / "a.html", torch={"three_class": other})
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_is_kept_as_nothing(short, tmp_path):
    result, _ = short
    more = {"losses": [1.0, math.nan], "rows": "", "machine": {}}
    run = {**result.record, **more, "certificate": None, "loss_bound": None}
    path = torch_results.save([run], tmp_path / "torch.json")
    assert np.isnan(load_torch(path)["three_class"].losses[1])


@pytest.mark.parametrize("name", [name for section in SECTIONS for name in section.code])
def test_the_code_that_is_shown_is_what_runs(name):
    """jaxnet's is the experiment, loss for loss, and torch's is what `torchref` runs."""
    theirs, ours = read_code(name)
    if name not in lecture.EXPERIMENTS:
        exec(compile(ours, name, "exec"), names := {})
        exec(compile(theirs, name, "exec"), other := {})
        assert np.array_equal(np.asarray(names[MADE[name]]), np.asarray(other[MADE[name]]))
        return
    experiment = lecture.EXPERIMENTS[name]
    epochs = min(experiment.epochs, 3)
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
"""What the programs that train nothing make."""


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


def test_every_picture_has_a_place():
    shown = [name for section in SECTIONS for name in section.pictures]
    assert sorted(shown) == sorted(PICTURES)


def test_the_commands_make_the_page(tmp_path, monkeypatch):
    """As the README has it: torch's side, then the report."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    done = runner.invoke(torchref.cli.main, ["lecture", "--only", "logits", "--certify", "1"])
    assert done.exit_code == 0, done.output
    assert re.search(r"logits +0\.9577/0\.9626 .* AGREE: 1 step", done.output)
    command = ["report", "--only", "logits", "--torch", "torch.json"]
    done = runner.invoke(jaxnet.cli.main, command)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("wrote report.html (")
    assert "AGREE: 1 step" in Path("report.html").read_text()


# From here on in a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        assert "JAXNET_NEEDS_BROWSER" not in os.environ, "no Chromium or Chrome is installed here"
        pytest.skip("no Chromium or Chrome is installed here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


class Seen:
    """A page as a browser shows it, and whatever went wrong with it."""

    def __init__(self, browser: Any, path: Path, **options: Any):
        self.view = browser.new_page(**options)
        self.wrong: list[str] = []
        self.view.on("console", lambda message: self._say("console", message.text))
        self.view.on("pageerror", lambda error: self._say("error", error))
        self.view.on("request", self._look)
        self.view.goto(path.as_uri())
        self.view.wait_for_load_state()

    def _say(self, kind: str, what: Any) -> None:
        self.wrong.append(f"{kind}: {what}")

    def _look(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self._say("request", request.url)

    def faults(self) -> list[str]:
        """What went wrong, and pictures that are missing."""
        missing = self.view.evaluate(
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
        )
        return self.wrong + [f"missing: {alt}" for alt in missing]

    def wait(self) -> "Seen":
        self.view.wait_for_selector("html[data-ready]", timeout=60_000)
        return self


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
        {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_a_browser_shows_all_of_it(browser, page, options):
    seen = Seen(browser, page, **options).wait()
    assert not seen.faults()
    view = seen.view
    charts = view.evaluate("[...document.querySelectorAll('.chart')].map(d => d.data.length)")
    assert charts == [1, 2, 3, 3, 3, 3, 1, 2]
    wide = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "the page is wider than the window"
    dark = options.get("color_scheme") == "dark"
    ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    assert view.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    view.close()


def test_a_reader_can_hover_switch_and_filter(browser, page):
    seen = Seen(browser, page, viewport={"width": 1280, "height": 900}).wait()
    view = seen.view
    chart = ".chart[data-experiment=minibatch][data-chart=loss]"
    view.hover(f"{chart} .nsewdrag >> nth=0")
    view.wait_for_selector(f"{chart} .hoverlayer .legend")
    hovered = view.text_content(f"{chart} .hoverlayer")
    assert "torch" in hovered and "jaxnet" in hovered and "gap" in hovered
    scale = "document.querySelector('" + chart + "')._fullLayout.yaxis.type"
    assert view.evaluate(scale) == "linear"
    view.click("[data-of=minibatch] button[data-scale=log]")
    assert view.evaluate(scale) == "log"
    view.click("button[data-filter=logits]")
    assert view.is_visible("#of-logits") and not view.is_visible("#of-minibatch")
    view.click('button[data-filter=""]')
    assert view.is_visible("#of-minibatch")
    view.click("#theme")
    view.click("#theme")
    assert view.evaluate("document.documentElement.dataset.theme") == "dark"
    assert not seen.faults()
    view.close()


@pytest.mark.parametrize("width", [1280, 500])
def test_on_paper_nothing_overlaps_or_is_cut_off(browser, page, width):
    """Whatever the window was: A4 is 703 CSS pixels wide between its margins."""
    seen = Seen(browser, page, viewport={"width": width, "height": 900}).wait()
    view = seen.view
    view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    view.emulate_media(media="print")
    view.set_viewport_size({"width": 703, "height": 1000})
    boxes = view.evaluate(
        "[...document.querySelectorAll('.chart .main-svg:first-child')]"
        ".map(e => e.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom])"
    )
    assert len(boxes) == 8
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    widths = view.evaluate("[...document.querySelectorAll('table')].map(t => t.scrollWidth)")
    assert max(widths) <= 703 and max(box[2] for box in boxes) <= 703
    assert view.pdf(format="A4").startswith(b"%PDF")
    view.close()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("</body>", "<script>console.error('broken')</script></body>", "console: broken"),
        ("</body>", "<script>nothing.there</script></body>", "error: nothing is not defined"),
        ("data:image/png;base64,", "data:image/png;base64,AAAA", "missing: "),
        ("<h1>", "<img src='http://127.0.0.1:9/a.png'><h1>", "console: "),
        ("default-src 'none'; img-src data:", "img-src http: data:", None),
    ],
    ids=["console", "error", "picture", "request", "no policy"],
)
def test_a_fault_in_the_page_would_be_seen(browser, page, tmp_path, old, new, says):
    """The checks above can fail: the policy stops a request, and without it one is seen."""
    text = page.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1)
    if says is None:
        text = text.replace("<h1>", "<img src='http://127.0.0.1:9/a.png'><h1>", 1)
        says = "request: http://127.0.0.1:9/a.png"
    broken = tmp_path / "broken.html"
    broken.write_text(text, encoding="utf-8")
    seen = Seen(browser, broken)
    assert any(says in fault for fault in seen.faults()), seen.faults()
    seen.view.close()
