"""Results as pictures."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.scaling import LECTURE, WIDE
from jaxnet.lecture.figures.style import BLUE, GRAY, GREEN, ORANGE, canvas

Rows = list[dict[str, Any]]


def draw_results(results: dict[str, Any], folder: Path) -> list[Path]:
    """The pictures of the parts that were measured."""
    paths = []
    for part, draw in (("peers", draw_peers), ("growth", draw_growth), ("scaling", draw_scaling)):
        if results.get(part):
            paths.append(folder / f"{part}.png")
            draw([row for row in results[part] if row["agree"]], paths[-1])
    return paths


def draw_peers(rows: Rows, path: Path) -> None:
    """Microseconds a step, a line a contestant; the axis is logarithmic."""
    rows = sorted(rows, key=lambda row: statistics.median(row["seconds"]), reverse=True)
    kinds = {"jaxnet": ORANGE, "fast form": BLUE, "the lecture's form": GRAY}
    with canvas(path, 9.0, 0.36 * len(rows) + 1.2) as figure:
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            micro = [1e6 * seconds for seconds in row["step_seconds"]]
            kind = "fast form" if row["form"] == "fast" else "the lecture's form"
            color = kinds["jaxnet" if row["name"].startswith("jaxnet") else kind]
            axes.plot([min(micro), max(micro)], [place, place], color=color, linewidth=2)
            middle = statistics.median(micro)
            axes.plot(middle, place, "o", color=color, markersize=9)
            where, offset = (max(micro), place), (8, 0)
            axes.annotate(f"{middle:.0f}", where, offset, textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_xscale("log")
        axes.set_xlabel("microseconds a step of 16 rows: median, min to max")
        axes.margins(x=0.08)
        for label, color in kinds.items():
            axes.plot([], [], "o", color=color, label=label)
        axes.legend(loc="upper right")


def draw_growth(rows: Rows, path: Path) -> None:
    """Seconds against each size, torch's and jaxnet's, both axes logarithmic."""
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    with canvas(path, 2.6 * len(sweeps), 3.6) as figure:
        panels = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
        for axes, sweep in zip(panels, sweeps, strict=True):
            chosen = [row for row in rows if row["sweep"] == sweep]
            sizes = [row["size"] for row in chosen]
            for side, color in (("torch", BLUE), ("jaxnet", ORANGE)):
                medians = [statistics.median(row[f"seconds_{side}"]) for row in chosen]
                axes.loglog(sizes, medians, "o-", color=color, label=side)
            axes.set_xlabel(sweep.replace("_", " "))
            axes.minorticks_off()
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        panels[0].set_ylabel("seconds of training")
        panels[0].legend()


def draw_scaling(rows: Rows, path: Path) -> None:
    """Microseconds a step on each number of devices, median and min-max, a line a case."""
    cases = ((LECTURE, 16, BLUE), (LECTURE, 4096, GREEN), (WIDE, 16, GRAY), (WIDE, 1024, ORANGE))
    with canvas(path, 9.0, 4.2) as figure:
        axes = figure.add_subplot()
        for net, batch, color in cases:
            case = (net.name, batch, "replicated")
            chosen = [r for r in rows if (r["net"], r["batch"], r["weights"]) == case]
            counts = [row["devices"] for row in chosen]
            medians = [1e6 * statistics.median(row["seconds"]) for row in chosen]
            axes.loglog(counts, medians, "o-", color=color, label=f"{net.name}, {batch:,} rows")
            for row in chosen:
                ends = [1e6 * min(row["seconds"]), 1e6 * max(row["seconds"])]
                axes.plot([row["devices"]] * 2, ends, color=color, linewidth=2)
        counts = sorted({row["devices"] for row in rows})
        axes.minorticks_off()
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(
            title="A step on devices that share one CPU's cores",
            xlabel="CPU devices",
            ylabel="microseconds: median, min to max",
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
