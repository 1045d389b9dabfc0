"""Results as pictures."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.scaling import (
    H100,
    LECTURE,
    PLAIN,
    WIDE,
    fit_model,
    middle,
    predict_step,
    reduce_seconds,
    select,
    step_far,
)
from jaxnet.lecture.figures import BLUE, GREEN, GREY, ORANGE, canvas

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


def draw_scaling(rows: list[dict[str, Any]], path: Path) -> Path:
    """All-reduces and steps as measured (dots) and as the model says (lines), and its forecast."""
    with canvas(path, 12.0, 4.2) as figure:
        panels = figure.subplots(1, 3)
        _draw_reductions(panels[0], rows)
        _draw_steps(panels[1], rows)
        _draw_forecast(panels[2])
    return path


def _draw_reductions(axes: Any, rows: list[dict[str, Any]]) -> None:
    model = fit_model(rows)
    found = [row for row in select(rows, "all_reduce") if row["tensors"] == 1]
    places = dict.fromkeys((row["devices"], row["place"]) for row in found)
    for (count, place), colour in zip(places, (BLUE, ORANGE, GREEN, GREY), strict=False):
        points = [row for row in found if (row["devices"], row["place"]) == (count, place)]
        sizes = sorted(row["bytes"] for row in points)
        micro = {row["bytes"]: 1e6 * middle(row) for row in points}
        said = [1e6 * reduce_seconds(model.links[place], 1, size, count) for size in sizes]
        axes.loglog(sizes, [micro[size] for size in sizes], "o", color=colour)
        axes.loglog(sizes, said, "-", color=colour, label=f"{count} {place}")
    axes.set(title="An all-reduce alone", xlabel="bytes", ylabel="microseconds")
    axes.legend()


def _draw_steps(axes: Any, rows: list[dict[str, Any]]) -> None:
    model = fit_model(rows)
    found = [row for row in select(rows, "step") if row["place"] == "devices"]
    cases = ((LECTURE, 16, BLUE), (LECTURE, 4096, GREEN), (WIDE, 16, GREY), (WIDE, 1024, ORANGE))
    for net, batch, colour in cases:
        micro = {
            row["devices"]: 1e6 * middle(row)
            for row in found
            if (row["net"], row["batch"], row["spread"]) == (net.name, batch, False)
        }
        several = [count for count in micro if count > 1]
        said = [1e6 * predict_step(model, net, batch, count, "devices") for count in several]
        axes.loglog(list(micro), list(micro.values()), "o", color=colour)
        axes.loglog(several, said, "-", color=colour, label=f"{net.name}, {batch:,} rows")
    counts = sorted({row["devices"] for row in found})
    axes.minorticks_off()
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set(title="A step on this CPU's cores", xlabel="CPU devices", ylabel="microseconds")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 100 * high)  # room for the legend
    axes.legend(loc="upper left", fontsize=8.5)


def _draw_forecast(axes: Any) -> None:
    counts = [2**exponent for exponent in range(13)]
    cases = (
        (LECTURE, 16, BLUE),
        (LECTURE, 65_536, GREEN),
        (PLAIN, 65_536, GREY),
        (WIDE, 65_536, ORANGE),
    )
    axes.loglog(counts, counts, ":", color="black", label="as many times as devices")
    for net, batch, colour in cases:
        alone = step_far(H100, net, batch, 1)
        gains = [alone / step_far(H100, net, batch, count) for count in counts]
        axes.loglog(counts, gains, "-", color=colour, label=f"{net.name}, {batch:,} rows")
    axes.minorticks_off()
    axes.set_xticks([1, 8, 64, 512, 4096], ["1", "8", "64", "512", "4,096"])
    axes.set(title="Forecast, H100s", xlabel="accelerators", ylabel="times as fast as one")
    axes.set_ylim(0.4, 20_000)  # room for the legend
    axes.legend(loc="upper left", fontsize=8.5)
