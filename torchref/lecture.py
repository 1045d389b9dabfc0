"""Each experiment of the lecture as its own loop, in its order of statements, and one beyond.

A section builds its net, loss and optimizer (`certify_script` takes such a function), then trains
them on tensors, with two callbacks, so that the loop stays as it is: `report(epoch, loss,
accuracy)` is called where the lecture prints, and `watch(net, output, loss)` between `backward` and
`step`. A net goes to the device and the type of X: in float64 the same seed gives the same weights,
masks and orders, and so a float64 reference.
"""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture.experiments import find, make_record

Built = tuple[nn.Module, Any, torch.optim.Optimizer]
"""A net, its loss and its optimizer, as a section builds them."""

Report = Callable[[int, torch.Tensor, float], Any]
Watch = Callable[[nn.Module, torch.Tensor, torch.Tensor], Any]


def ignore(net: nn.Module, output: torch.Tensor, loss: torch.Tensor) -> None:
    """Watch nothing."""


class Section(NamedTuple):
    """What a section builds, and how it trains."""

    seed: int
    make: Callable[[], nn.Sequential]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    optimizer: Callable[..., torch.optim.Optimizer]
    right: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Whether the outputs of each row are on the targets' side."""
    epochs: int
    report_every: int = 1
    batch_size: int | None = None
    """Rows of a step, from a `DataLoader`; every row in every step, if None."""
    shuffle: bool = False

    def build(self) -> Built:
        """The net, the loss and the optimizer, after the section's seed."""
        torch.manual_seed(self.seed)
        net = self.make()
        return net, self.loss, self.optimizer(net.parameters())

    def train(
        self, built: Built, X: torch.Tensor, y: torch.Tensor, report: Report, watch: Watch = ignore
    ) -> nn.Module:
        """The loop; gives the net."""
        net, loss_fn, optimizr = built
        batches, loss = self._batches(X, y, self.shuffle), torch.tensor(0.0)
        for epoc in range(1, self.epochs + 1):
            net.train()
            for xi, yi in batches:
                output = net(xi)
                loss = loss_fn(output, yi)
                loss.backward()
                watch(net, output, loss)
                optimizr.step()
                optimizr.zero_grad()
            if epoc % self.report_every == 0:
                report(epoc, loss, self.accuracy(net, X, y))
        return net

    def accuracy(self, net: nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
        """Share of rows that the net gets right, counted batch by batch."""
        net.eval()
        with torch.no_grad():
            batches = self._batches(X, y, False)
            return sum(self.right(net(xi), yi).sum().item() for xi, yi in batches) / len(y)

    def _batches(self, X: torch.Tensor, y: torch.Tensor, shuffle: bool) -> Iterable[Any]:
        if self.batch_size is None:
            return [(X, y)]
        rows = torch.utils.data.TensorDataset(X, y)
        return torch.utils.data.DataLoader(rows, batch_size=self.batch_size, shuffle=shuffle)


def manual_sigmoid_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Section 2A's loss, written out."""
    probs = torch.exp(logits) / (1 + torch.exp(logits))
    return nn.functional.binary_cross_entropy(probs, targets)


def _classify(*between: nn.Module, outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 32), *between, nn.ReLU(), nn.Linear(32, outputs))


def _rate(*between: nn.Module) -> nn.Sequential:
    """A net that gives probabilities."""
    return _classify(*between).append(nn.Sigmoid())


def _make_ten_class() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10))


def _probability_is_right(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (outputs > 0.5) == y


def _logit_is_right(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (outputs > 0) == y


def _class_is_right(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return outputs.argmax(dim=1) == y.argmax(dim=1)


_SGD, _ADAM = torch.optim.SGD, torch.optim.Adam
_PROBS: Any = {"loss": nn.BCELoss(), "optimizer": _SGD, "right": _probability_is_right}
_LOGITS: Any = {"make": _classify, "optimizer": _ADAM, "right": _logit_is_right}
_CLASSES: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": _ADAM, "right": _class_is_right}

SECTIONS: dict[str, Section] = {
    # 1A, 1B and 1C: every row in every step; the same with nine tenths of the hidden units dropped
    "full_batch": Section(1, _rate, **_PROBS, epochs=500, report_every=50),
    "dropout": Section(1, lambda: _rate(nn.Dropout(0.9)), **_PROBS, epochs=500, report_every=50),
    # 1D: batches of 16, half of the units dropped
    "minibatch": Section(1, lambda: _rate(nn.Dropout(0.5)), **_PROBS, epochs=2, batch_size=16),
    # 2A: a net of logits, whose sigmoid is in the loss
    "manual_sigmoid": Section(0, **_LOGITS, loss=manual_sigmoid_loss, epochs=10),
    "logits": Section(0, **_LOGITS, loss=nn.BCEWithLogitsLoss(), epochs=10),
    # 2B and 2C: three outputs, one-hot targets
    "three_class": Section(
        43052, lambda: _classify(outputs=3), **_CLASSES, epochs=100, report_every=10
    ),
    # Beyond the lecture: ten outputs, a wider layer, half of it dropped, shuffled batches of 64
    "ten_class": Section(1, _make_ten_class, **_CLASSES, epochs=10, batch_size=64, shuffle=True),
}

build_ten_class = SECTIONS["ten_class"].build


class Result(NamedTuple):
    """A finished experiment: the record that `jaxnet.lecture.run` gives too, and the net."""

    record: dict[str, Any]
    net: nn.Module


def run(
    name: str,
    data: tuple[Dataset, Dataset] | None = None,
    *,
    watch: Watch = ignore,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Result:
    """Run one experiment in torch; `run_seconds` is the loop with its reports.

    `data` holds the training and the test rows, `load_mnist` of the experiment's classes if None.
    """
    experiment, section = find(name), SECTIONS[name]
    (X, y), (XX, yy) = (
        [torch.tensor(a).to(device, dtype) for a in (rows.images, experiment.targets(rows))]
        for rows in (load_mnist(experiment.classes) if data is None else data)
    )
    reports, steps = [], itertools.count()

    def report(epoch, loss, accuracy):
        reports.append({"epoch": epoch, "loss": loss.item(), "accuracy": accuracy})

    def count_and_watch(net, output, loss):
        next(steps)
        watch(net, output, loss)

    begin = time.perf_counter()
    net, loss_fn, optimizer = section.build()
    net = section.train((net.to(X), loss_fn, optimizer), X, y, report, count_and_watch)
    seconds = time.perf_counter() - begin
    # These figures are not the lecture's own: their loader must not draw from its stream.
    with torch.random.fork_rng(devices=[]):
        accuracies = (section.accuracy(net, X, y), section.accuracy(net, XX, yy))
    record = make_record(
        experiment,
        reports,
        accuracies,
        (0.0, seconds),
        steps=next(steps),
        device=device,
        random="torch",
        precision="float64" if dtype == torch.float64 else "parity",
        devices=1,
    )
    return Result(record, net)
