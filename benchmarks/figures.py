"""Results as pictures."""

import statistics
from pathlib import Path
from typing import Any

from jaxnet.figures import BLUE, GREY, ORANGE, canvas

AXES = {
    "batch_size": "rows of a batch",
    "width": "hidden units (2,048 rows)",
    "depth": "hidden layers",
    "epochs": "epochs",
    "rows": "rows",
}


def draw_results(results: dict[str, Any], folder: Path) -> list[Path]:
    """The pictures of the parts that were measured."""
    paths = []
    if results.get("peers"):
        paths.append(draw_peers(results["peers"], folder / "peers.png"))
    if results.get("growth"):
        paths.append(draw_growth(results["growth"], folder / "growth.png"))
    return paths


def draw_peers(rows: list[dict[str, Any]], path: Path) -> Path:
    """Microseconds a step, a line a contestant, those that agree alone; the axis is logarithmic."""
    timed = [row for row in rows if row["agree"] and "seconds" in row]
    timed.sort(key=lambda row: statistics.median(row["seconds"]), reverse=True)
    with canvas(path, 9.0, 0.36 * len(timed) + 1.2) as figure:
        axes = figure.add_subplot()
        for place, row in enumerate(timed):
            micro = [1e6 * seconds / row["steps"] for seconds in row["seconds"]]
            middle = statistics.median(micro)
            colour = _choose_colour(row)
            axes.plot([min(micro), max(micro)], [place, place], color=colour, linewidth=2)
            axes.plot(middle, place, "o", color=colour, markersize=9)
            text = f"{middle:.0f}"
            axes.annotate(
                text, (max(micro), place), (8, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(timed)), [row["name"] for row in timed])
        axes.set_xscale("log")
        axes.set_xlabel("microseconds a step of 16 rows: median, min to max")
        axes.margins(x=0.08)
        for colour, label in (
            (ORANGE, "jaxnet"),
            (BLUE, "fast form"),
            (GREY, "the lecture's form"),
        ):
            axes.plot([], [], "o", color=colour, label=label)
        axes.legend(loc="upper right")
    return path


def _choose_colour(row: dict[str, Any]) -> str:
    if row["name"].startswith("jaxnet"):
        return ORANGE
    return BLUE if row["form"] == "fast" else GREY


def draw_growth(rows: list[dict[str, Any]], path: Path) -> Path:
    """Seconds against each size, torch's and jaxnet's, both axes logarithmic."""
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    with canvas(path, 2.6 * len(sweeps), 3.6) as figure:
        panels = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
        for axes, sweep in zip(panels, sweeps, strict=True):
            chosen = [row for row in rows if row["sweep"] == sweep and row["agree"]]
            sizes = [row["size"] for row in chosen]
            for side, colour in (("torch", BLUE), ("jaxnet", ORANGE)):
                medians = [statistics.median(row[f"seconds_{side}"]) for row in chosen]
                axes.loglog(sizes, medians, "o-", color=colour, label=side)
            axes.set_xlabel(AXES[sweep])
            axes.minorticks_off()
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        panels[0].set_ylabel("seconds of training")
        panels[0].legend()
    return path
