"""Experiments by name: the lecture's, with the accuracies that it published, and one beyond."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxnet import nn, optim
from jaxnet._utils.digests import name_seed
from jaxnet._utils.validation import check_pair, nearest
from jaxnet.callbacks import Report
from jaxnet.data import Dataset, load_mnist, one_hot
from jaxnet.losses import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy
from jaxnet.precision import Precision, use
from jaxnet.random import Generator
from jaxnet.train import History, TrainState, evaluate, fit, metrics
from jaxnet.train.sharding import Placement, check_placement

PIXELS = 784
"""Pixels of an image."""
HIDDEN = 32
"""Units of the lecture's hidden layer."""

Split = tuple[Dataset, Dataset]
"""Training and test rows."""


class Published(NamedTuple):
    """Accuracies as the lecture prints them, to four places; None where it prints none."""

    train: float | None = None
    test: float | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment: everything that decides its numbers."""

    id: str
    section: str
    net: nn.Sequential
    loss: Callable[[Any, Any], Array]
    make_optimizer: Callable[..., optax.GradientTransformation]
    epochs: int
    report_every: int
    seed: Any
    metric: Callable[[Any, Any], Any]
    classes: tuple[int, ...] = (0, 1)
    batch_size: int | None = None
    shuffle: bool = False
    published: Published = Published()

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer with torch's defaults; the same object every time."""
        return self.make_optimizer()

    def targets(self, data: Dataset) -> Float[np.ndarray, "n outputs"]:
        """Labels shaped for the loss: (n, 1) for two classes, one-hot for more."""
        if len(self.classes) == 2:
            return data.labels[:, None].astype(np.float32)
        return one_hot(data.labels, len(self.classes))


class Result(NamedTuple):
    """A finished experiment: its record for tables and JSON, and what it was made from."""

    record: dict[str, Any]
    state: TrainState
    history: History


def manual_sigmoid_loss(logits: Float[Array, "n 1"], targets: Float[Array, "n 1"]) -> Array:
    """BCE of exp(z) / (1 + exp(z)), as the lecture first writes it; overflows above z = 88.7.

    >>> print(manual_sigmoid_loss(jnp.zeros((1, 1)), jnp.ones((1, 1))).round(4))
    0.6931
    """
    return binary_cross_entropy(jnp.exp(logits) / (1 + jnp.exp(logits)), targets)


def mlp(*between: nn.Module, outputs: int = 1, probabilities: bool = False) -> nn.Sequential:
    """The lecture's net, with these modules before its activation."""
    ends = [nn.Sigmoid()] if probabilities else []
    return nn.Sequential(
        [nn.Linear(PIXELS, HIDDEN), *between, nn.ReLU(), nn.Linear(HIDDEN, outputs), *ends]
    )


_SGD: dict[str, Any] = {
    "loss": binary_cross_entropy,
    "make_optimizer": optim.sgd,
    "seed": 1,
    "metric": metrics.probability_is_right,
}
_LONG: dict[str, Any] = _SGD | {"epochs": 500, "report_every": 50}
_ADAM: dict[str, Any] = {
    "make_optimizer": optim.adam,
    "epochs": 10,
    "report_every": 1,
    "seed": 0,
    "metric": metrics.logit_is_right,
}
_PROBS, _DROPPED, _HALVED = (
    mlp(*between, probabilities=True) for between in ((), (nn.Dropout(0.9),), (nn.Dropout(0.5),))
)
_EXPERIMENTS = (
    Experiment("full_batch", "1A", _PROBS, **_LONG, published=Published(0.9936, 0.9986)),
    Experiment("dropout", "1B, 1C", _DROPPED, **_LONG, published=Published(0.9927, 0.9991)),
    Experiment("minibatch", "1D", _HALVED, **_SGD, epochs=2, report_every=1, batch_size=16),
    Experiment("manual_sigmoid", "2A", mlp(), loss=manual_sigmoid_loss, **_ADAM),
    Experiment("logits", "2A", mlp(), loss=binary_cross_entropy_with_logits, **_ADAM),
    Experiment(
        id="three_class",
        section="2B, 2C",
        net=mlp(outputs=3),
        loss=cross_entropy,
        make_optimizer=optim.adam,
        epochs=100,
        report_every=10,
        seed=43052,
        metric=metrics.class_is_right,
        classes=(0, 1, 2),
        published=Published(0.9827),
    ),
)

EXPERIMENTS: dict[str, Experiment] = {experiment.id: experiment for experiment in _EXPERIMENTS}
"""The lecture's experiments by id, in the lecture's order."""

BEYOND: dict[str, Experiment] = {
    "ten_class": Experiment(
        id="ten_class",
        section="beyond",
        net=nn.Sequential([nn.Linear(PIXELS, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)]),
        loss=cross_entropy,
        make_optimizer=optim.adam,
        epochs=10,
        batch_size=64,
        shuffle=True,
        report_every=1,
        seed=1,
        metric=metrics.class_is_right,
        classes=tuple(range(10)),
    )
}
"""What the lecture does not have, by id; its digits are not bundled, so nothing runs it unasked."""


def find(name: str) -> Experiment:
    """The experiment of that id, the lecture's or one beyond; a ValueError for any other.

    >>> find("ten_class").batch_size
    64
    """
    known = EXPERIMENTS | BEYOND
    if name not in known:
        listed = ", ".join(known)
        raise ValueError(f"name must be one of {listed}, not {name!r}{nearest(name, known)}")
    return known[name]


def make_record(
    experiment: Experiment,
    reports: Sequence[dict[str, Any]],
    accuracies: Sequence[float],
    seconds: Sequence[float],
    **how: Any,
) -> dict[str, Any]:
    """A run of an experiment as JSON has it, whichever framework ran it.

    Reports are `{"epoch", "loss", "accuracy"}` each, accuracies those on the training and the test
    rows at the end, seconds those of compiling and of training with its reports. `how` has "steps",
    "device", "devices", "precision", and whose "random" numbers were used: "torch" (the CPU's),
    "torch cuda" (masks of a GPU's) or "jax".
    """
    return {
        "experiment": experiment.id,
        "section": experiment.section,
        "seed": name_seed(experiment.seed),
        "published": experiment.published._asdict(),
        "train_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "reports": list(reports),
        "compile_seconds": seconds[0],
        "run_seconds": seconds[1],
        **how,
    }


def run(
    experiment: Experiment,
    data: Split | None = None,
    *,
    device: Any = None,
    callbacks: Sequence[Any] = (),
    precision: Precision = "parity",
    placement: Placement | None = None,
) -> Result:
    """Run one experiment from its seed.

    Args:
      experiment: one of `EXPERIMENTS` or `BEYOND`, or a `dataclasses.replace` of one; its seed is
        an integer for torch's random numbers or a `jax.random.key` for JAX's.
      data: training and test rows, `load_mnist(experiment.classes)` if None.
      device: one of `jax.devices()`, JAX's default if None; it changes no random number.
      callbacks, precision, placement: as in `jaxnet.fit`; each experiment has a `Report`.

    >>> import dataclasses
    >>> short = dataclasses.replace(EXPERIMENTS["logits"], epochs=1)
    >>> round(run(short).record["reports"][0]["accuracy"], 4)
    0.4677
    """
    _check_arguments(experiment, data, device, placement)
    train_xy, test_xy = (
        (rows.images, experiment.targets(rows))
        for rows in (load_mnist(experiment.classes) if data is None else data)
    )
    if placement is None:  # a mesh is given NumPy's arrays, of which each process takes its part
        train_xy, test_xy = jax.device_put((train_xy, test_xy), device)
    chosen = {"accuracy": experiment.metric}
    report = Report(experiment.report_every, chosen, loader=experiment.batch_size is not None)
    state, history = fit(
        experiment.net,
        train_xy,
        loss=experiment.loss,
        optimizer=experiment.optimizer,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        shuffle=experiment.shuffle,
        seed=experiment.seed,
        callbacks=[report, *callbacks],
        precision=precision,
        placement=placement,
    )
    with use(precision):
        accuracies = [
            evaluate(experiment.net, state, xy, metrics=chosen)["accuracy"]
            for xy in (train_xy, test_xy)
        ]
    return Result(_record(experiment, state, history, accuracies), state, history)


def _record(
    experiment: Experiment, state: TrainState, history: History, accuracies: Sequence[float]
) -> dict[str, Any]:
    """What `make_record` makes of a run of jaxnet's."""
    random = "jax"
    if isinstance(state.generator, Generator):
        random = "torch" if state.generator.cuda is None else "torch cuda"
    used = sorted(jax.tree.leaves(state.params)[0].sharding.device_set, key=str)
    return make_record(
        experiment,
        [{"epoch": r.epoch, "loss": r.loss, **r.metrics} for r in history.reports],
        accuracies,
        (history.compile_seconds, history.run_seconds),
        steps=int(state.step),
        device=used[0].platform,
        random=random,
        precision=history.precision,
        devices=len(used),
    )


def _check_arguments(experiment: Any, data: Any, device: Any, placement: Any) -> None:
    if not isinstance(experiment, Experiment):
        wanted = f"an Experiment, EXPERIMENTS[{experiment!r}] perhaps"
        raise TypeError(f"experiment must be {wanted}, not {experiment!r}")
    if device is not None and not isinstance(device, jax.Device | jax.sharding.Sharding):
        raise TypeError(f"device must be one of jax.devices(), not {device!r}")
    check_placement(placement)
    if device is not None and placement is not None:
        raise ValueError("device and placement exclude each other: give one of them")
    for rows in () if data is None else check_pair(data, "(train, test)"):
        if not isinstance(rows, Dataset):
            kind = type(rows).__name__
            raise TypeError(f"data must be (train, test), a Dataset each, not {kind}")


def missed(record: dict[str, Any]) -> list[str]:
    """What a record misses of "train" and "test", the published accuracies to four places, and of
    "random", the numbers of torch's CPU.

    >>> known = {"published": {"train": 0.9936, "test": None}, "random": "torch"}
    >>> missed(known | {"train_accuracy": 0.99361})
    []
    >>> missed(known | {"train_accuracy": 0.9937, "random": "jax"})
    ['train', 'random']
    """
    parts = [
        part
        for part, value in record["published"].items()
        if value is not None and f"{record[part + '_accuracy']:.4f}" != f"{value:.4f}"
    ]
    return parts + ["random"] * (record["random"] != "torch")
