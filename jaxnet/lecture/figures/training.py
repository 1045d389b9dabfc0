"""A run's course: loss and accuracy, beside torch's where its results are at hand."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.lecture.experiments import Result
from jaxnet.lecture.figures.style import BLUE, GRAY, ORANGE, canvas
from jaxnet.lecture.torch_results import TorchRun

FLOOR = 1e-9
"""Where equal losses are drawn."""


def relative_gaps(ours: np.ndarray, torch: np.ndarray) -> np.ndarray:
    """$|a - b| / |b|$ for each step, torch's being b; 0 where both are 0.

    >>> print(relative_gaps(np.array([1.5, 0.0]), np.array([1.0, 0.0])))
    [0.5 0. ]
    """
    if len(ours) != len(torch):
        raise ValueError(
            f"torch must have run the same steps: {len(torch)} there, {len(ours)} here"
        )
    ours, torch = (np.asarray(losses, np.float64) for losses in (ours, torch))
    return np.abs(ours - torch) / np.maximum(np.abs(torch), np.finfo(np.float32).tiny)


def draw_training(result: Result, path: Path, torch: TorchRun | None = None) -> None:
    """Loss of every step, and accuracy at the reports beside the published figure.

    With torch's run, both are on one axis, and under each is their gap on a logarithmic axis.
    """
    rows = 1 if torch is None else 2
    with canvas(path, 9.0, 3.4 if torch is None else 5.1) as figure:
        axes = figure.subplots(rows, 2, squeeze=False, sharex="col", height_ratios=(2, 1)[:rows])
        _draw_losses(axes[:, 0], result, torch)
        _draw_accuracies(axes[:, 1], result.record, torch)
        for axis, label in zip(axes[-1], ("step", "epoch"), strict=True):
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_xlabel(label)


def _draw_losses(axes: Any, result: Result, torch: TorchRun | None) -> None:
    ours = result.history.losses
    steps = np.arange(1, len(ours) + 1)
    if torch is not None:
        axes[0].plot(steps, torch["losses"], color=BLUE, linewidth=4, alpha=0.45, label="torch")
    marker = "." if len(steps) <= 20 else ""
    axes[0].plot(steps, ours, color=ORANGE, linewidth=1, label="jaxnet", marker=marker)
    axes[0].set(title=f"{result.record['experiment']}: loss", ylabel="loss")
    if torch is not None:
        axes[0].legend(loc="best")
        _draw_gaps(axes[1], steps, relative_gaps(ours, torch["losses"]), 1e-5, markersize=3)
        axes[1].set_ylabel("relative gap")
        if (bound := torch["loss_bound"]) is not None:
            label = f"stated bound, {bound:.0e}"
            axes[1].axhline(bound, color=ORANGE, linestyle="--", linewidth=1, label=label)
            axes[1].legend(loc="upper right")


def _draw_accuracies(axes: Any, record: dict[str, Any], torch: TorchRun | None) -> None:
    epochs = [report["epoch"] for report in record["reports"]]
    ours = np.array([report["accuracy"] for report in record["reports"]])
    if torch is not None:
        torchs = np.array([report["accuracy"] for report in torch["reports"]])
        axes[0].plot(epochs, torchs, color=BLUE, linewidth=4, alpha=0.45, label="torch, train")
        _draw_gaps(axes[1], epochs, gaps := np.abs(ours - torchs), 1e-1, markersize=6)
        axes[1].set_ylabel("gap")
        note = "the same rows are right at every report" if not gaps.any() else ""
        axes[1].set_title(note, fontsize=9.5, color=GRAY)
    axes[0].plot(epochs, ours, color=ORANGE, marker="o", markersize=4, label="train")
    test = [record["test_accuracy"]]
    axes[0].plot(epochs[-1:], test, "s", color=GRAY, label="test, at the end")
    if published := record["published"]["train"]:
        label = f"published, train: {published}"
        axes[0].axhline(published, color=GRAY, linestyle="--", linewidth=1, label=label)
    axes[0].set(title="accuracy")
    axes[0].legend(loc="best")


def _draw_gaps(axis: Any, places: Any, gaps: np.ndarray, top: float, **style: Any) -> None:
    """Gaps on a logarithmic axis up to `top` or to the largest; equal ones are at the bottom."""
    finite = np.isfinite(gaps)
    top = max(top, 3 * gaps[finite].max(initial=0.0))
    axis.plot(places, np.where(finite, np.maximum(gaps, FLOOR), np.nan), ".", color=GRAY, **style)
    if not finite.all():
        lost = np.asarray(places)[~finite]
        label = f"{len(lost)} not finite"
        axis.plot(lost, np.full(len(lost), top / 2), "x", color=ORANGE, label=label)
        axis.legend(loc="upper left")
    axis.set(yscale="log", ylim=(FLOOR / 3, top))
    ticks = [FLOOR, *(10.0**n for n in range(-7, 9, 2) if 10.0**n <= top)]
    axis.set_yticks(ticks, ["equal", *(f"{tick:.0e}" for tick in ticks[1:])])
    axis.minorticks_off()
