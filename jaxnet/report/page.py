"""Puts the page together: texts, code, figures of the runs, pictures, and what draws the curves."""

import base64
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import jaxnet
from jaxnet.data import Dataset
from jaxnet.figures.gallery import list_pictures
from jaxnet.figures.training import relative_gaps
from jaxnet.files import as_path, write_whole
from jaxnet.lecture import Result, find, missed
from jaxnet.machine import describe
from jaxnet.report.sections import PICTURES, SECTIONS, Section, read_code
from jaxnet.torch_results import TorchRun

Split = tuple[Dataset, Dataset]


def write_report(
    results: Iterable[Result],
    data: Mapping[tuple[int, ...], Split],
    path: str | os.PathLike,
    *,
    torch: Mapping[str, TorchRun] | None = None,
    benchmarks: Mapping[str, Any] | None = None,
) -> Path:
    """Write the lecture's sections, with these runs, as one page; the file appears whole or not.

    The page holds all that it shows, asks for nothing over a network, and says so to the browser.

    Args:
      results: finished experiments, of `jaxnet.lecture.run`.
      data: training and test rows, by the experiments' `classes`.
      path: of the page, ending in .html.
      torch: torch's runs by experiment, from `jaxnet.torch_results.load_torch`.
      benchmarks: what `python -m benchmarks --json` wrote, for the speed of every peer.

    Returns:
      The path.

    Raises:
      ValueError: there is no result, or the path ends in something else.
      TypeError: something else than a result is among them.
    """
    results, path = list(results), as_path(path)
    if strange := [result for result in results if not isinstance(result, Result)]:
        raise TypeError(f"results must be jaxnet.lecture.Results, not {type(strange[0]).__name__}")
    if not results:
        raise ValueError("results must hold at least one finished experiment, not 0")
    check_page(path)
    peers = _list_peers(benchmarks)
    torch = torch or {}
    by_id = {result.record["experiment"]: result for result in results}
    pictures = _draw(results, data)
    rows = [_summarise(result, torch.get(name)) for name, result in by_id.items()]
    machines = {"jaxnet": describe() | {"jaxnet": jaxnet.__version__}}
    if torch:
        machines["torch"] = next(iter(torch.values())).machine
    sections = [_tell(s, by_id, torch, pictures) for s in SECTIONS if _is_shown(s, by_id)]
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title="Same seed, same numbers: the lecture in torch and in JAX",
            date=time.strftime("%Y-%m-%d"),
            sections=sections,
            rows=rows,
            names=list(by_id),
            machines=machines,
            same_machine=len({str(_place(machine)) for machine in machines.values()}) == 1,
            has_torch=bool(torch),
            peers=peers,
            charts=_as_json({name: _chart(r, torch.get(name)) for name, r in by_id.items()}),
            plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
            script=Markup(_read("page.js")),
            style=Markup(_read("page.css") + _style_code()),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def check_page(path: str | os.PathLike) -> None:
    """Refuse the name of a file that is no page's.

    >>> check_page("report.html")
    """
    if as_path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the path of a report must end in .html, not {path}")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("jaxnet", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"python": _highlight, "figure": _short}
    return environment


def _read(name: str) -> str:
    return (resources.files("jaxnet.report") / name).read_text(encoding="utf-8")


def _highlight(code: str) -> Markup:
    return Markup(highlight(code, PythonLexer(), HtmlFormatter(cssclass="code")))


def _style_code() -> str:
    """Colours of the code, light and dark."""
    light = HtmlFormatter(style="xcode", cssclass="code").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark", cssclass="code").get_style_defs(
        "[data-theme=dark] .code"
    )
    return f"\n{light}\n@media screen {{\n{dark}\n}}\n"


def _short(value: float | None) -> str:
    """An accuracy as the lecture prints it, ".9936"."""
    return "" if value is None else f"{value:.4f}".removeprefix("0")


def _is_shown(section: Section, by_id: Mapping[str, Result]) -> bool:
    return not section.experiments or any(name in by_id for name in section.experiments)


def _draw(results: list[Result], data: Mapping[tuple[int, ...], Split]) -> dict[str, str]:
    """The pictures that are no curves, each as a data URL."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: _encode(draw(Path(folder) / f"{name}.png"))
            for name, draw in list_pictures(results, data, {}).items()
            if name in PICTURES
        }


def _encode(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _tell(
    section: Section,
    by_id: Mapping[str, Result],
    torch: Mapping[str, TorchRun],
    pictures: Mapping[str, str],
) -> dict[str, Any]:
    """What the template shows of a section."""
    names = [name for name in section.experiments if name in by_id]
    return {
        "section": section,
        "experiments": [
            {
                "name": name,
                **_summarise(by_id[name], torch.get(name)),
                "certificate": torch[name].certificate if name in torch else None,
            }
            for name in names
        ],
        "codes": [(name, *read_code(name)) for name in section.code],
        "pictures": [
            (name, PICTURES[name], pictures[name]) for name in section.pictures if name in pictures
        ],
    }


def _summarise(result: Result, torch: TorchRun | None) -> dict[str, Any]:
    """A row of the table: figures, gaps, seconds."""
    record = result.record
    published = find(record["experiment"]).published
    row = {
        "experiment": record["experiment"],
        "number": record["section"],
        "published": published,
        "ours": (record["train_accuracy"], record["test_accuracy"]),
        "missed": missed(record),
        "random": record["random"],
        "steps": record["steps"],
        "compile": record["compile_seconds"],
        "seconds": record["run_seconds"],
    }
    if torch is not None:
        theirs = torch.record
        row |= {
            "torch": (theirs["train_accuracy"], theirs["test_accuracy"]),
            "torch_seconds": theirs["run_seconds"],
            "ratio": theirs["run_seconds"] / record["run_seconds"],
            "agrees": None if torch.certificate is None else torch.certificate["agrees"],
        }
        if len(torch.losses) == len(result.history.losses):
            row["gap"] = float(relative_gaps(result.history.losses, torch.losses).max())
    return row


def _chart(result: Result, torch: TorchRun | None) -> dict[str, Any]:
    """The numbers of an experiment's curves."""
    record = result.record
    chart: dict[str, Any] = {
        "loss": {"jaxnet": result.history.losses},
        "epochs": [report["epoch"] for report in record["reports"]],
        "accuracy": {"jaxnet": [report["accuracy"] for report in record["reports"]]},
        "test": record["test_accuracy"],
        "published": record["published"]["train"],
    }
    if torch is not None and len(torch.losses) == len(result.history.losses):
        chart["loss"]["torch"] = torch.losses
        chart["gap"] = relative_gaps(result.history.losses, torch.losses)
        chart["accuracy"]["torch"] = [report["accuracy"] for report in torch.record["reports"]]
    return chart


def _list_peers(benchmarks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Microseconds a step of each contestant that computes the same, the fastest first."""
    if benchmarks is None:
        return None
    rows = []
    for row in benchmarks.get("peers", []):
        if row.get("agree") and "seconds" in row:
            micro = [1e6 * seconds / row["steps"] for seconds in row["seconds"]]
            rows.append((row["name"], statistics.median(micro), min(micro), max(micro), len(micro)))
    if not rows:
        raise ValueError(
            "benchmarks must hold `peers` that agree: python -m benchmarks --only peers"
        )
    rows.sort(key=lambda row: row[1])
    longest = max(row[3] for row in rows)
    return {"rows": rows, "longest": longest, "machine": benchmarks["machine"]}


def _place(machine: Mapping[str, str]) -> Any:
    return machine.get("processor"), machine.get("system")


def _as_json(value: Any) -> Markup:
    """JSON that may stand in a page: arrays as lists, nothing that ends a script."""

    def plain(array: Any) -> Any:
        if isinstance(array, np.ndarray):
            listed = [float(f"{number:.8g}") for number in array.tolist()]
            return [number if np.isfinite(number) else None for number in listed]
        raise TypeError(f"{type(array).__name__} is nothing that JSON has")

    return Markup(json.dumps(value, default=plain, allow_nan=False).replace("<", "\\u003c"))
