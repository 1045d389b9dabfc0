"""The report as a whole page: its sections, its code, the commands that make it; and as a browser
shows it: on a screen, on a phone, on paper."""

import dataclasses
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
import torchref.cli
import torchref.lecture
from jaxnet import lecture
from jaxnet.lecture.figures import studies
from jaxnet.lecture.report import write_report
from jaxnet.lecture.report.page import read_code
from jaxnet.lecture.torch_results import load_torch
from tests.helpers import Enough
from tests.test_report import SHORT, TOLD, load_few, make_torch, no_pictures, short
from torchref import results as torch_results

__all__ = ["no_pictures", "short"]  # fixtures


CURVES = {size: np.ones(4) for size in studies.CURVE_BATCHES}
# What the pictures of the studies are drawn of: tests/slow trains their nets.
STUDIED = {
    "overfit": lambda data: (0.8, {p: {4: (0.5, 0.5), 8: (0.9, 0.8)} for p in (0.0, 0.9)}),
    "vary_batches": lambda data: (CURVES, np.ones(len(studies.NOISE_BATCHES))),
    "predict_codes": lambda data: np.ones(len(data[1].labels)),
}


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
    with pytest.MonkeyPatch.context() as patch:
        for name, found in STUDIED.items():
            patch.setattr(studies, name, found)
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


@pytest.mark.usefixtures("no_pictures")
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


@pytest.mark.usefixtures("no_pictures")
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


_NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)


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


SCREENS = {
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "has_touch": True,
    },
}


@pytest.mark.parametrize("screen", SCREENS)
def test_a_browser_shows_all_of_it(browser, page, screen):
    seen = Seen(browser, page, **SCREENS[screen]).wait()
    assert not seen.faults()
    view = seen.view
    charts = view.evaluate("[...document.querySelectorAll('.chart')].map(d => d.data.length)")
    assert charts == [1, 2, 3, 3, 3, 3, 1, 2]
    wide = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "the page is wider than the window"
    theme, color = {"dark": ("dark", "20, 23, 28"), "phone": ("light", "255, 255, 255")}[screen]
    ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == f"rgb({color})"
    assert view.evaluate("document.documentElement.dataset.theme") == theme
    view.close()


def test_a_reader_can_hover_and_switch(browser, page):
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
    view.emulate_media(color_scheme="dark")
    view.wait_for_selector("html[data-theme=dark]")
    assert not seen.faults()
    view.close()


def test_on_paper_nothing_overlaps_or_is_cut_off(browser, page):
    """A4 is 703 CSS pixels wide between its margins, and the window was wider."""
    view = Seen(browser, page, viewport={"width": 1280, "height": 900}).wait().view
    view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    view.emulate_media(media="print")
    view.set_viewport_size({"width": 703, "height": 1000})
    boxes = view.evaluate(
        "[...document.querySelectorAll('.chart .main-svg:first-child')]"
        ".map(e => e.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom])"
    )
    assert len(boxes) == 8
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0]
        assert apart or one[3] <= other[1] or other[3] <= one[1], (one, other)
    widths = view.evaluate("[...document.querySelectorAll('table')].map(t => t.scrollWidth)")
    assert max(widths) <= 703 and max(box[2] for box in boxes) <= 703
    assert view.pdf(format="A4").startswith(b"%PDF")
    view.close()


FAULTS = {
    "console: broken": ("</body>", "<script>console.error('broken')</script></body>"),
    "error: nothing is not defined": ("</body>", "<script>nothing.there</script></body>"),
    "missing: ": ("data:image/png;base64,", "data:image/png;base64,AAAA"),
    "console: ": ("<h1>", "<img src='http://127.0.0.1:9/a.png'><h1>"),
    "request: http://127.0.0.1:9/a.png": (
        "default-src 'none'; img-src data:",
        "img-src http: data:",
    ),
}


@pytest.mark.parametrize("says", FAULTS)
def test_a_fault_in_the_page_would_be_seen(browser, page, tmp_path, says):
    """The checks above can fail: the policy stops a request, and without it one is seen."""
    text = without_scripts(page)
    for old, new in (FAULTS[says], FAULTS["console: "])[: 1 + says.startswith("request")]:
        assert old in text
        text = text.replace(old, new, 1)
    (broken := tmp_path / "broken.html").write_text(text, encoding="utf-8")
    seen = Seen(browser, broken)
    assert any(says in fault for fault in seen.faults()), seen.faults()
    seen.view.close()
