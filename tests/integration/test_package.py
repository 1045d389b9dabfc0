"""What `pip install` gives a user: every file of the two packages and no other, and it runs."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

import jaxnet
from tests.integration import ROOT

PACKAGES = ("jaxnet", "torchref")
NAME, VERSION = "jaxnet-parity", jaxnet.__version__
ABOUT = f"{NAME.replace('-', '_')}-{VERSION}.dist-info/"

_SITE = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
_MADE = {"__pycache__", "build", "dist", "site", "figures"}
"""Folders of what is made here, where git is not there to say so."""


def _list_files(root: Path = ROOT) -> list[str]:
    """The checkout's own files: those that git has or would take, and that are there."""
    git = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return sorted(_walk(root))
    return sorted(name for name in done.stdout.split("\0") if name and (root / name).is_file())


def _walk(root: Path) -> list[str]:
    """The same without git, near enough."""
    found = []
    for folder, names, files in os.walk(root):
        here = Path(folder).relative_to(root)
        made = _MADE if here == Path() else {"__pycache__"}
        names[:] = [
            n for n in names if n not in made and not n.endswith(".egg-info") and n[0] != "."
        ]
        found += [(here / file).as_posix() for file in files]
    return found


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """A command's output, with no variable of Python's own but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    parts, env = [str(part) for part in command], {**kept, **environment}
    done = subprocess.run(parts, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _copy(folder: Path) -> Path:
    for name in _list_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


class Built(NamedTuple):
    """What a build made, and the wheel as it is installed."""

    source: Path
    wheel: Path
    sdist: Path
    installed: Path

    def ours(self) -> set[str]:
        return {name for name in _walk(self.source) if name.split("/")[0] in PACKAGES}

    def names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """A source distribution of the checkout, and a wheel of that; without a network."""
    folder = tmp_path_factory.mktemp("package")
    source, out, installed = _copy(folder / "source"), folder / "out", folder / "installed"
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=folder)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
    _run(*pip, "--no-deps", "--no-compile", "--target", installed, wheel, cwd=folder)
    return Built(source, wheel, sdist, installed)


def _python(built: Built, *arguments: str, cwd: Path, path: bool = True) -> str:
    """Python with the installed packages and the others' alone: `-S` leaves out what `.pth` files
    add, an editable checkout for one."""
    places = [str(built.installed)] * path + list(_SITE)
    return _run(
        sys.executable, "-S", "-W", "error", *arguments, cwd=cwd,
        PYTHONPATH=os.pathsep.join(places), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip


def test_the_wheel_holds_every_file_of_both_packages_and_no_other(built):
    assert {name for name in built.names() if not name.startswith(ABOUT)} == built.ours()
    known = {"LICENSE", "METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"}
    found = {name.removeprefix(ABOUT) for name in built.names() if name.startswith(ABOUT)}
    assert {name.removeprefix("licenses/") for name in found} == known
    needed = {"jaxnet/data/mnist012.npz", *(f"{name}/py.typed" for name in PACKAGES)}
    assert needed <= built.ours()
    with zipfile.ZipFile(built.wheel) as archive:
        for name in built.ours():
            assert archive.read(name) == (built.source / name).read_bytes(), name


def test_the_source_distribution_holds_what_a_build_needs_and_no_half_of_the_suite(built):
    """The wheel was made of it, so that all of it is there."""
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    tops = {name.split("/")[0] for name in names}
    assert {"pyproject.toml", "README.md", "LICENSE", *PACKAGES} <= tops
    assert not tops & {"tests", "benchmarks", "docs", "examples", "build", "dist"}


NEEDED = {
    *("jax", "flax", "optax", "numpy", "jaxtyping", "safetensors", "orbax-checkpoint"),
    "filelock",  # JAX's cache of programs needs it where its size is limited
    *("click", "rich", "matplotlib", "plotly", "jinja2", "pygments"),  # the application
}


def test_the_metadata_says_who_it_is(built):
    (found,) = metadata.distributions(name=NAME, path=[str(built.installed)])
    assert (found.name, found.version) == (NAME, VERSION)
    (entry,) = found.entry_points
    assert (entry.group, entry.name) == ("console_scripts", "jaxnet")
    assert entry.value == "jaxnet.lecture.cli:main"
    about = email.message_from_string(found.read_text("METADATA") or "")
    assert about["License-Expression"] == "MIT"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"
    extras = {"torch", "bench", "cuda", "grain", "test", "dev"}
    assert set(about.get_all("Provides-Extra") or ()) == extras
    needed = [line for line in about.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert {re.split("[>=]", line)[0] for line in needed} == NEEDED
    top = (found.read_text("top_level.txt") or "").split()
    assert sorted(top) == sorted(PACKAGES)


_IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    for part in pkgutil.walk_packages(package.__path__, name + "."):
        if not part.name.endswith("__main__"):
            importlib.import_module(part.name)
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == name]:
        assert module.__file__.startswith(sys.argv[1]), module.__file__
from jaxnet.lecture.cli import main
main(["lecture", "--only", "logits"])
"""


def test_every_module_is_imported_from_where_it_was_installed_and_the_lecture_runs(built, tmp_path):
    """torchref's too; and where they are not installed there are none: the checkout is not seen."""
    said = _python(built, "-c", _IMPORT_ALL, str(built.installed), *PACKAGES, cwd=tmp_path)
    assert re.search(r"logits\s.*\.9577/\.9626\s+torch\s", said), said
    assert f"version {VERSION}" in _python(built, "-m", "jaxnet", "--version", cwd=tmp_path)
    seek = "import importlib.util as u; print([u.find_spec(n) for n in ('jaxnet', 'torchref')])"
    assert _python(built, "-c", seek, cwd=tmp_path, path=False) == "[None, None]\n"


def test_only_one_file_says_the_version():
    """The others ask `jaxnet.__version__`; only what was printed or measured names it as a fact."""
    says = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])")
    apart = ("CHANGELOG.md", "benchmarks/results/", "docs/", "tests/")
    texts = (".py", ".toml", ".md", ".yml", ".cfg", ".in", ".txt", "Makefile")
    named = [
        name
        for name in _list_files()
        if name.endswith(texts) and not name.startswith(apart)
        if says.search((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert named == ["jaxnet/__init__.py"]


def test_the_changelog_names_the_version():
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [name for name in headings if name != "Unreleased"][0] == VERSION
