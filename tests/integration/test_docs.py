"""The documentation: it builds, its links lead somewhere, and its code runs."""

import doctest
import html
import importlib
import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch

from tests.integration import ROOT
from tests.test_bad_input import list_packages, public_names

DOCS = ROOT / "docs"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a built page links to, what it fetches, and the places in it."""

    def __init__(self, path: Path):
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.feed(read(path))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if "href" in values:
            (self.links if tag == "a" else self.fetched).append(values["href"])
        self.fetched += [values[name] for name in ("src", "poster", "data") if name in values]
        for part in values.get("srcset", "").split(","):
            self.fetched += part.split()[:1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages, built as `make docs` builds them; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # The theme's notice about mkdocs itself is none of these pages'.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "WARNING" not in said, said
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(site, pages):
    assert len(pages) > 30
    lost = []
    for path, page in pages.items():
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = unquote(parts.path)
            target = path if not place else (site if place[0] == "/" else path.parent) / (
                place.lstrip("/") or "index.html"
            )  # fmt: skip
            target = target.resolve()
            anchor = unquote(parts.fragment)
            known = pages[target].places if target in pages else set()
            if not target.is_file() or (anchor and anchor not in known | {"__skip"}):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost, "\n".join(lost)


def test_nothing_is_fetched_from_outside(site, pages):
    outside = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in page.fetched
        if (urlsplit(link).scheme or urlsplit(link).netloc) and not link.startswith("data:")
    ]
    for path in [*site.rglob("*.css"), *pages]:
        for link in re.findall(r"(?:url\(|@import\s)\s*[\"']?([^\"')]+)", read(path)):
            if re.match(r"(https?:)?//", link):
                outside.append(f"{path.relative_to(site)}: {link}")
    assert not outside, "\n".join(outside)


def test_formulas_and_doctests_are_shown_as_such(site, pages):
    """No formula is left in its source, and no `>>>` became a quotation in a quotation."""
    text = "".join(map(read, pages))
    assert text.count('<svg role="img"') > 100
    assert "arithmatex" not in text and r"\mathrm" not in re.sub(r"<svg.*?</svg>", "", text)
    quoted = [path.name for path, page in pages.items() if "blockquote" in page.tags]
    assert not quoted


def test_the_changelog_is_the_repositorys(site):
    headings = re.findall(r"^#+ \[?([^\]\n]+)", read(ROOT / "CHANGELOG.md"), re.MULTILINE)
    page = read(site / "changelog.html")
    assert headings and not [heading for heading in headings if html.escape(heading) not in page]


def read_inventory(site: Path) -> dict[str, str]:
    """Where each name of the reference stands, also by its other names."""
    packed = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(packed[packed.index(b"zlib.\n") + 6 :]).decode().splitlines()
    found = (re.match(r"(\S+) py:\S+ \S+ (\S+) ", line + " ") for line in lines)
    return {match[1]: match[2].replace("$", match[1]) for match in found if match}


def test_every_public_name_is_in_the_reference(site, pages):
    """A page for each package, and on some page all that it lists but for the names of colors."""
    packages = list(list_packages())
    missing = [p.__name__ for p in packages if site / f"reference/{p.__name__}.html" not in pages]
    names = {*public_names()} | {
        f"{package.__name__}.{name}"
        for package in packages
        for name in package.__all__
        if not isinstance(getattr(package, name), str)
    }
    inventory = read_inventory(site)
    for name in sorted(names):
        path, _, anchor = inventory.get(name, "#").partition("#")
        if not path or anchor not in pages[(site / path).resolve()].places:
            missing.append(name)
    assert not missing, "\n".join(missing)
    assert len(packages) > 14 and len(names) > 150


def list_code(text: str) -> str:
    """The doctests of a page, on their lines, with nothing between them."""
    lines, inside = [], False
    for line in text.splitlines():
        inside = inside and line != "```"
        lines.append(line if inside else "")
        inside = inside or line == "```pycon"
    return "\n".join(lines) + "\n"


def run_code(name: str, *texts: str) -> dict[str, Any]:
    """Run doctests in one namespace, which comes back; what went wrong fails the test."""
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest("".join(map(list_code, texts)), {}, name, name, 0)
    assert test.examples, f"{name} has no doctest"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng(devices=[]):
        failed, _ = runner.run(test, out=said.append, clear_globs=False)
    if failed:
        pytest.fail("".join(said), pytrace=False)
    return test.globs


FROM_TORCH = read(DOCS / "from-torch.md")
_ROWS = re.split(r"^## .* \{ #([\w-]+) \}$", FROM_TORCH, flags=re.MULTILINE)
ROWS = dict(zip(_ROWS[1::2], _ROWS[2::2], strict=True))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_from_torch_runs(row):
    """Each by itself, after the lines that the page says they share."""
    assert ">>> " in ROWS[row] and "**Why.**" in ROWS[row]
    run_code(f"from-torch.md: {row}", _ROWS[0], ROWS[row])


def test_the_table_lists_the_rows():
    assert re.findall(r"^\| \[.*?\]\(#([\w-]+)\) \| .+ \|$", FROM_TORCH, re.MULTILINE) == [*ROWS]
    assert len(re.findall(r"^## ", FROM_TORCH, re.MULTILINE)) == len(ROWS) >= 13


OTHERS = [path.name for path in sorted(DOCS.glob("*.md")) if "```pycon" in read(path)]


@pytest.mark.parametrize("page", [name for name in OTHERS if name != "from-torch.md"])
def test_a_page_runs(page, tmp_path, monkeypatch):
    text = read(DOCS / page)
    monkeypatch.chdir(tmp_path)  # for what it saves
    names = run_code(page, text)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page, "exec"), file := {})
        assert len(file["build"]()) == 4
    if page == "certificates.md":
        shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
        for certificate, told in zip((names["certificate"], names["wrong"]), shown, strict=True):
            assert list_fixed(told) == list_fixed(str(certificate))


def list_fixed(certificate: str) -> list[str]:
    """A certificate's lines without what rounding, versions and the machine decide."""
    lines = []
    for line in certificate.strip().splitlines():
        if re.match(r"[\w ]+? +[\d,]+ +(exact|\d)", line):
            stage, numbers = re.split(r"\s{2,}", line)[:2]
            # How many of the others are compared is a matter of rounding.
            line = f"{stage} {numbers}" if "exact" in line else stage
        elif re.match(r"[\d,]+ times|rounding:|Rounding decides|\([\d,]+ of ", line):
            continue
        elif re.match(r"(versions|platform|processor|torch, last|jax, last)?:", line):
            continue
        elif not re.match(r"[A-Z]|net:|training:|run:|(torch|jax), first", line):
            line = re.sub(r"[-\d][\d.,e+-]*|-{3,}", "#", line)
        lines.append(" ".join(line.split()))
    return lines


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_relative_links_outside_the_pages(name):
    """Files are there, and so are headings."""
    text = re.sub(r"```.*?```", "", read(ROOT / name), flags=re.DOTALL)
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not urlsplit(link).scheme]
    for link in links:
        path = ROOT / link.partition("#")[0]
        assert link[1:] in headings if link[0] == "#" else path.exists(), link


def test_docstrings_become_markdown(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "tools")
    docstrings = importlib.import_module("docstrings")
    said = (
        "Add.\n\nArgs:\n  a, b: numbers,\n    both `jaxnet.fit`.\n\n>>> add(1, 2)\n3\n\nSource: x."
    )
    assert docstrings.to_markdown(said).split("\n\n") == [
        "Add.",
        "**Arguments**",
        "- **`a`**, **`b`**: numbers, both "
        '<autoref identifier="jaxnet.fit" optional><code>jaxnet.fit</code></autoref>.',
        "```pycon\n>>> add(1, 2)\n3\n```",
        "Source: x.",
    ]
