"""What the lecture teaches beside its experiments, one picture a study."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.lecture.figures.digits import show_confusion
from jaxnet.lecture.figures.style import BLUE, GRAY, GREEN, ORANGE, canvas
from jaxnet.lecture.studies import BatchNoise, Codes, Overfitting, Overflow


def draw_overfitting(study: Overfitting, path: Path) -> Path:
    """Train against test, without dropout and with it, of `jaxnet.lecture.studies.overfit`."""
    _check(study, Overfitting)
    with canvas(path, 9.0, 3.7) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (p, (train, test)) in zip(axes, study.accuracies.items(), strict=True):
            seen = f"the {study.rows} rows it learns, some labels wrong"
            axis.plot(study.epochs, train, color=BLUE, label=seen)
            axis.plot(study.epochs, test, color=ORANGE, label="test rows")
            right = f"share of right labels, {study.right_labels:.3f}"
            axis.axhline(study.right_labels, color=GRAY, linestyle="--", linewidth=1, label=right)
            name = f"with Dropout({p})" if p else "without dropout"
            axis.set(title=f"{name}: test ends at {test[-1]:.3f}", xlabel="epoch")
        axes[0].set_ylabel("accuracy")
        axes[1].legend(loc="center right")
    return path


def draw_batch_sizes(study: BatchNoise, path: Path) -> Path:
    """The loss over an epoch at several batch sizes, and its noise against the size."""
    _check(study, BatchNoise)
    with canvas(path, 9.0, 3.7) as figure:
        left, right = figure.subplots(1, 2)
        colors = (BLUE, ORANGE, "black")
        for (size, losses), color in zip(study.curves.items(), colors, strict=True):
            rows = np.minimum(size * np.arange(1, len(losses) + 1), study.rows)
            left.plot(rows, losses, color=color, linewidth=1, label=f"batches of {size:,}")
        left.set(title="one shuffled epoch, the same weights", xlabel="rows seen")
        left.set_ylabel("loss of a step")
        left.legend(loc="best")
        right.loglog(study.sizes, study.noise, "o-", color=ORANGE, label="measured")
        root = study.noise[0] * np.sqrt(study.sizes[0] / study.sizes)
        right.loglog(study.sizes, root, "--", color=GRAY, label="1 / square root of the size")
        right.set(title="noise of a batch's loss, one net", xlabel="rows of a batch")
        right.set_ylabel("standard deviation")
        right.minorticks_off()
        right.set_xticks(study.sizes, [f"{size:,}" for size in study.sizes])
        right.legend(loc="best")
    return path


def draw_sigmoid(study: Overflow, path: Path) -> Path:
    """Naive BCE against BCE of logits, and why logit > 0 is sigmoid > 1/2."""
    _check(study, Overflow)
    with canvas(path, 9.0, 3.7) as figure:
        left, right = figure.subplots(1, 2)
        z, lost = study.logits, np.isnan(study.naive)
        left.plot(z, study.with_logits, color=BLUE, linewidth=4, alpha=0.45, label="with logits")
        left.plot(z, study.naive, color=ORANGE, linewidth=1.2, label="naive")
        jumped = study.naive > study.with_logits + 1
        if jumped.any():
            label, place = "the probability is\n1 in float32", (z[jumped].min(), 76)
            left.annotate(label, place, (6, 0), textcoords="offset points", color=ORANGE)
        if lost.any():
            first = z[lost].min()
            label = "naive is nan: exp(z)\nis infinite in float32"
            left.axvspan(first, z.max(), color=ORANGE, alpha=0.15, linewidth=0, label=label)
        left.set(title="BCE of a row with target 0", xlabel="logit z", ylabel="loss")
        left.legend(loc="lower right", fontsize=8.5)
        near = np.abs(z) <= 6
        right.plot(z[near], study.probs[near], color=BLUE, linewidth=2)
        right.axvline(0, color=GRAY, linewidth=1)
        right.axhline(0.5, color=GRAY, linewidth=1)
        above = near & (z > 0)
        right.fill_between(z[above], 0.5, study.probs[above], color=BLUE, alpha=0.15, linewidth=0)
        right.text(0.4, 0.56, 'logit > 0: "1"', fontsize=10)
        right.text(-0.4, 0.42, 'logit < 0: "0"', fontsize=10, ha="right")
        right.set(title="logit > 0 is sigmoid > 1/2", xlabel="logit z", ylabel="sigmoid(z)")
    return path


def draw_codes(study: Codes, path: Path) -> Path:
    """One-hot against ordinal codes: what a net of one output says, and what both get wrong."""
    _check(study, Codes)
    with canvas(path, 11.0, 4.0) as figure:
        first, second, third = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        bins = np.linspace(-0.5, 3.5, 81)
        colors = (BLUE, GREEN, ORANGE)
        for (digit, outputs), color in zip(study.outputs.items(), colors, strict=True):
            shown = np.clip(outputs, bins[0], bins[-1])
            first.hist(shown, bins=bins, color=color, alpha=0.65, label=f"a {digit}")
        for edge in (0.5, 1.5):
            first.axvline(edge, color=GRAY, linestyle="--", linewidth=1)
        first.set(title="one output for codes 0, 1, 2", ylabel="test digits")
        first.set_xlabel("output (rounded at the dashes)")
        first.legend(loc="upper right")
        tables = {"ordinal": (second, study.ordinal), "one-hot": (third, study.one_hot)}
        for name, (axis, counts) in tables.items():
            show_confusion(axis, counts)
            axis.set_title(f"{name}: {np.trace(counts) / counts.sum():.4f} right")
    return path


def draw_multinomial(path: Path) -> Path:
    """Draws of a multinomial with n = 1 beside one with n = 10: the first are one-hot vectors."""
    probs, random = np.array([0.2, 0.5, 0.3]), np.random.default_rng(0)
    with canvas(path, 9.0, 3.2) as figure:
        for axis, n in zip(figure.subplots(1, 2), (1, 10), strict=True):
            draws = random.multinomial(n, probs, size=6)
            axis.imshow(draws.T, cmap="Blues", vmin=0, vmax=n, aspect="equal")
            for (draw, digit), count in np.ndenumerate(draws):
                color = "white" if count > 0.5 * n else "black"
                axis.text(draw, digit, str(count), ha="center", va="center", color=color)
            what = "each draw is a one-hot vector" if n == 1 else "counts"
            axis.set(title=f"multinomial, n = {n}: {what}", xlabel="draw", ylabel="class")
            axis.set_xticks(range(6), range(1, 7))
            axis.set_yticks(range(3))
            axis.grid(False)
            axis.tick_params(length=0)
    return path


def _check(study: Any, kind: type) -> None:
    if not isinstance(study, kind):
        wanted = f"a {kind.__name__} of jaxnet.lecture.studies"
        raise TypeError(f"study must be {wanted}, not {type(study).__name__}")
