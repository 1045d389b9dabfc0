"""Pictures made of digits: samples, what a net says of them, what its units look for."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.data import Dataset
from jaxnet.lecture.experiments import Result, find
from jaxnet.lecture.figures.style import BLUE, ORANGE, canvas
from jaxnet.nn import init
from jaxnet.random import manual_seed
from jaxnet.train import predict

COLUMNS = 8


def draw_digits(data: Dataset, path: Path) -> None:
    """The first digits of each class, a class a row, as `plt.imshow` shows them in the lecture."""
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a Dataset of digits, not {type(data).__name__}")
    if len(data.labels) == 0:
        raise ValueError("data must have at least one row, not 0")
    classes = np.unique(data.labels)
    with canvas(path, 1.0 * COLUMNS, 1.15 * len(classes)) as figure:
        for axes, label in zip(_bare(figure, len(classes)), classes, strict=True):
            for axis, image in zip(axes, data.images[data.labels == label], strict=False):
                _show_digit(axis, image)


def draw_predictions(result: Result, test: Dataset, path: Path) -> None:
    """Test digits with what the net says of them: a row that it has right, taken evenly, then its
    mistakes, the surest first; "1, not 0" means that the net says 1 of a 0.
    """
    chosen, sure = choose(result, test)
    wrong = np.flatnonzero(chosen != test.labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    right = np.flatnonzero(chosen == test.labels)
    picked = right[:: -(-len(right) // COLUMNS) or 1]
    shown = wrong[: 2 * COLUMNS]
    rows = [picked, *(shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS))]
    with canvas(path, 1.15 * COLUMNS, 0.6 + 1.5 * len(rows)) as figure:
        for axes, places in zip(_bare(figure, len(rows)), rows, strict=True):
            for axis, place in zip(axes, places, strict=False):
                _show_digit(axis, test.images[place])
                said, label = chosen[place], test.labels[place]
                text, color = (
                    (f"{said}", BLUE) if said == label else (f"{said}, not {label}", ORANGE)
                )
                axis.set_title(text, color=color, fontsize=12, loc="center")
        count = f"{len(wrong):,} of {len(chosen):,} test digits wrong"
        title = f"{result.record['experiment']}: {count}{', the surest below' * bool(len(wrong))}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)


def choose(result: Result, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The digit that a net chooses for each row, and how far its output is from a tie."""
    experiment = find(result.record["experiment"])
    outputs = np.asarray(predict(experiment.net, result.state, data.images))
    if outputs.shape[1] > 1:
        best = np.sort(outputs, axis=1)
        places, sure = outputs.argmax(axis=1), best[:, -1] - best[:, -2]
    else:
        tie = 0.5 if experiment.metric.__name__.startswith("probability") else 0.0
        places, sure = (outputs[:, 0] > tie).astype(int), np.abs(outputs[:, 0] - tie)
    return np.array(experiment.classes)[places], sure


def draw_weights(result: Result, path: Path) -> None:
    """Each hidden unit's 784 weights as an image, and what training has added to them.

    The latter shows what a unit looks for (orange) and looks away from (violet).
    """
    experiment = find(result.record["experiment"])
    _, variables = init(experiment.net, manual_seed(experiment.seed))
    first = np.asarray(variables["params"]["0"]["weight"])
    last = np.asarray(result.state.params["0"]["weight"], np.float32)
    halves = {"weights": last, "added by training": last - first}
    rows = -(-len(last) // COLUMNS)
    with canvas(path, 10.4, 0.52 * rows + 0.6) as figure:
        parts: Any = figure.subfigures(1, 2)
        for part, (name, weights) in zip(parts, halves.items(), strict=True):
            axes = _bare(part, rows).ravel()
            most = np.abs(weights).max() or 1.0
            image: Any = None
            for axis, unit in zip(axes, weights, strict=False):
                image = axis.imshow(unit.reshape(28, 28), cmap="PuOr_r", vmin=-most, vmax=most)
            part.colorbar(image, ax=list(axes), shrink=0.9, ticks=[-most, 0, most], format="%.2g")
            title = f"{experiment.id}, {len(weights)} hidden units: {name}"
            part.suptitle(title, x=0.01, ha="left", fontsize=11)


def draw_confusion(result: Result, test: Dataset, path: Path) -> None:
    """Which true digits (rows) the net takes for which (columns)."""
    with canvas(path, 4.6, 4.4) as figure:
        counts = count_confusions(test.labels, choose(result, test)[0], len(np.unique(test.labels)))
        show_confusion(figure.add_subplot(), counts, result.record["experiment"])


def count_confusions(labels: np.ndarray, chosen: np.ndarray, classes: int) -> np.ndarray:
    """How often each digit was taken for which: (true, chosen).

    >>> count_confusions(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    array([[1, 0],
           [1, 1]])
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, chosen), 1)
    return counts


def show_confusion(axis: Any, counts: np.ndarray, name: str) -> None:
    """A table of counts on an axis, each row shaded by its share."""
    show_table(axis, counts, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    right = np.trace(counts) / counts.sum()
    axis.set(title=f"{name}: {right:.4f} right", xlabel="the net says", ylabel="the digit is")


def show_table(axis: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    """Counts on an axis, a cell each, shaded by these shares."""
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=12)
    axis.set(xticks=range(counts.shape[1]), yticks=range(counts.shape[0]))
    axis.grid(False)
    axis.tick_params(length=0)


def _bare(figure: Any, rows: int) -> np.ndarray:
    """A grid of axes that show nothing but what is put in them."""
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return axes


def _show_digit(axis: Any, image: np.ndarray) -> None:
    axis.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
