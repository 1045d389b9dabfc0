"""Puts the page together: texts, code, figures of the runs, pictures, and what draws the curves."""

import base64
import os
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import jaxnet
from jaxnet._utils.files import as_path, write_whole
from jaxnet.lecture._machine import describe
from jaxnet.lecture.experiments import EXPERIMENTS, Result, Split, missed
from jaxnet.lecture.figures.gallery import check_results, list_pictures
from jaxnet.lecture.figures.training import relative_gaps
from jaxnet.lecture.torch_results import TorchRun
from jaxnet.sweep.result import short


def write_report(
    results: Iterable[Result],
    data: Mapping[tuple[int, ...], Split],
    path: str | os.PathLike,
    *,
    torch: Mapping[str, TorchRun] | None = None,
) -> Path:
    """Write the lecture's sections, with these runs, as one page; the file appears whole or not.

    The page holds all that it shows, asks for nothing over a network, and says so to the browser.

    Args:
      results: finished experiments of the lecture, of `jaxnet.lecture.run`; a ValueError where
        there is none, or one beyond the lecture.
      data: training and test rows, by the experiments' `classes`.
      path: of the page, ending in .html.
      torch: torch's runs by experiment, from `jaxnet.lecture.torch_results.load_torch`, of the
        same steps.
    """
    path, torch = as_path(path), torch or {}
    check_page(path)
    by_id = {result.record["experiment"]: result for result in check_results(results)}
    if beyond := [name for name in by_id if name not in EXPERIMENTS]:
        raise ValueError(f"results must be of the lecture's experiments, not {beyond[0]!r}")
    rows = {name: _summarize(result, torch.get(name)) for name, result in by_id.items()}
    machines = {"jaxnet": describe() | {"jaxnet": jaxnet.__version__}}
    if beside := [torch[name] for name in by_id if name in torch]:
        machines["torch"] = beside[0]["machine"]
    told = tomllib.loads(_read("sections.toml"))
    # A section without experiments is of the whole lecture.
    only = by_id if by_id.keys() == EXPERIMENTS.keys() else ()
    loader = PackageLoader("jaxnet.lecture", "report")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Arrays as lists, and null for what is no number.
    environment.policies["json.dumps_kwargs"] = {"cls": PlotlyJSONEncoder}
    environment.filters |= {"python": _highlight, "figure": lambda x: "" if x is None else short(x)}
    page = environment.get_template("page.html.j2").render(
        title="Same seed, same numbers: the lecture in torch and in JAX",
        date=time.strftime("%Y-%m-%d"),
        sections=[s for s in told["sections"] if by_id.keys() & {*s.get("experiments", only)}],
        rows=rows,
        read_code=read_code,
        captions=told["pictures"],
        pictures=_draw(list(by_id.values()), data, told["pictures"]),
        machines=machines,
        charts={name: _chart(result, torch.get(name)) for name, result in by_id.items()},
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        script=Markup(_read("page.js")),
        style=Markup(_read("page.css") + _style_code()),
    )
    write_whole(path, page, parents=True)
    return path


def check_page(path: str | os.PathLike) -> None:
    """Reject a file name that does not end in .html.

    >>> check_page("report.html")
    """
    if as_path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the path of a report must end in .html, not {path}")


def _summarize(result: Result, torch: TorchRun | None) -> dict[str, Any]:
    """A row of the table: the records, torch's run, how far apart they are, and if that is far."""
    row = {"record": result.record, "missed": missed(result.record), "torch": torch}
    if torch is not None:
        row["gap"] = float(relative_gaps(result.history.losses, torch["losses"]).max())
        row["is_far"] = not row["gap"] <= (torch["loss_bound"] or np.inf)  # nan is far
    return row


def read_code(name: str) -> tuple[str, str]:
    """A section's code in torch and in jaxnet: programs, kept as text, which the tests run."""
    return _read(f"code/{name}.torch.txt"), _read(f"code/{name}.jaxnet.txt")


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
    results: list[Result], data: Mapping[tuple[int, ...], Split], names: Iterable[str]
) -> dict[str, str]:
    """The pictures of these names that the experiments have, each as a data URL."""
    pictures = list_pictures(results, data, {})
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in pictures.keys() & set(names):
            pictures[name](path=(path := Path(folder, f"{name}.png")))
            drawn = base64.b64encode(path.read_bytes()).decode()
            found[name] = f"data:image/png;base64,{drawn}"
    return found


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
        chart["bound"] = torch["loss_bound"]
        chart["loss"]["torch"] = torch["losses"]
        chart["gap"] = relative_gaps(result.history.losses, torch["losses"])
        chart["accuracy"]["torch"] = [report["accuracy"] for report in torch["reports"]]
    return chart
