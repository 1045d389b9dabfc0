"""torch nets of the layers that jaxnet translates: one of each, and random ones."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Net = tuple[nn.Sequential, torch.Tensor]

_VECTOR = [
    nn.Flatten, nn.Identity, lambda: nn.Dropout(0.42), nn.ReLU,
    lambda: nn.LeakyReLU(0.3), lambda: nn.ELU(0.7), nn.GELU,
    lambda: nn.GELU(approximate="tanh"), nn.SiLU, nn.Sigmoid,
    nn.LogSigmoid, nn.Tanh, lambda: nn.Softplus(2.0, 5.0),
    lambda: nn.Softmax(dim=1), lambda: nn.LogSoftmax(dim=-1),
    lambda: nn.LayerNorm(6), lambda: nn.BatchNorm1d(6),
    lambda: nn.BatchNorm1d(6, momentum=None),
    lambda: nn.LayerNorm(6, eps=1e-3, bias=False),
    lambda: nn.BatchNorm1d(6, affine=False), lambda: nn.Linear(6, 6, bias=False),
    lambda: nn.BatchNorm1d(6, track_running_stats=False),
]  # fmt: skip

_IMAGE = [
    lambda: nn.Conv2d(4, 4, 3, padding=1),
    lambda: nn.Conv2d(4, 4, 3, padding="same", groups=2, bias=False),
    lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    lambda: nn.BatchNorm2d(4), nn.ReLU, lambda: nn.Dropout(0.15),
    lambda: nn.MaxPool2d(3, stride=1, padding=1),
    lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    lambda: nn.GELU(), lambda: nn.AdaptiveAvgPool2d((5, None)),
]  # fmt: skip


def vector(*layers: nn.Module) -> Net:
    """A net of layers that take and give six features."""
    net = nn.Sequential(nn.Linear(5, 6), *layers, nn.Linear(6, 2))
    return net, torch.randn(7, 5)


def _apart(layers: list) -> list[nn.Module]:
    """A Linear behind each: none flattens what another gave."""
    return [part for layer in layers for part in (layer(), nn.Linear(6, 6))]


def images(*layers: nn.Module) -> Net:
    """A net of layers that take and give images of four channels, 6 by 6 but for pools."""
    first, pool = nn.Conv2d(1, 4, 3, stride=1, padding=1), nn.AdaptiveAvgPool2d(2)
    last = nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(first, *layers, pool, *last), torch.randn(6, 1, 6, 6)


def words() -> Net:
    table = nn.Embedding(9, 3, padding_idx=2)
    net = nn.Sequential(table, nn.Flatten(), nn.Linear(6, 2))
    return net, torch.randint(9, (7, 2))


NETS: dict[str, Callable[[], Net]] = {
    "linear": lambda: (nn.Linear(5, 2), torch.randn(7, 5)),  # pyright: ignore
    "in_place": lambda: vector(nn.Dropout(0.5, inplace=True), nn.ReLU(inplace=True)),
    "lecture": lambda: vector(nn.Dropout(0.9), nn.ReLU()),
    "nested": lambda: vector(
        nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Linear(6, 6))),
        nn.Sequential(),
        nn.Dropout(0.04),
    ),
    **{
        f"vector_{i}": lambda i=i: vector(*_apart(_VECTOR[i : i + 3]))
        for i in range(0, len(_VECTOR), 3)
    },
    "batch_norm": lambda: vector(nn.BatchNorm1d(6), nn.Tanh()),
    "one_dropout_twice": lambda: (lambda d: vector(d, nn.Tanh(), d))(nn.Dropout(0.2)),
    "images": lambda: images(*(layer() for layer in _IMAGE)),
    "words": words,
}


# Nets and trainings drawn by a seed.

LOSSES = {
    "mse": (nn.MSELoss(), "numbers"),
    "l1": (nn.L1Loss(), "numbers"),
    "smooth l1": (nn.SmoothL1Loss(beta=0.5), "numbers"),
    "bce": (nn.BCEWithLogitsLoss(), "bits"),
    "cross entropy": (nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
    "cross entropy, summed": (nn.CrossEntropyLoss(reduction="sum"), "classes"),
}
OPTIMIZERS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, 10 * lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "adam": lambda p, lr: torch.optim.Adam(p, lr, weight_decay=1e-2),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr, amsgrad=True),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr, centered=True, momentum=0.5),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr, lr_decay=0.01),
}
ACTIVATIONS = [
    nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, lambda: nn.LeakyReLU(0.1), nn.Softplus,
    lambda: nn.Dropout(0.3),
]  # fmt: skip


def make_dense(pick):
    width, last = pick.choice([1, 3, 8, 40]), pick.choice([1, 3, 20])
    inputs, layers = pick.choice([1, 6, 50]), []
    size = inputs
    for _ in range(pick.choice([0, 1, 1, 2, 3, 6])):
        layers.append(nn.Linear(size, width, bias=pick.random() < 0.8))
        if width > 1 and pick.random() < 0.4:
            layers.append(pick.choice([nn.BatchNorm1d, nn.LayerNorm])(width))
        layers.append(pick.choice(ACTIVATIONS)())
        size = width
    return nn.Sequential(*layers, nn.Linear(size, last)), (inputs,), last


def make_images(pick):
    channels, last, side = pick.choice([2, 6]), pick.choice([2, 5]), pick.choice([6, 9])
    first = nn.Conv2d(1, channels, 3, stride=pick.choice([1, 2]), padding=1)
    norm = pick.choice([nn.BatchNorm2d(channels), nn.Identity()])
    layers = [first, norm, pick.choice(ACTIVATIONS)()]
    layers.append(pick.choice([nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Identity()]))
    if pick.random() < 0.5:
        groups = pick.choice([1, 2])
        layers += [
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=groups),
            nn.ReLU(),
        ]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, last)]
    return nn.Sequential(*layers), (1, side, side), last


def make_words(pick):
    words, width, last = pick.choice([3, 50]), pick.choice([2, 8]), pick.choice([2, 5])
    layers = nn.Embedding(words, width), nn.Flatten(), nn.Linear(4 * width, last)
    return nn.Sequential(*layers), words, last


def draw_case(seed: int):
    """The arguments of `certify`, and a line that says what they are."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    make = pick.choice([make_dense, make_dense, make_dense, make_images, make_words])
    net, shape, last = make(pick)
    inputs: Any = shape
    rows = pick.choice([4, 30, 200, 2000]) if make is make_dense else pick.choice([6, 40])
    scale = pick.choice([1.0, 1.0, 1.0, 1e-3, 100.0, 1e4])
    if make is make_words:
        x = torch.randint(inputs, (rows, 4))
    else:
        x = (torch.randn(rows, *inputs) + pick.choice([0.0, 0.0, 5.0])) * scale
        if pick.random() < 0.2:
            x = x.round()  # many equal numbers
    name, (loss, kind) = pick.choice(list(LOSSES.items()))
    y = torch.randn(rows, last) * pick.choice([1.0, 1.0, 30.0])
    y = {"numbers": y, "bits": (y > 0).float(), "classes": torch.randint(last, (rows,))}[kind]
    optimizer, lr = pick.choice(list(OPTIMIZERS)), pick.choice([1e-2, 1e-3, 1e-4])
    batch_size = pick.choice([None, 16, 64] if rows > 200 else [None, 4, 16, 64])
    options = {
        "epochs": pick.choice([1, 2, 4]),
        "batch_size": None if batch_size is None else min(batch_size, rows),
        "shuffle": batch_size is not None and pick.random() < 0.5,
        "seed": seed,
    }
    said = f"{net}, x {tuple(x.shape)} times {scale}, {name}, {optimizer} {lr}, {options}"
    made = OPTIMIZERS[optimizer](net.parameters(), lr)
    return {"net": net, "loss": loss, "optimizer": made, "data": (x, y), **options}, said
