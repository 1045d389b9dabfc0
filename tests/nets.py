"""torch nets of the layers that jaxnet translates: one of each, and random ones."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

Net = tuple[torch.nn.Sequential, torch.Tensor]

_VECTOR = [
    torch.nn.Flatten, torch.nn.Identity, lambda: torch.nn.Dropout(0.42), torch.nn.ReLU,
    lambda: torch.nn.LeakyReLU(0.3), lambda: torch.nn.ELU(0.7), torch.nn.GELU,
    lambda: torch.nn.GELU(approximate="tanh"), torch.nn.SiLU, torch.nn.Sigmoid,
    torch.nn.LogSigmoid, torch.nn.Tanh, lambda: torch.nn.Softplus(2.0, 5.0),
    lambda: torch.nn.Softmax(dim=1), lambda: torch.nn.LogSoftmax(dim=-1),
    lambda: torch.nn.LayerNorm(6), lambda: torch.nn.BatchNorm1d(6),
    lambda: torch.nn.BatchNorm1d(6, momentum=None),
    lambda: torch.nn.LayerNorm(6, eps=1e-3, bias=False),
    lambda: torch.nn.BatchNorm1d(6, affine=False), lambda: torch.nn.Linear(6, 6, bias=False),
    lambda: torch.nn.BatchNorm1d(6, track_running_stats=False),
]  # fmt: skip

_IMAGE = [
    lambda: torch.nn.Conv2d(4, 4, 3, padding=1),
    lambda: torch.nn.Conv2d(4, 4, 3, padding="same", groups=2, bias=False),
    lambda: torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    lambda: torch.nn.BatchNorm2d(4), torch.nn.ReLU, lambda: torch.nn.Dropout(0.15),
    lambda: torch.nn.MaxPool2d(3, stride=1, padding=1),
    lambda: torch.nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    lambda: torch.nn.GELU(), lambda: torch.nn.AdaptiveAvgPool2d((5, None)),
]  # fmt: skip


def vector(*layers: torch.nn.Module) -> Net:
    """A net of layers that take and give six features."""
    net = torch.nn.Sequential(torch.nn.Linear(5, 6), *layers, torch.nn.Linear(6, 2))
    return net, torch.randn(7, 5)


def images(*layers: torch.nn.Module) -> Net:
    """A net of layers that take and give images of four channels, 6 by 6 but for pools."""
    first, pool = torch.nn.Conv2d(1, 4, 3, stride=1, padding=1), torch.nn.AdaptiveAvgPool2d(2)
    last = torch.nn.Flatten(), torch.nn.Linear(16, 2)
    return torch.nn.Sequential(first, *layers, pool, *last), torch.randn(6, 1, 6, 6)


def words() -> Net:
    """Two words in, as numbers."""
    table = torch.nn.Embedding(9, 3, padding_idx=2)
    net = torch.nn.Sequential(table, torch.nn.Flatten(), torch.nn.Linear(6, 2))
    return net, torch.randint(9, (7, 2))


NETS: dict[str, Callable[[], Net]] = {
    "linear": lambda: (torch.nn.Linear(5, 2), torch.randn(7, 5)),  # pyright: ignore
    "in_place": lambda: vector(torch.nn.Dropout(0.5, inplace=True), torch.nn.ReLU(inplace=True)),
    "lecture": lambda: vector(torch.nn.Dropout(0.9), torch.nn.ReLU()),
    "nested": lambda: vector(
        torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Sequential(torch.nn.Linear(6, 6))),
        torch.nn.Sequential(),
        torch.nn.Dropout(0.04),
    ),
    **{
        f"vector_{number}": lambda layer=layer: vector(layer())
        for number, layer in enumerate(_VECTOR)
    },
    "batch_norm": lambda: vector(torch.nn.BatchNorm1d(6), torch.nn.Tanh()),
    "one_dropout_twice": lambda: (lambda d: vector(d, torch.nn.Tanh(), d))(torch.nn.Dropout(0.2)),
    "images": lambda: images(*(layer() for layer in _IMAGE)),
    "words": words,
}


def build_random_net(draw: Callable[[Any], Any]) -> Net:
    """A net drawn by hypothesis, with weights and data of a drawn seed."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    kind = draw(st.sampled_from(["vector", "vector", "images", "words"]))
    if kind == "words":
        return words()
    kinds, make = (_VECTOR, vector) if kind == "vector" else (_IMAGE, images)
    layers = [kinds[i]() for i in draw(st.lists(st.integers(0, len(kinds) - 1), max_size=4))]
    if layers and draw(st.booleans()):
        cut = draw(st.integers(0, len(layers) - 1))
        layers = [*layers[:cut], torch.nn.Sequential(*layers[cut:])]
    return make(*layers)
