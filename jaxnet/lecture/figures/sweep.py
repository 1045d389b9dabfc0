"""A sweep as pictures: how accuracies spread over seeds, and how losses fell."""

from pathlib import Path

import numpy as np

from jaxnet.lecture.figures.style import BLUE, GRAY, ORANGE, canvas
from jaxnet.sweep.result import Sweep, group_rows, quantiles, short

BINS = 30
BAND = (0.05, 0.5, 0.95)


def draw_sweep(sweep: Sweep, folder: Path, column: str, figure: float) -> list[Path]:
    """Both pictures in a folder; `figure` is the one that is asked about, of that column."""
    paths = [folder / "sweep-histogram.png", folder / "sweep-losses.png"]
    draw_histogram(sweep, paths[0], column, figure)
    draw_curves(sweep, paths[1])
    return paths


def draw_histogram(sweep: Sweep, path: Path, column: str, figure: float) -> None:
    """How many seeds end with which accuracy, a row for each point of the grid."""
    groups = group_rows(sweep.table)
    numbers = np.array([row[column] for row in sweep.table], float)
    edges = list_edges(numbers[~np.isnan(numbers)])
    with canvas(path, 7.0, 1.2 + 2.2 * len(groups)) as drawing:
        axes = drawing.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
        for axis, (point, rows) in zip(axes, groups.items(), strict=True):
            shown = [row[column] for row in rows if not np.isnan(row[column])]
            axis.hist(shown, bins=edges, color=BLUE, edgecolor="white", linewidth=0.8)
            low, middle, high = quantiles(shown, BAND)
            axis.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0, label="5% to 95%")
            axis.axvline(middle, color=GRAY, linewidth=1.2, label=f"median {short(middle)}")
            label = f"asked about: {short(figure)}"
            axis.axvline(figure, color=ORANGE, linestyle="--", linewidth=1.8, label=label)
            lost = len(rows) - len(shown)
            title = f"{point}{': ' if point else ''}{len(rows)} seeds"
            axis.set_title(title + (f", {lost} ended in nan" if lost else ""))
            axis.set_ylabel("seeds")
            axis.yaxis.get_major_locator().set_params(integer=True)
            axis.legend(loc="best", fontsize=9)
        axes[-1].set_xlabel(column.replace("_", " "))
        axes[-1].ticklabel_format(axis="x", useOffset=False)


def list_edges(values: np.ndarray) -> np.ndarray:
    """Edges of a histogram's bins, each as wide as a whole number of rows.

    An accuracy is a count over rows: bins of another width would hold now one count, now two.

    >>> print(list_edges(np.array([0.25, 0.5, 1.0])))
    [0.125 0.375 0.625 0.875 1.125]
    """
    found = np.unique(np.round(values, 9)) if len(values) else np.zeros(1)
    row = np.diff(found).min() if len(found) > 1 else 1e-3
    rows = round((found[-1] - found[0]) / row) + 1
    width = -(-rows // BINS)
    return found[0] - row / 2 + row * width * np.arange(-(-rows // width) + 1)


def draw_curves(sweep: Sweep, path: Path) -> None:
    """The loss of each step: the median over seeds, with the band from 5% to 95% of them."""
    groups = group_rows(sweep.table)
    steps = np.arange(1, sweep.losses.shape[1] + 1)
    with canvas(path, 7.0, 4.2) as drawing:
        axis = drawing.subplots()
        for point, rows in groups.items():
            losses = sweep.losses[[row["lane"] for row in rows]]
            if len(finite := losses[np.isfinite(losses).all(axis=1)]):
                low, middle, high = np.quantile(finite, BAND, axis=0)
                axis.fill_between(steps, low, high, alpha=0.2, linewidth=0)
                axis.plot(steps, middle, linewidth=1.4, label=f"{point} median")
        count = len(sweep.table) // len(groups)
        axis.set(title=f"loss, band: 5% to 95% of {count} seeds", xlabel="step", ylabel="loss")
        axis.set_ylim(bottom=0)
        if len(groups) > 1:
            axis.legend(fontsize=9)
