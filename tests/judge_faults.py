"""Faults of the training loop in trainings that once hid them: each run must be said to diverge.

No step by itself shows them, since each begins from torch's weights: a whole run does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from jaxnet.certificate import Certificate
from jaxnet.data import load_mnist
from tests.mutants import planted, replaced
from torchref import certify

STEP, EPOCH = "jaxnet/train/step.py", "jaxnet/train/epoch.py"

FAULTS: dict[str, tuple[str, str, str]] = {
    "optimizer state not carried": (STEP, "opt_state=opt_state", "opt_state=state.opt_state"),
    "updates 1% short": (
        STEP, "optax.apply_updates(state.params, updates)",
        "optax.apply_updates(state.params, jax.tree.map(lambda u: u * 0.99, updates))",
    ),
    "masks of a step used again in the next": (
        EPOCH, "return lax.scan(body, state, (batches, draws))",
        "draws = jax.tree.map(lambda keep: jnp.repeat(keep[::2], 2, 0)[:len(keep)], draws)\n"
        "        return lax.scan(body, state, (batches, draws))",
    ),
    "first batch taken twice": (
        EPOCH, "jnp.arange(batching.full, dtype=jnp.int32) * size",
        "jnp.maximum(jnp.arange(batching.full, dtype=jnp.int32) - 1, 0) * size",
    ),
    "batch before in place of the short last one": (
        EPOCH, "jnp.full(1, batching.full * size, jnp.int32)",
        "jnp.full(1, batching.full * size - size, jnp.int32)",
    ),
    "labels off by one in the short batch": (
        EPOCH, "jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, begin, count), arrays)",
        "tuple(lax.dynamic_slice_in_dim(a, begin - (off and count != size), count)"
        " for off, a in enumerate(arrays))",
    ),
}  # fmt: skip
"""Where each is planted: a file, what stands there once, and what is put in its place."""


def draw_numbers(rows: int, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Six features and three targets."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 6, generator=generator), torch.randn(rows, 3, generator=generator)


def train_relu(seed: int = 2, **options: Any) -> dict[str, Any]:
    """ReLU and Adam: units that are dead, and steps of what rounding left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    data = draw_numbers(40, seed)
    run = {"net": net, "loss": nn.MSELoss(), "optimizer": optimizer, "data": data}
    return run | {"batch_size": 8, "epochs": 4} | options


def train_dropout(**options: Any) -> dict[str, Any]:
    """The same with Dropout, in another order each epoch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    run = {"net": net, "loss": nn.MSELoss(), "optimizer": optimizer, "data": draw_numbers(96)}
    return run | {"batch_size": 8, "epochs": 3, "shuffle": True} | options


def train_to_zero() -> dict[str, Any]:
    """A linear regression that converges to a loss of 0, where rounding alone is left."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 1))
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0, 2, 3, 4, 5, 6]]).T
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5)
    run = {"net": net, "loss": nn.MSELoss(), "optimizer": optimizer, "data": (x, y)}
    return run | {"epochs": 30}


def train_readme(weight_decay: float = 0.0, batch_size: int = 16) -> dict[str, Any]:
    """README's example on 512 of its images."""
    digits, _ = load_mnist((0, 1))
    rows = np.random.default_rng(0).permutation(len(digits.labels))[:512]
    x, y = torch.tensor(digits.images[rows]), torch.tensor(digits.labels[rows, None]).float()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=weight_decay)
    run = {"net": net, "loss": nn.BCEWithLogitsLoss(), "optimizer": optimizer, "data": (x, y)}
    return run | {"epochs": 2, "batch_size": batch_size, "shuffle": True, "seed": 1}


TRAININGS: dict[str, Callable[[], dict[str, Any]]] = {
    "ReLU": train_relu,
    "ReLU, other numbers": partial(train_relu, 5),
    "ReLU, a short batch": partial(train_relu, batch_size=12),
    "converged": train_to_zero,
    "Dropout": train_dropout,
    "Dropout, ten epochs": partial(train_dropout, epochs=10),
    "README": partial(train_readme, 1e-2),
    "README without weight_decay": train_readme,
    "README without weight_decay, batches of 8": partial(train_readme, batch_size=8),
}

_README = (
    "masks of a step used again in the next",
    "updates 1% short",
    "optimizer state not carried",
)

TRIALS: list[tuple[str, str]] = [
    ("ReLU", "optimizer state not carried"),
    ("ReLU, other numbers", "optimizer state not carried"),
    ("ReLU, a short batch", "batch before in place of the short last one"),
    ("ReLU, a short batch", "labels off by one in the short batch"),
    ("converged", "optimizer state not carried"),
    ("Dropout", "masks of a step used again in the next"),
    ("Dropout", "first batch taken twice"),
    ("Dropout", "updates 1% short"),
    ("Dropout, ten epochs", "updates 1% short"),
    *((name, fault) for name in TRAININGS if name.startswith("README") for fault in _README),
]
"""A training, and the fault that it must show."""


def certify_with(training: str, fault: str | None = None) -> Certificate:
    """The certificate of a training, where the fault is planted if there is one."""
    arguments = TRAININGS[training]()
    if fault is None:
        return certify(**arguments)
    file, old, new = FAULTS[fault]
    with planted(file, replaced(file, old, new)) as changed:
        assert changed, "no function was changed"
        return certify(**arguments)
