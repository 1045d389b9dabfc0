"""A sweep as pictures: how accuracies spread over seeds, and how losses fell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from jaxnet.lecture.figures import BLUE, GRAY, ORANGE, canvas
from jaxnet.sweep.result import Sweep, group_rows, quantiles, short

BINS = 30
POINTS = 600  # of a curve: a picture has no room for more


def draw_histogram(
    sweep: Sweep, path: Path, *, column: str = "test_accuracy", figure: float | None = None
) -> Path:
    """How many seeds end with which accuracy, a row for each point of the grid."""
    groups = group_rows(sweep.table)
    values = {point: [row[column] for row in rows] for point, rows in groups.items()}
    numbers = np.array([row[column] for row in sweep.table], float)
    edges = list_edges(numbers[~np.isnan(numbers)])
    with canvas(path, 7.0, 1.2 + 2.2 * len(groups)) as drawing:
        axes = drawing.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
        for axis, (point, found) in zip(axes, values.items(), strict=True):
            shown = [value for value in found if not np.isnan(value)]
            axis.hist(shown, bins=edges, color=BLUE, edgecolor="white", linewidth=0.8)
            low, middle, high = quantiles(shown, [0.05, 0.5, 0.95])
            axis.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0, label="5% to 95%")
            axis.axvline(middle, color=GRAY, linewidth=1.2, label=f"median {short(middle)}")
            if figure is not None:
                label = f"asked about: {short(figure)}"
                axis.axvline(figure, color=ORANGE, linestyle="--", linewidth=1.8, label=label)
            lost = len(found) - len(shown)
            title = f"{point}: {len(found)} seeds" if point else f"{len(found)} seeds"
            axis.set_title(title + (f", {lost} ended in nan" if lost else ""), loc="left")
            axis.set_ylabel("seeds")
            axis.yaxis.get_major_locator().set_params(integer=True)
            axis.legend(loc="best", frameon=False, fontsize=9)
        axes[-1].set_xlabel(column.replace("_", " "))
        axes[-1].ticklabel_format(axis="x", useOffset=False)
    return path


def list_edges(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Edges of a histogram's bins, each as wide as a whole number of rows.

    An accuracy is a count over rows: bins of another width would hold now one count, now two.

    >>> print(list_edges([0.25, 0.5, 1.0]))
    [0.125 0.375 0.625 0.875 1.125]
    """
    found = np.unique(np.round(values, 9)) if len(values) else np.zeros(1)
    if len(found) == 1:
        return found[0] + np.array([-0.0005, 0.0005])
    row = np.diff(found).min()
    rows = round((found[-1] - found[0]) / row)
    if rows > 10_000:  # no counts
        return np.linspace(found[0], found[-1], BINS + 1)
    width = -(-(rows + 1) // BINS)
    return found[0] - row / 2 + row * width * np.arange(-(-(rows + 1) // width) + 1)


def draw_curves(sweep: Sweep, path: Path) -> Path:
    """The loss of each step: the median over seeds, with the band from 5% to 95% of them."""
    groups = group_rows(sweep.table)
    scale, places = matplotlib.colormaps["viridis"], np.linspace(0, 0.9, len(groups))
    colors = [BLUE, ORANGE][: len(groups)] if len(groups) <= 2 else [scale(p) for p in places]
    with canvas(path, 7.0, 4.2) as drawing:
        axis = drawing.subplots()
        for (point, rows), color in zip(groups.items(), colors, strict=True):
            losses = sweep.losses[[row["lane"] for row in rows]]
            steps, low, middle, high = _summarize(losses)
            lead = f"{point}: " if point else ""
            axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
            axis.plot(steps, middle, color=color, linewidth=1.4, label=f"{lead}median")
        count = len(sweep.table) // len(groups)
        axis.set(title=f"loss, band: 5% to 95% of {count} seeds", xlabel="step", ylabel="loss")
        if len(groups) > 1:
            axis.legend(frameon=False, fontsize=9)
        axis.set_ylim(bottom=0)
    return path


def _summarize(losses: np.ndarray) -> tuple[Any, ...]:
    """Steps and three quantiles; of long runs, of each interval of steps the mean of each lane."""
    lanes, steps = losses.shape
    size = -(-steps // POINTS)
    cuts = np.arange(0, steps, size)
    counts = np.diff([*cuts, steps])
    means = np.add.reduceat(losses.astype(np.float64), cuts, axis=1) / counts
    finite = means[np.isfinite(means).all(axis=1)]
    if not len(finite):
        finite = np.full((1, len(cuts)), np.nan)
    return cuts + (counts + 1) / 2, *np.quantile(finite, [0.05, 0.5, 0.95], axis=0)


def draw_sweep(
    sweep: Sweep, folder: Path, *, column: str = "test_accuracy", figure: float | None = None
) -> list[Path]:
    """Both pictures in a folder, `sweep-histogram.png` and `sweep-losses.png`."""
    return [
        draw_histogram(sweep, folder / "sweep-histogram.png", column=column, figure=figure),
        draw_curves(sweep, folder / "sweep-losses.png"),
    ]
