"""What the lecture's pictures show beside its experiments: small studies, as plain numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import losses, nn, optim
from jaxnet._utils.validation import check_count, check_pair
from jaxnet.callbacks import Report, Validation
from jaxnet.data import load_mnist
from jaxnet.lecture.experiments import EXPERIMENTS, Split, check_datasets, manual_sigmoid_loss, mlp
from jaxnet.train import TrainState, fit, metrics, predict

OVERFIT_ROWS, OVERFIT_EPOCHS, OVERFIT_EVERY, OVERFIT_P = 200, 200, 4, 0.9
CURVE_BATCHES = (16, 128, 1024)
NOISE_BATCHES = (4, 16, 64, 256, 1024)


class Overfitting(NamedTuple):
    """Accuracies over the epochs, by p: (train, test), each as long as `epochs`."""

    epochs: np.ndarray
    accuracies: dict[float, tuple[np.ndarray, np.ndarray]]
    rows: int
    right_labels: float
    """Share of the training labels that are right: the accuracy of a net that memorizes none."""


def overfit(data: Split | None = None) -> Overfitting:
    """A net on few rows, some of them labeled wrong, with `Dropout(0.9)` and without.

    The lecture's own runs have 12,665 rows and do not overfit: their test rows do better than
    their training rows. Here 49 of 200 drawn labels are flipped; the net gets those rows right only
    by memorizing them, and then gets others wrong. Adam, 200 full-batch epochs.

    Args:
      data: rows of the digits 0 and 1, the bundled ones if None.

    >>> study = overfit()
    >>> train, test = study.accuracies[0.0]  # without dropout
    >>> bool(train[-1] > 0.95 > study.right_labels and test[-1] < 0.85)
    True
    """
    train, test = _check_data(data, (0, 1))
    random = np.random.default_rng(0)
    few = random.permutation(len(train.labels))[:OVERFIT_ROWS]
    wrong = random.random((len(few), 1)) < 0.2
    labels, held = (rows[:, None].astype(np.float32) for rows in (train.labels[few], test.labels))
    rows = train.images[few], np.where(wrong, 1 - labels, labels)
    right = {"accuracy": metrics.logit_is_right}
    found = {}
    for p in (0.0, OVERFIT_P):
        net = mlp(nn.Dropout(p))
        validation = Validation(net, (test.images, held), metrics=right)
        _, history = fit(
            net,
            rows,
            loss=losses.binary_cross_entropy_with_logits,
            optimizer=optim.adam(),
            epochs=OVERFIT_EPOCHS,
            seed=1,
            callbacks=[Report(OVERFIT_EVERY, right), validation],
        )
        found[p] = tuple(
            np.array([report.metrics[name] for report in history.reports])
            for name in ("accuracy", "validation accuracy")
        )
    epochs = np.arange(OVERFIT_EVERY, OVERFIT_EPOCHS + 1, OVERFIT_EVERY)
    return Overfitting(epochs, found, len(few), 1 - float(wrong.mean()))


class BatchNoise(NamedTuple):
    """Losses of an epoch's steps by batch size, and the noise of a batch's loss by its size."""

    curves: dict[int, np.ndarray]
    """Loss of each step of one epoch, from the same weights."""
    sizes: np.ndarray
    rows: int
    """Of the epoch."""
    noise: np.ndarray
    """Standard deviation, over batches of so many rows, of the loss of one and the same net."""


def vary_batches(data: Split | None = None) -> BatchNoise:
    """The lecture's minibatch net with other batch sizes, shuffled, and each size's noise.

    Rows that are drawn independently give a mean whose standard deviation falls as
    $1/\\sqrt{B}$: a batch of 16 has a quarter of the noise of a single row, at 16 times the work.

    Args:
      data: rows of the digits 0 and 1, the bundled ones if None.

    >>> study = vary_batches()
    >>> bool(study.noise[0] > 5 * study.noise[-1])  # 4 rows against 1,024: 16 times in theory
    True
    """
    train, _ = _check_data(data, (0, 1))
    experiment = EXPERIMENTS["minibatch"]
    x, y = train.images, experiment.targets(train)
    curves, state = {}, None
    for size in CURVE_BATCHES:
        options = {"loss": experiment.loss, "optimizer": experiment.optimizer, "seed": 1}
        options |= {"batch_size": size, "shuffle": True}
        last, history = fit(experiment.net, (x, y), epochs=1, **options)
        curves[size] = history.losses
        state = state or last  # after the 792 steps of 16 rows
    assert state is not None
    probs = predict(experiment.net, state, x)
    each = losses.binary_cross_entropy(probs, y, reduction="none")[:, 0]
    each = np.random.default_rng(0).permutation(each)
    # Over the batches of one shuffled pass, whole batches only.
    batches = [each[: len(x) // size * size].reshape(-1, size) for size in NOISE_BATCHES]
    noise = np.array([rows.mean(1).std() for rows in batches])
    return BatchNoise(curves, np.array(NOISE_BATCHES), len(x), noise)


class Overflow(NamedTuple):
    """The loss of one row with target 0 at each logit, written in two ways, and the sigmoid."""

    logits: np.ndarray
    naive: np.ndarray
    """Of exp(z) / (1 + exp(z)): nan where exp(z) overflows float32."""
    with_logits: np.ndarray
    probs: np.ndarray


def overflow() -> Overflow:
    """Where naive BCE leaves float32's range, and the loss of logits does not.

    The loss of a row with target 0 is $\\log(1 + e^z)$, nearly z. Naively, the probability rounds
    to 1 from z = 16.6 on, and `BCELoss` clamps the logarithm of 0 at -100; `exp(z)` is infinite
    above z = 88.72, and infinity over infinity is nan.

    >>> study = overflow()
    >>> wrong = study.logits[study.naive > study.with_logits + 1]
    >>> lost = study.logits[np.isnan(study.naive)]
    >>> float(wrong.min()), float(lost.min())
    (16.75, 88.75)
    """
    logits = np.arange(-20, 120.125, 0.25, dtype=np.float32)
    zero = jnp.zeros((1, 1))

    def each(loss: Any) -> np.ndarray:
        return np.asarray(jax.vmap(lambda z: loss(z[None, None], zero))(logits))

    naive = each(manual_sigmoid_loss)
    with_logits = each(losses.binary_cross_entropy_with_logits)
    return Overflow(logits, naive, with_logits, np.asarray(jax.nn.sigmoid(logits)))


class Codes(NamedTuple):
    """Three digits told apart by one number and by three: counts, a row a true digit."""

    ordinal: np.ndarray
    one_hot: np.ndarray
    outputs: dict[int, np.ndarray]
    """What the net of one output gives for the test rows of each digit."""


def compare_codes(data: Split | None = None, state: TrainState | None = None) -> Codes:
    """The same net with one output that is to be 0, 1 or 2, and with three outputs.

    Codes of 0, 1, 2 say that a 1 is between a 0 and a 2, which is no fact of the digits; and a
    net in doubt between 0 and 2 says 1. A one-hot vector is what a multinomial with n = 1 draws:
    it says which, and nothing else. The net of one output is trained on the mean square of its
    error with the epochs, seed and optimizer of `three_class`, and rounded.

    Args:
      data: rows of the digits 0 to 2, the bundled ones if None.
      state: of `three_class`; trained anew if None.

    >>> study = compare_codes()
    >>> right = [np.trace(counts) / counts.sum() for counts in (study.ordinal, study.one_hot)]
    >>> bool(right[0] < 0.9 < 0.98 < right[1])
    True
    """
    train, test = _check_data(data, (0, 1, 2))
    experiment = EXPERIMENTS["three_class"]
    options: dict[str, Any] = {"epochs": experiment.epochs, "seed": experiment.seed}
    options["optimizer"] = experiment.optimizer
    if state is None:
        rows = train.images, experiment.targets(train)
        state, _ = fit(experiment.net, rows, loss=experiment.loss, **options)
    alone = mlp()
    codes = train.labels[:, None].astype(np.float32)
    rounded, _ = fit(alone, (train.images, codes), loss=losses.mse_loss, **options)
    outputs = np.asarray(predict(alone, rounded, test.images))[:, 0]
    chosen = np.clip(np.round(outputs), 0, 2).astype(int)
    return Codes(
        count_confusions(test.labels, chosen, 3),
        count_confusions(test.labels, predict(experiment.net, state, test.images).argmax(1), 3),
        {digit: outputs[test.labels == digit] for digit in range(3)},
    )


def count_confusions(labels: Any, chosen: Any, classes: int) -> np.ndarray:
    """How often each digit was taken for which: (true, chosen).

    >>> count_confusions([0, 1, 1], [0, 1, 0], 2)
    array([[1, 0],
           [1, 1]])
    """
    check_count("classes", classes)
    labels, chosen = np.asarray(labels), np.asarray(chosen)
    if labels.shape != chosen.shape:
        raise ValueError(f"chosen must be as many as labels, {labels.size}, not {chosen.size}")
    for name, values in (("labels", labels), ("chosen", chosen)):
        if strange := [int(value) for value in np.unique(values) if not 0 <= value < classes]:
            raise ValueError(f"{name} must be classes from 0 to {classes - 1}, not {strange[0]}")
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, chosen), 1)
    return counts


def _check_data(data: Any, classes: tuple[int, ...]) -> Split:
    if data is None:
        return load_mnist(classes)
    train, test = check_pair(data, "(train, test)")
    check_datasets((train, test))
    for rows in (train, test):
        found = tuple(int(label) for label in np.unique(rows.labels))
        if found != classes:
            raise ValueError(f"data must hold the digits {classes}, not {found}")
    return train, test
