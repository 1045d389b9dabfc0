"""Results as pictures."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.scaling import LECTURE, WIDE, middle, select
from jaxnet.lecture.figures import BLUE, GRAY, GREEN, ORANGE, canvas

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
    if results.get("scaling"):
        paths.append(draw_scaling(results["scaling"], folder / "scaling.png"))
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
            color = _choose_color(row)
            axes.plot([min(micro), max(micro)], [place, place], color=color, linewidth=2)
            axes.plot(middle, place, "o", color=color, markersize=9)
            text = f"{middle:.0f}"
            axes.annotate(
                text, (max(micro), place), (8, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(timed)), [row["name"] for row in timed])
        axes.set_xscale("log")
        axes.set_xlabel("microseconds a step of 16 rows: median, min to max")
        axes.margins(x=0.08)
        for color, label in (
            (ORANGE, "jaxnet"),
            (BLUE, "fast form"),
            (GRAY, "the lecture's form"),
        ):
            axes.plot([], [], "o", color=color, label=label)
        axes.legend(loc="upper right")
    return path


def _choose_color(row: dict[str, Any]) -> str:
    if row["name"].startswith("jaxnet"):
        return ORANGE
    return BLUE if row["form"] == "fast" else GRAY


def draw_growth(rows: list[dict[str, Any]], path: Path) -> Path:
    """Seconds against each size, torch's and jaxnet's, both axes logarithmic."""
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    with canvas(path, 2.6 * len(sweeps), 3.6) as figure:
        panels = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
        for axes, sweep in zip(panels, sweeps, strict=True):
            chosen = [row for row in rows if row["sweep"] == sweep and row["agree"]]
            sizes = [row["size"] for row in chosen]
            for side, color in (("torch", BLUE), ("jaxnet", ORANGE)):
                medians = [statistics.median(row[f"seconds_{side}"]) for row in chosen]
                axes.loglog(sizes, medians, "o-", color=color, label=side)
            axes.set_xlabel(AXES[sweep])
            axes.minorticks_off()
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        panels[0].set_ylabel("seconds of training")
        panels[0].legend()
    return path


def draw_scaling(rows: list[dict[str, Any]], path: Path) -> Path:
    """Microseconds a step on each number of devices, median and min-max, a line a case."""
    cases = ((LECTURE, 16, BLUE), (LECTURE, 4096, GREEN), (WIDE, 16, GRAY), (WIDE, 1024, ORANGE))
    with canvas(path, 9.0, 4.2) as figure:
        axes = figure.add_subplot()
        for net, batch, color in cases:
            chosen = [
                row
                for row in select(rows, "step")
                if (row["net"], row["batch"], row["sharded"]) == (net.name, batch, False)
            ]
            counts = [row["devices"] for row in chosen]
            medians = [1e6 * middle(row) for row in chosen]
            axes.loglog(counts, medians, "o-", color=color, label=f"{net.name}, {batch:,} rows")
            for row in chosen:
                ends = [1e6 * min(row["seconds"]), 1e6 * max(row["seconds"])]
                axes.plot([row["devices"]] * 2, ends, color=color, linewidth=2)
        counts = sorted({row["devices"] for row in select(rows, "step")})
        axes.minorticks_off()
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(
            title="A step on devices that share one CPU's cores",
            xlabel="CPU devices",
            ylabel="microseconds: median, min to max",
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return path
