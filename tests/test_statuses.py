"""The exit statuses of `python -m torchref`: no failure has that of a verdict."""

import errno
import json
import sys
from pathlib import Path
from typing import Any

import jax
import matplotlib
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
import torchref.cli
from tests.helpers import each_row

SCRIPT = """
import dataclasses, pickle, typing
import mate

@dataclasses.dataclass
class Options:
    other: "Other | None" = None

class Other:
    pass

assert list(typing.get_type_hints(Options)) == ["other"]
assert pickle.loads(pickle.dumps(Options())) == Options()

def build():
    import json, late, matplotlib
    assert json.dumps([mate.NAME, late.NAME]) and matplotlib.use
    {}
"""


class Ended:
    """A certificate, of which what `fails` names raises."""

    def __init__(self, verdict: str, **fails: BaseException):
        self.verdict, self.fails = verdict, fails

    def __str__(self) -> str:
        return self._do("print") or self.verdict

    def save(self, path: Path) -> None:
        self._do("save")
        path.write_text(self.verdict)

    def _do(self, name: str) -> Any:
        if name in self.fails:
            raise self.fails[name]


def certify(folder: Path, monkeypatch, made: Any, body: str = "", name: str = "net.py"):
    """`certify` of a script with neighbors, whose certificate is `made`."""
    for file in ("mate.py", "late.py", "matplotlib.py", "json.py"):
        (folder / file).write_text("NAME = 'a neighbor'")
    (folder / name).write_text(SCRIPT.format(body))

    def certify_script(build, **options):
        build()
        return made

    monkeypatch.setattr(torchref.cli, "certify_script", certify_script)
    arguments = ["certify", f"{folder / name}:build", "--save", str(folder / "it.txt")]
    return CliRunner().invoke(torchref.cli.main, arguments)


FULL = OSError(errno.ENOSPC, "No space left on device")
CLOSED = OSError(errno.EPIPE, "Broken pipe")


@each_row(
    ("made", "body", "status", "says"),
    [
        (Ended("AGREE"), "", 0, "AGREE"),
        (Ended("DIVERGE"), "", 1, "DIVERGE"),
        (Ended("UNDECIDED"), "", 3, "UNDECIDED"),
        *(
            (Ended("AGREE"), body, 2, "of net.py)")
            for body in ("raise SystemExit(0)", "raise SystemExit(3)", "raise EOFError", "1 / 0",
                         "raise BrokenPipeError(32, 'Broken pipe')")
        ),
        (Ended("AGREE"), "raise GeneratorExit", 2, "GeneratorExit"),
        (Ended("AGREE"), "raise KeyboardInterrupt", 130, ""),
        (Ended("AGREE", save=FULL), "", 2, "No space left on device"),
        (Ended("AGREE", save=ZeroDivisionError()), "", 2, "ZeroDivisionError"),
        (Ended("AGREE", save=SystemExit(0)), "", 2, ""),
        (Ended("AGREE", save=KeyboardInterrupt()), "", 130, ""),
        (Ended("AGREE", print=FULL), "", 2, "No space left on device"),
        (Ended("AGREE", print=CLOSED), "", 2, ""),
        (Ended("AGREE", print=RecursionError()), "", 2, "RecursionError"),
    ],
)  # fmt: skip
def test_a_failure_has_no_verdicts_status(made, body, status, says, tmp_path, monkeypatch):
    done = certify(tmp_path, monkeypatch, made, body)
    assert done.exit_code == status, done.output
    assert says in done.output


@pytest.mark.parametrize("name", ["json.py", "matplotlib.py", "click.py", "net.py"])
@pytest.mark.parametrize("first", [False, True], ids=["not on the path", "first on the path"])
def test_a_script_and_its_neighbors_take_no_modules_place(name, first, tmp_path, monkeypatch):
    """Its classes are found by their names, and its neighbors, at once and later."""
    path = [str(tmp_path)] * first + sys.path
    monkeypatch.setattr(sys, "path", list(path))
    done = certify(tmp_path, monkeypatch, Ended("AGREE"), name=name)
    assert done.exit_code == 0, done.output
    assert sys.modules["json"] is json and sys.modules["matplotlib"] is matplotlib
    assert sys.path == path and "net" not in sys.modules
    for neighbor in ("mate", "late"):
        assert sys.modules.pop(neighbor).NAME == "a neighbor"


def measure(*headlines: Any):
    """Runs whose certificates have these headlines; an exception is raised."""
    waiting = list(headlines)

    def measure(*_, **__):
        headline = waiting.pop(0)
        if isinstance(headline, BaseException):
            raise headline
        certificate = headline and {"headline": headline, "agrees": headline.startswith("AGREE")}
        accuracies = {"train_accuracy": 1.0, "test_accuracy": 1.0}
        return {"certificate": certificate, "losses": [0.0], "run_seconds": 0.0} | accuracies

    return measure


@each_row(
    ("headlines", "status"),
    [
        (("AGREE: 4 steps", "AGREE: 4 steps"), 0),
        ((None, None), 0),
        (("UNDECIDED: loss", "AGREE: 4 steps"), 3),
        (("UNDECIDED: loss", "DIVERGE in epoch 1"), 1),
        (("AGREE: 4 steps", ZeroDivisionError()), 2),
        (("AGREE: 4 steps", KeyboardInterrupt()), 130),
    ],
)
def test_the_lectures_status_is_that_of_the_worst_verdict(headlines, status, tmp_path, monkeypatch):
    monkeypatch.setattr(torchref.cli, "measure", measure(*headlines))
    arguments = ["lecture", "--only", "logits", "--only", "dropout", "--json"]
    done = CliRunner().invoke(torchref.cli.main, [*arguments, str(tmp_path / "torch.json")])
    assert done.exit_code == status, done.output


def test_a_lecture_that_cannot_be_saved_has_no_verdicts_status(tmp_path, monkeypatch):
    def write(*_, **__):
        raise FULL

    monkeypatch.setattr(torchref.cli, "measure", measure("AGREE: 4 steps"))
    monkeypatch.setattr("jaxnet._utils.files.write_whole", write)
    arguments = ["lecture", "--only", "logits", "--json", str(tmp_path / "torch.json")]
    done = CliRunner().invoke(torchref.cli.main, arguments)
    assert done.exit_code == 2 and "No space left on device" in done.output


@each_row(
    ("main", "arguments"),
    [
        (jaxnet.lecture.cli.main, ["lecture", "--json", "a.json"]),
        (jaxnet.lecture.cli.main, ["sweep", "logits"]),
        (jaxnet.lecture.cli.main, ["report"]),
        (torchref.cli.main, ["lecture"]),
        (torchref.cli.main, ["certify", "net.py:build"]),
    ],
)
def test_a_jax_that_does_not_start_is_said(main, arguments, tmp_path, monkeypatch):
    """As with JAX_PLATFORMS=cuda where there is none: whatever asks for a device fails."""

    def fail(*_):
        raise RuntimeError("Unable to initialize backend 'x'")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax, "process_index", fail)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2 and "Error: JAX does not start here: Unable" in done.output
    assert not list(tmp_path.iterdir())
