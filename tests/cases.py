"""Small torch trainings that between them use every layer, loss, optimizer and scheduler."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from jaxnet import convert
from jaxnet.certificate import Certificate
from jaxnet.data import load_mnist
from torchref.certification import certify

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
YES = (torch.rand(20, 1, generator=torch.Generator().manual_seed(1)) > 0.5).float()
REAL = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
CLASSES = torch.randint(3, (20,), generator=torch.Generator().manual_seed(3))
IMAGES = torch.randn(20, 2, 6, 6, generator=torch.Generator().manual_seed(4))
WORDS = torch.randint(5, (20, 2), generator=torch.Generator().manual_seed(5))
LARGE = 60 * X
WHOLE = (2 * IMAGES).round()

MANY = torch.randn(40, 6, generator=torch.Generator().manual_seed(6))

Case = Callable[[], dict[str, Any]]


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    digits, _ = load_mnist((0, 1))
    rows = np.random.default_rng(0).permutation(len(digits.labels))[:512]
    return torch.tensor(digits.images[rows]), torch.tensor(digits.labels[rows, None]).float()


def case(
    layers: list[nn.Module],
    loss: nn.Module,
    optimizer: Callable[..., torch.optim.Optimizer],
    data: Any,
    *,
    groups: Callable[[nn.Sequential], Any] = lambda net: net.parameters(),
    scheduler: Callable[..., Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The arguments of `certify`: two epochs of eight rows, the last batch short."""
    net = nn.Sequential(*layers)
    tuned = optimizer(groups(net))
    return {
        "net": net,
        "loss": loss,
        "optimizer": tuned,
        "data": data,
        "epochs": 2,
        "batch_size": 8,
        "scheduler": scheduler(tuned) if scheduler is not None else None,
        "seed": 3,
    } | options


def whole(layer: nn.Module) -> nn.Module:
    """With whole numbers for weights: of whole numbers it makes equal ones."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(6).round_()
    return layer


def with_port(arguments: dict[str, Any]) -> dict[str, Any]:
    """The port as a caller gives his own, with the masks handed to it one by one."""
    net, optimizer = arguments["net"], arguments["optimizer"]
    translated, variables = convert.from_torch(net)
    loss = arguments["loss"], convert.loss_from_torch(arguments["loss"])
    port = translated.apply, variables, convert.optimizer_from_torch(optimizer, net)
    return arguments | {"loss": loss, "port": port}


def two_groups(net: nn.Sequential) -> list[dict[str, Any]]:
    return [
        {"params": [net[0].weight], "lr": 0.02, "weight_decay": 0.1},  # pyright: ignore
        {"params": [p for name, p in net.named_parameters() if name != "0.weight"]},
    ]


CASES: dict[str, Case] = {
    "dropout": lambda: case(
        [nn.Linear(6, 6), nn.Dropout(0.42), nn.ReLU(), nn.Linear(6, 1)],
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.7])),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.4, weight_decay=0.05),
        (X, YES),
        shuffle=True,
    ),
    "nesterov": lambda: case(
        [nn.Linear(6, 6), nn.LeakyReLU(0.2), nn.Linear(6, 3), nn.LogSoftmax(1)],
        nn.NLLLoss(torch.tensor([1.0, 2.0, 0.5]), ignore_index=2),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, maximize=True),
        (X, CLASSES),
        scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.3),
    ),
    "adam": lambda: case(
        [nn.Linear(6, 6), nn.ELU(0.7), nn.Linear(6, 1)],
        nn.MSELoss(),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9), weight_decay=0.3),
        (X, YES),
        groups=two_groups,
        shuffle=True,
    ),
    "amsgrad": lambda: case(
        [nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 3)],
        nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]), ignore_index=1, label_smoothing=0.3),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.6), amsgrad=True),
        (X, CLASSES),
        scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 3, 1e-3),
    ),
    "adamw": lambda: case(
        [nn.Linear(6, 6), nn.BatchNorm1d(6), nn.GELU(approximate="tanh"), nn.Linear(6, 3)],
        nn.SmoothL1Loss(beta=0.4),
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-3, weight_decay=0.2, maximize=True),
        (X, REAL),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
    ),
    "rmsprop": lambda: case(
        [nn.Linear(6, 6), nn.LayerNorm(6, eps=1e-2), nn.SiLU(), nn.Linear(6, 3), nn.Softmax(1)],
        nn.L1Loss(),
        lambda p: torch.optim.RMSprop(
            p,
            lr=0.01,
            alpha=0.9,
            eps=1e-3,
            momentum=0.5,
            centered=True,
            weight_decay=0.1,
            maximize=True,
        ),
        (X, REAL),
    ),
    "adagrad": lambda: case(
        [nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Softplus(2.0, 1.0), nn.Linear(6, 1)],
        nn.BCEWithLogitsLoss(reduction="sum"),
        lambda p: torch.optim.Adagrad(
            p, lr=0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-3
        ),
        (X, YES),
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    ),
    "saturated": lambda: case(
        [nn.Linear(6, 1), nn.Sigmoid()],
        nn.BCELoss(),
        lambda p: torch.optim.SGD(p, lr=1e-6),
        (LARGE, YES),
        epochs=1,
    ),
    "probabilities": lambda: case(
        [nn.Linear(6, 6), nn.LogSigmoid(), nn.Identity(), nn.Linear(6, 1), nn.Sigmoid()],
        nn.BCELoss(),
        lambda p: torch.optim.SGD(p, lr=0.5),
        (X, YES),
    ),
    "images": lambda: case(
        [
            nn.Conv2d(2, 4, 3, padding="valid"),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=2, padding=1),
            nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(36, 3),
        ],
        nn.CrossEntropyLoss(),
        lambda p: torch.optim.Adam(p, lr=0.01, maximize=True),
        (IMAGES, CLASSES),
    ),
    "grouped_images": lambda: case(
        [
            nn.Conv2d(2, 4, 3, stride=2, padding=2, groups=2, padding_mode="reflect", bias=False),
            nn.Conv2d(4, 2, (2, 3), padding="same", dilation=2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(8, 3),
        ],
        nn.CrossEntropyLoss(reduction="sum"),
        lambda p: torch.optim.SGD(p, lr=0.01),
        (IMAGES, CLASSES),
    ),
    "ties": lambda: case(
        [whole(nn.Conv2d(2, 4, 3)), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)],
        nn.CrossEntropyLoss(),
        lambda p: torch.optim.SGD(p, lr=0.05),
        (WHOLE, CLASSES),
    ),
    "relu": lambda: case(
        [nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)],
        nn.MSELoss(),
        lambda p: torch.optim.Adam(p, lr=0.01),
        (X, REAL),
        batch_size=4,
        shuffle=True,
    ),
    # Trainings that once hid a fault of the loop.
    "converged": lambda: case(
        [nn.Linear(6, 1)],
        nn.MSELoss(),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5),
        (MANY, MANY @ torch.tensor([[1.0, 2, 3, 4, 5, 6]]).T),
        epochs=30,
        batch_size=None,
    ),
    "short": lambda: case(
        [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)],
        nn.MSELoss(),
        lambda p: torch.optim.Adam(p, lr=0.01),
        (MANY, MANY[:, :3].sin()),
        batch_size=12,
        epochs=4,
    ),
    "README": lambda: case(
        [nn.Linear(784, 32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 1)],
        nn.BCEWithLogitsLoss(),
        lambda p: torch.optim.Adam(p),
        load_digits(),
        batch_size=16,
        shuffle=True,
    ),
    "own port": lambda: with_port(CASES["dropout"]()),
    "words": lambda: case(
        [nn.Embedding(5, 3, padding_idx=1), nn.Flatten(), nn.Linear(6, 3)],
        nn.MSELoss(reduction="sum"),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
        (WORDS, REAL),
    ),
}


def certify_case(name: str, **options: Any) -> Certificate:
    """The certificate of one of them, from the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return certify(**CASES[name]() | options)
