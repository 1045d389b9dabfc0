"""What the lecture teaches beside its experiments: a small study and its picture each."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import losses, nn, optim
from jaxnet.callbacks import Report, Validation
from jaxnet.lecture.experiments import EXPERIMENTS, Result, Split, manual_sigmoid_loss, mlp
from jaxnet.lecture.figures.digits import choose, count_confusions, show_confusion, show_table
from jaxnet.lecture.figures.style import BLUE, GRAY, GREEN, ORANGE, canvas
from jaxnet.train import fit, metrics, predict

CURVE_BATCHES = (16, 128, 1024)
NOISE_BATCHES = (4, 16, 64, 256, 1024)
HALVES = (9.0, 3.7)
"""Inches of a picture of two halves."""


def overfit(data: Split) -> tuple[float, dict[float, dict[int, tuple[float, float]]]]:
    """A net on 200 rows, a fifth of them labeled wrong, with `Dropout(0.9)` and without.

    The lecture's own runs have 12,665 rows and do not overfit. This net gets the wrong labels only
    by memorizing rows, and then gets others wrong. Gives the share of labels that are right, and by
    p and epoch the accuracies on these rows and on the test rows.
    """
    train, test = data
    random = np.random.default_rng(0)
    few = random.permutation(len(train.labels))[:200]
    wrong = random.random((len(few), 1)) < 0.2
    labels, held = (rows[:, None].astype(np.float32) for rows in (train.labels[few], test.labels))
    rows = train.images[few], np.where(wrong, 1 - labels, labels)
    right = {"accuracy": metrics.logit_is_right}
    found = {}
    for p in (0.0, 0.9):
        net = mlp(nn.Dropout(p))
        _, history = fit(
            net,
            rows,
            loss=losses.binary_cross_entropy_with_logits,
            optimizer=optim.adam(),
            epochs=200,
            seed=1,
            callbacks=[Report(4, right), Validation(net, (test.images, held), metrics=right)],
        )
        found[p] = {r.epoch: tuple(r.metrics.values()) for r in history.reports}
    return 1 - float(wrong.mean()), found


def draw_overfitting(data: Split, path: Path) -> None:
    """Train against test, without dropout and with it, of `overfit`."""
    right, found = overfit(data)
    with canvas(path, *HALVES) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (p, by_epoch) in zip(axes, found.items(), strict=True):
            train, test = np.array(list(by_epoch.values())).T
            label = "the 200 rows it learns, some labels wrong"
            axis.plot(list(by_epoch), train, color=BLUE, label=label)
            axis.plot(list(by_epoch), test, color=ORANGE, label="test rows")
            label = f"share of right labels, {right:.3f}"
            axis.axhline(right, color=GRAY, linestyle="--", linewidth=1, label=label)
            name = f"with Dropout({p})" if p else "without dropout"
            axis.set(title=f"{name}: test ends at {test[-1]:.3f}", xlabel="epoch")
        axes[0].set_ylabel("accuracy")
        axes[1].legend(loc="center right")


def vary_batches(data: Split) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The lecture's minibatch net with other batch sizes, shuffled, and each size's noise.

    Rows that are drawn independently give a mean whose standard deviation falls as
    $1/\\sqrt{B}$. Gives the losses of an epoch by `CURVE_BATCHES`, from the same weights, and for
    `NOISE_BATCHES` the standard deviation of a batch's loss, of one net.
    """
    experiment = EXPERIMENTS["minibatch"]
    x, y = data[0].images, experiment.targets(data[0])
    options: dict[str, Any] = {"loss": experiment.loss, "optimizer": experiment.optimizer}
    runs = {
        size: fit(
            experiment.net, (x, y), epochs=1, batch_size=size, shuffle=True, seed=1, **options
        )
        for size in CURVE_BATCHES
    }
    probs = predict(experiment.net, runs[16][0], x)  # after the 792 steps of 16 rows
    each = losses.binary_cross_entropy(probs, y, reduction="none")[:, 0]
    each = np.random.default_rng(0).permutation(each)
    # Over the batches of one shuffled pass, whole batches only.
    batches = [each[: len(x) // size * size].reshape(-1, size) for size in NOISE_BATCHES]
    noise = np.array([rows.mean(1).std() for rows in batches])
    return {size: history.losses for size, (_, history) in runs.items()}, noise


def draw_batch_sizes(data: Split, path: Path) -> None:
    """The loss over an epoch at several batch sizes, and its noise against the size."""
    curves, noise = vary_batches(data)
    with canvas(path, *HALVES) as figure:
        left, right = figure.subplots(1, 2)
        for (size, curve), color in zip(curves.items(), (BLUE, ORANGE, "black"), strict=True):
            rows = np.minimum(size * np.arange(1, len(curve) + 1), len(data[0].labels))
            left.plot(rows, curve, color=color, linewidth=1, label=f"batches of {size:,}")
        left.set(title="one shuffled epoch, the same weights", xlabel="rows seen")
        left.set_ylabel("loss of a step")
        left.legend(loc="best")
        sizes = np.array(NOISE_BATCHES)
        right.loglog(sizes, noise, "o-", color=ORANGE, label="measured")
        label = "1 / square root of the size"
        right.loglog(sizes, noise[0] * np.sqrt(sizes[0] / sizes), "--", color=GRAY, label=label)
        right.set(title="noise of a batch's loss, one net", xlabel="rows of a batch")
        right.set_ylabel("standard deviation")
        right.minorticks_off()
        right.set_xticks(sizes, [f"{size:,}" for size in sizes])
        right.legend(loc="best")


def overflow() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits z, and the loss of a row with target 0 there, $\\log(1 + e^z)$: naive, and of logits.

    Naively, the probability rounds to 1 from z = 16.6 on, and `BCELoss` clamps the logarithm of 0
    at -100; `exp(z)` is infinite above z = 88.72, and infinity over infinity is nan.

    >>> logits, naive, with_logits = overflow()
    >>> float(logits[naive > with_logits + 1].min()), float(logits[np.isnan(naive)].min())
    (16.75, 88.75)
    """
    logits = np.arange(-20, 120.125, 0.25, dtype=np.float32)
    zero = jnp.zeros((1, 1))
    naive, with_logits = (
        np.asarray(jax.vmap(lambda z, loss=loss: loss(z[None, None], zero))(logits))
        for loss in (manual_sigmoid_loss, losses.binary_cross_entropy_with_logits)
    )
    return logits, naive, with_logits


def draw_sigmoid(path: Path) -> None:
    """Naive BCE against BCE of logits, and why logit > 0 is sigmoid > 1/2."""
    z, naive, with_logits = overflow()
    with canvas(path, *HALVES) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(z, with_logits, color=BLUE, linewidth=4, alpha=0.45, label="with logits")
        left.plot(z, naive, color=ORANGE, linewidth=1.2, label="naive")
        label, place = "the probability is\n1 in float32", (z[naive > with_logits + 1].min(), 76)
        left.annotate(label, place, (6, 0), textcoords="offset points", color=ORANGE)
        first, label = z[np.isnan(naive)].min(), "naive is nan: exp(z)\nis infinite in float32"
        left.axvspan(first, z.max(), color=ORANGE, alpha=0.15, linewidth=0, label=label)
        left.set(title="BCE of a row with target 0", xlabel="logit z", ylabel="loss")
        left.legend(loc="lower right", fontsize=8.5)
        near = z[np.abs(z) <= 6]
        right.plot(near, jax.nn.sigmoid(near), color=BLUE, linewidth=2)
        right.axvline(0, color=GRAY, linewidth=1)
        right.axhline(0.5, color=GRAY, linewidth=1)
        above = near[near > 0]
        probs = np.asarray(jax.nn.sigmoid(above))
        right.fill_between(above, 0.5, probs, color=BLUE, alpha=0.15, linewidth=0)
        right.text(0.4, 0.56, 'logit > 0: "1"', fontsize=10)
        right.text(-0.4, 0.42, 'logit < 0: "0"', fontsize=10, ha="right")
        right.set(title="logit > 0 is sigmoid > 1/2", xlabel="logit z", ylabel="sigmoid(z)")


def predict_codes(data: Split) -> np.ndarray:
    """What a net of one output, which is to be 0, 1 or 2, gives for the test rows.

    Codes of 0, 1, 2 say that a 1 is between a 0 and a 2, which is no fact of the digits; and a
    net in doubt between 0 and 2 says 1. It is trained on the mean square of its error, else as
    `three_class`.
    """
    (train, test), experiment = data, EXPERIMENTS["three_class"]
    state, _ = fit(
        net := mlp(),
        (train.images, train.labels[:, None].astype(np.float32)),
        loss=losses.mse_loss,
        optimizer=experiment.optimizer,
        epochs=experiment.epochs,
        seed=experiment.seed,
    )
    return np.asarray(predict(net, state, test.images))[:, 0]


def draw_codes(result: Result, data: Split, path: Path) -> None:
    """One-hot against ordinal codes: what a net of one output says, and what both get wrong."""
    outputs, labels = predict_codes(data), data[1].labels
    chosen = {
        "ordinal": np.clip(np.round(outputs), 0, 2).astype(int),
        "one-hot": choose(result, data[1])[0],
    }
    with canvas(path, 11.0, 4.0) as figure:
        first, *others = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        bins = np.linspace(-0.5, 3.5, 81)
        for digit, color in enumerate((BLUE, GREEN, ORANGE)):
            shown = np.clip(outputs[labels == digit], bins[0], bins[-1])
            first.hist(shown, bins=bins, color=color, alpha=0.65, label=f"a {digit}")
        for edge in (0.5, 1.5):
            first.axvline(edge, color=GRAY, linestyle="--", linewidth=1)
        first.set(title="one output for codes 0, 1, 2", ylabel="test digits")
        first.set_xlabel("output (rounded at the dashes)")
        first.legend(loc="upper right")
        for axis, (name, digits) in zip(others, chosen.items(), strict=True):
            show_confusion(axis, count_confusions(labels, digits, 3), name)


def draw_multinomial(path: Path) -> None:
    """Draws of a multinomial with n = 1 beside one with n = 10: the first are one-hot vectors."""
    probs, random = np.array([0.2, 0.5, 0.3]), np.random.default_rng(0)
    with canvas(path, 9.0, 3.2) as figure:
        for axis, n in zip(figure.subplots(1, 2), (1, 10), strict=True):
            draws = random.multinomial(n, probs, size=6).T
            show_table(axis, draws, draws / n)
            what = "each draw is a one-hot vector" if n == 1 else "counts"
            axis.set(title=f"multinomial, n = {n}: {what}", xlabel="draw", ylabel="class")
