"""Right nets, drawn at random: none may be said to diverge, and nearly all must be compared.

`JAXNET_SEED` draws others; the seed is printed.
"""

import os
import random
from typing import Any

import pytest
import torch
from torch import nn

from torchref.certification import certify

COUNT, PART = 200, 20
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


@pytest.mark.parametrize("part", range(COUNT // PART))
def test_right_nets_agree(part, record_property):
    begin = int(os.environ.get("JAXNET_SEED", "0")) + part * PART
    print("seeds from", begin)
    others, worst = [], ("", 0.0)
    for seed in range(begin, begin + PART):
        arguments, said = draw_case(seed)
        found = certify(**arguments)
        assert found.verdict != "DIVERGE", f"seed {seed}: {said}\n{found}"
        if not found.agrees:
            others.append(f"seed {seed}: {str(found).splitlines()[0]}")
        share = max(stage.share for stage in found.stages.values())
        worst = max(worst, (f"seed {seed}", share), key=lambda pair: pair[1])
    for name, value in (("undecided", others), ("largest share of a bound", worst)):
        record_property(name, value)
        print(f"{name}:", value)
    assert len(others) <= 0.05 * PART, others
