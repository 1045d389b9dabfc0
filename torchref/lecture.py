"""Each experiment as the lecture's own loop, in its order of statements, and one beyond.

A section builds its net, loss and optimizer (`certify_script` takes such a function), then trains
them on tensors, with two callbacks, so that the loops stay as they are: `report(epoch, loss,
accuracy)` is called where the lecture prints, and `watch(net, output, loss)` between `backward` and
`step`. A net goes to the device and the type of X: in float64 the same seed gives the same weights,
masks and orders, and so a float64 reference.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture.experiments import find, make_record

Built = tuple[torch.nn.Module, Any, torch.optim.Optimizer]
"""A net, its loss and its optimizer, as a section builds them."""

Report = Callable[[int, torch.Tensor, float], Any]
Watch = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], Any]


def ignore(net: torch.nn.Module, output: torch.Tensor, loss: torch.Tensor) -> None:
    """Watch nothing."""


def probability_accuracy(net: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """Share of rows on the right side of probability 1/2."""
    net.eval()
    with torch.no_grad():
        return ((net(X) > 0.5) == y).sum().item() / len(y)


def logit_accuracy(net: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """Share of rows on the right side of logit 0."""
    net.eval()
    with torch.no_grad():
        return ((net(X) > 0) == y).sum().item() / len(y)


def class_accuracy(net: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """Share of rows whose largest logit is the target's."""
    net.eval()
    with torch.no_grad():
        return (net(X).argmax(dim=1) == y.argmax(dim=1)).sum().item() / len(y)


def loader_accuracy(net: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """As `probability_accuracy`, counted over a loader's minibatches."""
    dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=16)
    net.eval()
    s = 0
    with torch.no_grad():
        for xi, yi in dl:
            s = s + ((net(xi) > 0.5) == yi).sum().item()
    return s / len(y)


def loader_class_accuracy(net: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """As `class_accuracy`, counted over a loader's minibatches."""
    dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=64)
    net.eval()
    s = 0
    with torch.no_grad():
        for xi, yi in dl:
            s = s + (net(xi).argmax(dim=1) == yi.argmax(dim=1)).sum().item()
    return s / len(y)


def build_full_batch() -> Built:
    """Section 1A: a net that gives probabilities."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
        torch.nn.Sigmoid(),
    )
    return net, torch.nn.BCELoss(), torch.optim.SGD(net.parameters())


def build_dropout() -> Built:
    """Sections 1B and 1C: the same with nine tenths of the hidden units dropped."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.Dropout(0.9),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
        torch.nn.Sigmoid(),
    )
    return net, torch.nn.BCELoss(), torch.optim.SGD(net.parameters())


def build_minibatch() -> Built:
    """Section 1D: with half of them dropped."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.Dropout(0.5),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
        torch.nn.Sigmoid(),
    )
    return net, torch.nn.BCELoss(), torch.optim.SGD(net.parameters())


def build_manual_sigmoid() -> Built:
    """Section 2A: a net of logits, and a loss of their sigmoid."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )
    return net, torch.nn.BCELoss(), torch.optim.Adam(net.parameters())


def build_logits() -> Built:
    """Section 2A: the same net, and a loss of logits."""
    net, _, optimizr = build_manual_sigmoid()
    return net, torch.nn.BCEWithLogitsLoss(), optimizr


def build_three_class() -> Built:
    """Sections 2B and 2C: three outputs."""
    torch.manual_seed(43052)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 3),
    )
    return net, torch.nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters())


def build_ten_class() -> Built:
    """Beyond the lecture: ten outputs, a wider layer, half of it dropped."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 256),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(256, 10),
    )
    return net, torch.nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters())


def full_batch(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Section 1A: BCELoss, SGD, every row in every step."""
    net, loss_fn, optimizr = built
    for epoc in range(1, 501):
        yhat = net(X)
        loss = loss_fn(yhat, y)
        loss.backward()
        watch(net, yhat, loss)
        optimizr.step()
        optimizr.zero_grad()
        if epoc % 50 == 0:
            report(epoc, loss, probability_accuracy(net, X, y))
    return net


def dropout(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Sections 1B and 1C: the same with nine tenths of the hidden units dropped."""
    net, loss_fn, optimizr = built
    for epoc in range(1, 501):
        net.train()
        yhat = net(X)
        loss = loss_fn(yhat, y)
        loss.backward()
        watch(net, yhat, loss)
        optimizr.step()
        optimizr.zero_grad()
        if epoc % 50 == 0:
            report(epoc, loss, probability_accuracy(net, X, y))
    return net


def minibatch(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Section 1D: batches of 16 from a DataLoader, two passes."""
    net, loss_fn, optimizr = built
    ds = torch.utils.data.TensorDataset(X, y)
    dl = torch.utils.data.DataLoader(ds, batch_size=16)
    loss = torch.tensor(0.0)
    for epoc in range(1, 3):
        net.train()
        for xi, yi in dl:
            yhat = net(xi)
            loss = loss_fn(yhat, yi)
            loss.backward()
            watch(net, yhat, loss)
            optimizr.step()
            optimizr.zero_grad()
        report(epoc, loss, loader_accuracy(net, X, y))
    return net


def manual_sigmoid(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Section 2A: the sigmoid written out after a net of logits, then BCELoss; Adam."""
    net, loss_fn, optimizr = built
    for epoc in range(1, 11):
        netout = net(X)
        yhat = torch.exp(netout) / (1 + torch.exp(netout))
        loss = loss_fn(yhat, y)
        loss.backward()
        watch(net, netout, loss)
        optimizr.step()
        optimizr.zero_grad()
        report(epoc, loss, logit_accuracy(net, X, y))
    return net


def logits(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Section 2A: the same with BCEWithLogitsLoss."""
    net, loss_fn, optimizr = built
    for epoc in range(1, 11):
        netout = net(X)
        loss = loss_fn(netout, y)
        loss.backward()
        watch(net, netout, loss)
        optimizr.step()
        optimizr.zero_grad()
        report(epoc, loss, logit_accuracy(net, X, y))
    return net


def three_class(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Sections 2B and 2C: one-hot targets, CrossEntropyLoss; Adam."""
    net, loss_fn, optimizr = built
    for epoc in range(1, 101):
        netout = net(X)
        loss = loss_fn(netout, y)
        loss.backward()
        watch(net, netout, loss)
        optimizr.step()
        optimizr.zero_grad()
        if epoc % 10 == 0:
            report(epoc, loss, class_accuracy(net, X, y))
    return net


def ten_class(built: Built, X, y, report: Report, watch: Watch = ignore) -> torch.nn.Module:
    """Beyond the lecture: shuffled batches of 64, ten passes."""
    net, loss_fn, optimizr = built
    ds = torch.utils.data.TensorDataset(X, y)
    dl = torch.utils.data.DataLoader(ds, batch_size=64, shuffle=True)
    loss = torch.tensor(0.0)
    for epoc in range(1, 11):
        net.train()
        for xi, yi in dl:
            netout = net(xi)
            loss = loss_fn(netout, yi)
            loss.backward()
            watch(net, netout, loss)
            optimizr.step()
            optimizr.zero_grad()
        report(epoc, loss, loader_class_accuracy(net, X, y))
    return net


class Section(NamedTuple):
    """What a section builds, its training loop, and how it counts what its net gets right."""

    build: Callable[[], Built]
    train: Callable[..., torch.nn.Module]
    accuracy: Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], float]


SECTIONS = {
    "full_batch": Section(build_full_batch, full_batch, probability_accuracy),
    "dropout": Section(build_dropout, dropout, probability_accuracy),
    "minibatch": Section(build_minibatch, minibatch, loader_accuracy),
    "manual_sigmoid": Section(build_manual_sigmoid, manual_sigmoid, logit_accuracy),
    "logits": Section(build_logits, logits, logit_accuracy),
    "three_class": Section(build_three_class, three_class, class_accuracy),
    "ten_class": Section(build_ten_class, ten_class, loader_class_accuracy),
}


class Result(NamedTuple):
    """A finished experiment: the record that `jaxnet.lecture.run` gives too, and the net."""

    record: dict[str, Any]
    net: torch.nn.Module


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
