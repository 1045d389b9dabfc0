"""What a person sees of a run, on a terminal and elsewhere."""

import io
import json
import re
import sys
import time
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

import benchmarks.__main__
import jaxnet
import jaxnet.callbacks.progress
import jaxnet.lecture.cli
import jaxnet.lecture.figures
import torchref.cli
from benchmarks import readme
from jaxnet import nn, optim
from jaxnet.callbacks import Progress, Report
from jaxnet.callbacks.progress import count
from jaxnet.lecture import _machine
from jaxnet.lecture.report import page
from tests.tiny import ACCURACY, LOSS, X, Y


def watch(terminal: bool, quiet: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    net, told = nn.Sequential([nn.Linear(6, 1)]), Progress("small", console, quiet=quiet)
    run: dict[str, Any] = {"epochs": 4, "seed": 1, "callbacks": [Report(2, ACCURACY), told]}
    jaxnet.fit(net, (X, Y), loss=LOSS, optimizer=optim.sgd(), **run)
    return seen(console)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80)


def seen(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_sees_a_bar_that_begins_with_compiling():
    shown = watch(terminal=True)
    assert "compiling" in shown and "epoch 4, loss " in shown and ", accuracy " in shown
    assert "\x1b[3" in shown, "in colour"


def test_a_bar_fits_into_80_columns():
    """The longest of the lecture's: nothing is cut off."""
    with count("manual_sigmoid", 500, console := terminal()) as tell:
        tell(499, "epoch 499, loss 0.5550, accuracy 0.9936")
    assert "accuracy 0.9936" in seen(console) and "…" not in seen(console)


def test_the_time_left_is_said_where_it_is_known():
    with count("small", 1000, console := terminal()) as tell:
        for done in range(1, 4):
            time.sleep(0.06)
            tell(done, "one of many")
        time.sleep(0.2)
    assert re.search(r"[0-9]:[0-9]{2} left", seen(console))


def test_elsewhere_and_where_quiet_is_asked_for_nothing_is_shown():
    assert watch(terminal=False) == "" and watch(terminal=True, quiet=True) == ""


def test_names_and_metrics_are_no_markup():
    with count("[/] mine", 1, console := terminal()) as tell:
        tell(1, "[red] 0.5")
    assert "[/] mine" in seen(console) and "[red] 0.5" in seen(console)


class Gone(io.StringIO):
    """A terminal that was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("stream", [Gone(), None])
def test_a_terminal_that_is_gone_ends_no_run(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    with count("small", 4) as tell:
        tell(1, "one")


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = watch(terminal=True)
    assert "epoch 4, loss " in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown), "a colour"


def test_what_nobody_can_count_pulses_until_it_is_done():
    with count("doctor", None, console := terminal(), begin="measuring"):
        pass
    assert "measuring" in seen(console) and "✓" in seen(console)


JAXNET, TORCHREF = jaxnet.lecture.cli.main, torchref.cli.main
COMMANDS: dict[str, tuple[click.Command, str, str]] = {
    "lecture": (JAXNET, "lecture --only logits", "epoch 10, loss 0.4014, accuracy 0.9577"),
    "figures": (JAXNET, "lecture --only logits --figures {}/figures", "drawing"),
    "sweep": (JAXNET, "sweep logits --seeds 0:2 --epochs 1", "2 of 2 runs"),
    "report": (JAXNET, "report --only logits --out {}/report.html", "drawing and writing"),
    "show": (JAXNET, "show --out {}/digits.png", "drawing"),
    "doctor": (JAXNET, "doctor", "measuring"),
    "torch": (
        TORCHREF,
        "lecture --only logits --certify 0 --json {}/torch.json",
        "loss 0.4014, accuracy 0.9577",
    ),
    "certify": (TORCHREF, "certify {}/net.py:build --epochs 2", "step 2 of 2"),
    "benchmarks": (benchmarks.__main__.main, "--only logits --rounds 1", "measured"),
}
MEASURED = json.loads(readme.RESULTS.read_text(encoding="utf-8"))["experiments"][0]
NET = """
import torch
def build():
    net = torch.nn.Sequential(torch.nn.Linear(3, 1))
    X, y = torch.ones(4, 3), torch.ones(4, 1)
    return net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters()), (X, y)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_that_it_works_on_a_terminal_alone(name, tmp_path, monkeypatch):
    """With a bar, and with nothing where --quiet is; one of them where there is no terminal."""
    main, line, says = COMMANDS[name]
    command = [part.format(tmp_path) for part in line.split()]
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.setattr(_machine, "_ask_torch", lambda: "AVX2")  # a process that imports torch
    monkeypatch.setattr(benchmarks.__main__, "compare", lambda *_: MEASURED)
    monkeypatch.setattr(jaxnet.lecture.figures, "draw_lecture", lambda *_, **__: [])
    monkeypatch.setattr(page, "write_report", lambda _, data, path, **__: path.write_text(""))
    found = {}
    ways: dict[str, list[str]] = {"terminal": [], "quiet": ["--quiet"]}
    ways |= {"file": []} if name == "lecture" else {}
    for way, more in ways.items():
        shown = io.StringIO()
        monkeypatch.setattr(
            jaxnet.callbacks.progress, "_is_terminal", lambda way=way: way != "file"
        )
        monkeypatch.setattr(
            "rich.console.Console",
            lambda file, s=shown: Console(file=s, force_terminal=True, width=80),
        )
        done = CliRunner().invoke(main, [*command, *more])
        assert done.exit_code == 0, done.output
        found[way] = shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found["terminal"])
    assert "━" in plain and says in plain and not found["quiet"] and not found.get("file")


def test_a_colour_that_is_forced_makes_no_terminal(monkeypatch):
    """FORCE_COLOR is usual where output goes to a file: nothing is drawn into it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = io.StringIO()
    monkeypatch.setattr(jaxnet.callbacks.progress.sys, "stderr", shown)
    with count("small", 4):
        pass
    assert shown.getvalue() == ""
