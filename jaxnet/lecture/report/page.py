"""Puts the page together: texts, code, figures of the runs, pictures, and what draws the curves."""

import base64
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
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
from jaxnet._utils.files import as_path, write_whole
from jaxnet.lecture._machine import describe
from jaxnet.lecture.experiments import EXPERIMENTS, Result, Split, check_results, find, missed
from jaxnet.lecture.figures.gallery import list_pictures
from jaxnet.lecture.figures.training import relative_gaps
from jaxnet.lecture.report.sections import PICTURES, SECTIONS, Section, read_code
from jaxnet.lecture.torch_results import TorchRun
from jaxnet.sweep.result import short


def write_report(
    results: Iterable[Result],
    data: Mapping[tuple[int, ...], Split],
    path: str | os.PathLike,
    *,
    torch: Mapping[str, TorchRun] | None = None,
    benchmarks: Mapping[str, Any] | None = None,
    progress: Callable[[int, int, str], Any] = lambda done, total, what: None,
) -> Path:
    """Write the lecture's sections, with these runs, as one page; the file appears whole or not.

    The page holds all that it shows, asks for nothing over a network, and says so to the browser.

    Args:
      results: finished experiments of the lecture, of `jaxnet.lecture.run`.
      data: training and test rows, by the experiments' `classes`.
      path: of the page, ending in .html.
      torch: torch's runs by experiment, from `jaxnet.lecture.torch_results.load_torch`.
      benchmarks: what `python -m benchmarks --json` wrote, for seconds with their spread and the
        speed of every peer.
      progress: called with how many pictures are drawn, how many there are, and the next one.

    Returns:
      The path.

    Raises:
      ValueError: there is no result, one is of no section, torch's run has other steps,
        or the path ends in something else.
      TypeError: something else than a result is among them.
    """
    path, torch, results = as_path(path), torch or {}, check_results(results)
    check_page(path)
    by_id = {result.record["experiment"]: result for result in results}
    if beyond := [name for name in by_id if name not in EXPERIMENTS]:
        raise ValueError(f"results must be of the lecture's experiments, not {beyond[0]!r}")
    for name, result in by_id.items():
        steps = len(result.history.losses)
        if name in torch and (there := len(torch[name].losses)) != steps:
            same = f"torch must have run {name} for the same steps"
            raise ValueError(f"{same}: {there} there, {steps} here")
    speed = _read_benchmarks(benchmarks)
    pictures = _draw(results, data, progress)
    rows = [_summarize(result, torch.get(name)) for name, result in by_id.items()]
    beside = [torch[name] for name in by_id if name in torch]
    machines = {"jaxnet": describe() | {"jaxnet": jaxnet.__version__}}
    if beside:
        machines["torch"] = beside[0].machine
    whole = by_id.keys() == EXPERIMENTS.keys()
    shown = [s for s in SECTIONS if by_id.keys() & {*s.experiments} or whole and not s.experiments]
    sections = [_tell(section, by_id, torch, pictures) for section in shown]
    loader = PackageLoader("jaxnet.lecture", "report")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"python": _highlight, "figure": lambda x: "" if x is None else short(x)}
    page = environment.get_template("page.html.j2").render(
        title="Same seed, same numbers: the lecture in torch and in JAX",
        date=time.strftime("%Y-%m-%d"),
        verdict=_sum_up(rows),
        sections=sections,
        rows=rows,
        names=list(by_id),
        machines=machines,
        has_torch=bool(beside),
        speed=speed,
        charts=_as_json({name: _chart(r, torch.get(name)) for name, r in by_id.items()}),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        script=Markup(_read("page.js")),
        style=Markup(_read("page.css") + _style_code()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def _sum_up(rows: list[dict[str, Any]]) -> str:
    """What these runs show: where torch's runs are beside them, and where they are not."""
    beside = [row for row in rows if "gap" in row]
    if not beside:
        return "torch's own runs are not shown here."
    apart = [row["experiment"] for row in beside if row["agrees"] is False or row["is_far"]]
    if apart:
        return f"Here the two do not agree in {', '.join(apart)}: see there."
    gap = max(row["gap"] for row in beside)
    stated = all(row["bound"] is not None for row in beside)
    said = "within the stated bound" if stated else "where no bound is stated"
    return f"In these runs the losses of the two are at most {gap:.1e} apart, relative, {said}."


def check_page(path: str | os.PathLike) -> None:
    """Reject a file name that does not end in .html.

    >>> check_page("report.html")
    """
    if as_path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the path of a report must end in .html, not {path}")


def _read(name: str) -> str:
    return (resources.files("jaxnet.lecture.report") / name).read_text(encoding="utf-8")


def _highlight(code: str) -> Markup:
    return Markup(highlight(code, PythonLexer(), HtmlFormatter(cssclass="code")))


def _style_code() -> str:
    """Colors of the code, light and dark."""
    light, dark = (HtmlFormatter(style=name, cssclass="code") for name in ("xcode", "github-dark"))
    light = light.get_style_defs(".code")
    dark = dark.get_style_defs("[data-theme=dark] .code")
    return f"\n{light}\n@media screen {{\n{dark}\n}}\n"


def _draw(
    results: list[Result], data: Mapping[tuple[int, ...], Split], progress: Callable
) -> dict[str, str]:
    """The pictures that are no curves, each as a data URL."""
    pictures = {n: draw for n, draw in list_pictures(results, data, {}).items() if n in PICTURES}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, draw in pictures.items():
            progress(len(found), len(pictures), name)
            drawn = base64.b64encode(draw(Path(folder) / f"{name}.png").read_bytes()).decode()
            found[name] = f"data:image/png;base64,{drawn}"
    return found


def _tell(
    section: Section,
    by_id: Mapping[str, Result],
    torch: Mapping[str, TorchRun],
    pictures: Mapping[str, str],
) -> dict[str, Any]:
    """What the template shows of a section."""
    names = [name for name in section.experiments if name in by_id]
    codes = [name for name in section.code if name in names or not section.experiments]
    drawn = [name for name in section.pictures if name in pictures]
    return {
        "section": section,
        "experiments": [
            {"name": name, "certificate": torch[name].certificate if name in torch else None}
            | _summarize(by_id[name], torch.get(name))
            for name in names
        ],
        "codes": [(name, *read_code(name)) for name in codes],
        "pictures": [(name, PICTURES[name], pictures[name]) for name in drawn],
    }


def _summarize(result: Result, torch: TorchRun | None) -> dict[str, Any]:
    """A row of the table: figures, gaps, seconds."""
    record = result.record
    row = {
        "experiment": record["experiment"],
        "number": record["section"],
        "published": find(record["experiment"]).published,
        "ours": (record["train_accuracy"], record["test_accuracy"]),
        "missed": missed(record),
        "steps": record["steps"],
        "compile": record["compile_seconds"],
        "seconds": record["run_seconds"],
    }
    if torch is not None:
        theirs, bound = torch.record, _find_bound(result, torch)
        gap = relative_gaps(result.history.losses, torch.losses).max()
        row |= {
            "torch": (theirs["train_accuracy"], theirs["test_accuracy"]),
            "torch_seconds": theirs["run_seconds"],
            "agrees": None if torch.certificate is None else torch.certificate["agrees"],
            "gap": float(gap),
            "bound": bound,
            "is_far": not gap <= (np.inf if bound is None else bound),  # nan is far
        }
    return row


def _find_bound(result: Result, torch: TorchRun) -> float | None:
    """The bound that is stated of these two runs: both in parity."""
    both = (result.record["precision"], torch.record.get("precision"))
    return torch.loss_bound if both == ("parity", "parity") else None


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
    if torch is not None:
        chart["bound"] = _find_bound(result, torch)
        chart["loss"]["torch"] = torch.losses
        chart["gap"] = relative_gaps(result.history.losses, torch.losses)
        chart["accuracy"]["torch"] = [report["accuracy"] for report in torch.record["reports"]]
    return chart


def _read_benchmarks(benchmarks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Seconds of the experiments and microseconds a step of the peers, each with its spread."""
    if benchmarks is None:
        return None
    timed = [row for row in benchmarks.get("peers", []) if row.get("agree") and row.get("seconds")]
    if not timed or "machine" not in benchmarks:
        raise ValueError("benchmarks must hold peers that agree: python -m benchmarks --only peers")
    peers = [
        {key: row[key] for key in ("name", "form", "stream", "threads")}
        | _spread([1e6 * seconds / row["steps"] for seconds in row["seconds"]])
        for row in timed
    ]
    low, high = (pick(row[key] for row in peers) for pick, key in ((min, "low"), (max, "high")))
    for row in peers:
        for key in ("low", "middle", "high"):
            row[f"at_{key}"] = 100 * np.log(row[key] / low) / max(np.log(high / low), 1e-9)
    experiments = [
        {"name": row["experiment"], "ratio": row["ratio"]}
        | {side: _spread(row[f"seconds_{side}"]) for side in ("torch", "jaxnet")}
        for row in benchmarks.get("experiments", [])
        if row["agree"]
    ]
    return {
        "peers": sorted(peers, key=lambda row: row["middle"]),
        "experiments": experiments,
        "machine": benchmarks["machine"],
    }


def _spread(values: list[float]) -> dict[str, float]:
    middle = statistics.median(values)
    return {"low": min(values), "middle": middle, "high": max(values), "n": len(values)}


def _as_json(value: Any) -> Markup:
    """JSON that a page may hold: arrays as lists, nothing that ends a script."""

    def plain(array: Any) -> Any:
        if isinstance(array, np.ndarray):
            listed = [float(f"{number:.8g}") for number in array.tolist()]
            return [number if np.isfinite(number) else None for number in listed]
        raise TypeError(f"{type(array).__name__} is nothing that JSON has")

    return Markup(json.dumps(value, default=plain, allow_nan=False).replace("<", "\\u003c"))
