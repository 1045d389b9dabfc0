"""Pictures made of digits: samples, what a net says of them, what its units look for."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet._utils.validation import check_count
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import Result, find
from jaxnet.lecture.figures.style import BLUE, ORANGE, canvas
from jaxnet.nn import init
from jaxnet.random import manual_seed
from jaxnet.train.evaluate import predict


def draw_digits(data: Dataset, path: Path, *, columns: int = 8) -> Path:
    """The first digits of each class, a class a row, as `plt.imshow` shows them in the lecture."""
    check_digits(data)
    check_count("columns", columns)
    classes = np.unique(data.labels)
    with canvas(path, 1.0 * columns, 1.15 * len(classes)) as figure:
        for row, label in zip(_bare(figure, len(classes), columns), classes, strict=True):
            images = data.images[data.labels == label][:columns]
            for axis, image in zip(row, images, strict=False):
                _show_digit(axis, image)
    return path


def draw_predictions(result: Result, test: Dataset, path: Path, *, columns: int = 8) -> Path:
    """Test digits with what the net says of them: some that it has right, and its mistakes.

    A row of digits taken evenly from the test rows, then the mistakes, those of which the net was
    surest first, two rows at most; "1, not 0" means that the net says 1 of a 0.
    """
    check_result(result)
    check_digits(test, "test")
    check_count("columns", columns)
    chosen, sure = choose(result, test)
    wrong = np.flatnonzero(chosen != test.labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    right = np.flatnonzero(chosen == test.labels)
    # Of no right rows there are none to take.
    evenly = np.linspace(0, len(right) - 1, columns if len(right) else 0).astype(int)
    picked = np.unique(right[evenly])
    shown = wrong[: 2 * columns]
    rows = [picked, *(shown[i : i + columns] for i in range(0, len(shown), columns))]
    with canvas(path, 1.15 * columns, 0.6 + 1.5 * len(rows)) as figure:
        for line, places in zip(_bare(figure, len(rows), columns), rows, strict=True):
            for axis, place in zip(line, places, strict=False):
                _show_digit(axis, test.images[place])
                said, label = chosen[place], test.labels[place]
                text = f"{said}" if said == label else f"{said}, not {label}"
                color = BLUE if said == label else ORANGE
                axis.set_title(text, color=color, fontsize=12, loc="center")
        more = f", the surest {len(shown)} below" if len(wrong) > len(shown) else ", below"
        count = f"{len(wrong):,} of {len(chosen):,} test digits wrong{more if len(wrong) else ''}"
        title = f"{result.record['experiment']}: {count}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return path


def choose(result: Result, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The digit that a finished experiment's net chooses for each row, and how surely.

    "Surely" is the logit's distance from a tie; for a net of probabilities the probability's.
    """
    experiment = find(result.record["experiment"])
    outputs = np.asarray(predict(experiment.net, result.state, data.images))
    if outputs.shape[1] > 1:
        best = np.sort(outputs, axis=1)
        places, sure = outputs.argmax(axis=1), best[:, -1] - best[:, -2]
    else:
        tie = 0.5 if experiment.metric.__name__.startswith("probability") else 0.0
        places, sure = (outputs[:, 0] > tie).astype(int), np.abs(outputs[:, 0] - tie)
    return np.array(experiment.classes)[places], sure


def draw_weights(result: Result, path: Path) -> Path:
    """Each hidden unit's 784 weights as an image, and what training has added to them.

    The first are the initial weights almost to the eye; what training added shows what a unit looks
    for (orange) and looks away from (violet). The two halves have a scale each.
    """
    check_result(result)
    experiment = find(result.record["experiment"])
    last = np.asarray(result.state.params["0"]["weight"], np.float32)
    halves = {"weights": last}
    if isinstance(experiment.seed, int):  # and not a seed of JAX's
        _, variables = init(experiment.net, manual_seed(experiment.seed))
        first = np.asarray(variables["params"]["0"]["weight"])
        halves["added by training"] = last - first
    columns = 8
    rows = -(-len(last) // columns)
    with canvas(path, 5.2 * len(halves), 0.52 * rows + 0.6) as figure:
        parts = figure.subfigures(1, len(halves), squeeze=False)[0]
        for part, (name, weights) in zip(parts, halves.items(), strict=True):
            axes = _bare(part, rows, columns).ravel()
            most = np.abs(weights).max() or 1.0
            image: Any = None
            for axis, unit in zip(axes, weights, strict=False):
                image = axis.imshow(unit.reshape(28, 28), cmap="PuOr_r", vmin=-most, vmax=most)
            part.colorbar(image, ax=list(axes), shrink=0.9, ticks=[-most, 0, most], format="%.2g")
            title = f"{experiment.id}, {len(weights)} hidden units: {name}"
            part.suptitle(title, x=0.01, ha="left", fontsize=11)
    return path


def draw_confusion(counts: np.ndarray, path: Path, *, title: str = "") -> Path:
    """Counts of true digits (rows) taken for which (columns), each row shaded by its share."""
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"counts must be a square table, not of shape {counts.shape}")
    with canvas(path, 4.6, 4.4) as figure:
        axis = figure.add_subplot()
        show_confusion(axis, counts)
        right = np.trace(counts) / max(counts.sum(), 1)
        axis.set_title(f"{title}{': ' if title else ''}{right:.4f} of the test rows right")
    return path


def show_confusion(axis: Any, counts: np.ndarray) -> None:
    """A table of counts on an axis."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if share[row, column] > 0.5 else "black"
        axis.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=12)
    axis.set(xlabel="the net says", ylabel="the digit is")
    axis.set(xticks=range(len(counts)), yticks=range(len(counts)))
    axis.grid(False)
    axis.tick_params(length=0)


def _bare(figure: Any, rows: int, columns: int) -> np.ndarray:
    """A grid of axes that show nothing but what is put in them."""
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return axes


def _show_digit(axis: Any, image: np.ndarray) -> None:
    axis.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1)


def check_digits(data: Any, name: str = "data") -> None:
    """Reject anything but a `Dataset` with at least one row."""
    if not isinstance(data, Dataset):
        raise TypeError(f"{name} must be a Dataset of digits, not {type(data).__name__}")
    if len(data.labels) == 0:
        raise ValueError(f"{name} must have at least one row, not 0")


def check_result(result: Any) -> None:
    """Reject anything but the `Result` of an experiment."""
    if not isinstance(result, Result):
        raise TypeError(f"result must be a jaxnet.lecture.Result, not {type(result).__name__}")
