"""The report as a browser shows it: on a screen, on a phone, on paper."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_report import page

__all__ = ["page"]  # a fixture

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
