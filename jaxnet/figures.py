"""Every picture, drawn without a screen and written as PNG."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxnet.checks import check_count, check_number
from jaxnet.data import Dataset
from jaxnet.files import as_path, write_whole
from jaxnet.lecture import Result

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#777777"  # told apart by the colour-blind too
_STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.dpi": 120,
}


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, in the house's style, written to `path` at the end."""
    check_picture(path)
    for name, inches in (("width", width), ("height", height)):
        if not check_number(name, inches) > 0:
            raise ValueError(f"{name} must be a positive number of inches, not {inches}")
    path = as_path(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:].lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())


def check_picture(path: str | os.PathLike) -> None:
    """Refuse the name of a file that is no picture's.

    >>> check_picture("digits.png")
    """
    kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
    if as_path(path).suffix[1:].lower() not in kinds:
        endings = ", ".join(f".{kind}" for kind in kinds)
        raise ValueError(f"the path of a picture must end in one of {endings}, not {path}")


def draw_digits(data: Dataset, path: Path, *, columns: int = 8) -> Path:
    """The first digits of each class, a class a row, as `plt.imshow` shows them in the lecture."""
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a Dataset of digits, not {type(data).__name__}")
    check_count("columns", columns)
    if len(data.labels) == 0:
        raise ValueError("data must have at least one row, not 0")
    classes = np.unique(data.labels)
    with canvas(path, 1.0 * columns, 1.15 * len(classes)) as figure:
        axes = figure.subplots(len(classes), columns, squeeze=False)
        for row, label in zip(axes, classes, strict=True):
            images = data.images[data.labels == label][:columns]
            for axis in row:
                axis.set_axis_off()
            for axis, image in zip(row, images, strict=False):
                axis.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
    return path


def draw_training(result: Result, path: Path) -> Path:
    """Loss of every step, and accuracy at the reports beside the published figure."""
    if not isinstance(result, Result):
        raise TypeError(f"result must be a jaxnet.lecture.Result, not {type(result).__name__}")
    record, losses = result.record, result.history.losses
    with canvas(path, 9.0, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        dots = {"marker": "."} if len(losses) <= 20 else {}
        left.plot(np.arange(1, len(losses) + 1), losses, color=BLUE, linewidth=1, **dots)
        left.set(title=f"{record['experiment']}: loss", xlabel="step", ylabel="loss")
        epochs = [report["epoch"] for report in record["reports"]]
        accuracies = [report["accuracy"] for report in record["reports"]]
        right.plot(epochs, accuracies, color=BLUE, marker="o", markersize=4, label="train")
        right.plot(
            epochs[-1:], [record["test_accuracy"]], "s", color=ORANGE, label="test, at the end"
        )
        if published := record["published"]["train"]:
            label = f"published, train: {published}"
            right.axhline(published, color=GREY, linestyle="--", linewidth=1, label=label)
        right.xaxis.get_major_locator().set_params(integer=True)
        right.set(title="accuracy", xlabel="epoch")
        right.legend(loc="best", frameon=False)
    return path


def draw_lecture(results: Iterable[Result], data: Dataset, folder: Path) -> list[Path]:
    """Sample digits, and a picture of each experiment's training."""
    results, folder = list(results), as_path(folder)
    if strange := [result for result in results if not isinstance(result, Result)]:
        raise TypeError(f"results must be jaxnet.lecture.Results, not {type(strange[0]).__name__}")
    paths = [draw_digits(data, folder / "digits.png")]
    for result in results:
        paths.append(draw_training(result, folder / f"{result.record['experiment']}.png"))
    return paths
