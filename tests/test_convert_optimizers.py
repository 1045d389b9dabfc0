"""torch's optimizers, schedulers and running state as jaxnet's, and back."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import optax
import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler

import jaxnet
from jaxnet import convert
from jaxnet.certificate.bounds import FINAL_WEIGHTS, STEP, TRAJECTORY
from jaxnet.convert.optimizers import label_parameters
from jaxnet.convert.state import from_tensors
from tests.helpers import assert_close, assert_same_bits, each_row, to_numpy
from tests.layers import rows
from tests.test_train import assert_same_tree, torch_epoch
from torchref.handover import to_torch

OPTIMIZERS = {
    "sgd": partial(optim.SGD, lr=0.1),
    "sgd_all": partial(
        optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01, maximize=True
    ),
    "nesterov": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(optim.Adam, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "amsgrad": partial(optim.Adam, amsgrad=True, maximize=True),
    "decoupled": partial(optim.Adam, decoupled_weight_decay=True, weight_decay=0.1),
    "adamw": partial(optim.AdamW, weight_decay=0.2),
    "rmsprop": partial(optim.RMSprop, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.01),
    "adagrad": partial(
        optim.Adagrad, lr_decay=0.1, initial_accumulator_value=0.2, weight_decay=0.01
    ),
    "tensors": partial(optim.Adam, lr=torch.tensor(0.01)),
}

SCHEDULERS = {
    "step": partial(lr_scheduler.StepLR, step_size=2, gamma=0.5),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.7),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=4, eta_min=1e-3),
    "lambda": partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch)),
}


def mlp() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def grouped(optimizer, net):
    """Three groups, one of them frozen, one parameter left out."""
    net[0].bias.requires_grad_(False)
    second = {"params": [net[2].weight, net[0].bias], "weight_decay": 0.3}
    return optimizer([{"params": [net[0].weight], "lr": 0.05}, second])


def hold_side_by_side(net, optimizer, translated, *, steps=4, after=lambda: None):
    """torch's gradients through both optimizers: each update against torch's."""
    params = convert.from_torch(net)[1]["params"]
    opt_state = translated.init(params)
    for step in range(steps):
        x = torch.tensor(rows(8, 5, seed=step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        before = convert.from_torch(net)[1]["params"]
        named = net.named_parameters()
        slopes = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in named}
        grads = from_tensors(slopes)["params"]
        updates, opt_state = translated.update(grads, opt_state, before)
        optimizer.step()
        after()
        expected = net.state_dict()
        changes = convert.to_state_dict({"params": updates})
        after_jax = convert.to_state_dict({"params": optax.apply_updates(before, updates)})
        for key, weight in after_jax.items():
            ulp = np.spacing(np.abs(to_numpy(expected[key])))
            moved = np.abs(changes[key])
            gap = np.abs(weight - to_numpy(expected[key]))
            assert np.all(gap <= 2 * ulp + 4 * STEP.rtol * moved), (key, step)
    return opt_state


ROWS = [
    *((name, False, None) for name in OPTIMIZERS),
    ("rmsprop", True, None),
    *zip(["sgd_all", "adam", "adagrad", "sgd_all"], itertools.repeat(True), SCHEDULERS),
]


@each_row("name, groups, schedule", ROWS)
def test_optimizers_keep_their_options(name, groups, schedule):
    """With groups and frozen parameters, and with a scheduler: two steps an epoch, five epochs."""
    torch.manual_seed(1)
    net = mlp()
    optimizer = grouped(OPTIMIZERS[name], net) if groups else OPTIMIZERS[name](net.parameters())
    if groups:
        expected = {"0.weight": "0", "0.bias": "frozen", "2.weight": "1", "2.bias": "frozen"}
        assert label_parameters(optimizer, net) == expected
    scheduler = None if schedule is None else SCHEDULERS[schedule](optimizer)
    counts: Any = {} if schedule is None else {"steps_per_epoch": 2, "epochs": 5}
    translated = convert.optimizer_from_torch(optimizer, net, scheduler=scheduler, **counts)
    after = itertools.cycle([lambda: None, scheduler.step if scheduler else lambda: None])
    steps = 10 if scheduler else 4
    hold_side_by_side(net, optimizer, translated, steps=steps, after=lambda: next(after)())


def by_hand(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 5)
    optimizer.param_groups[0]["lr"] = 0.05
    return optimizer, scheduler


@each_row(
    "build, message",
    [
        (lambda net: (torch.optim.LBFGS(net.parameters()), None), "optimizer is torch.optim.lbfgs"),
        (by_hand, "group 0 has lr 0.05, but its StepLR gives 0.1"),
        (lambda net: (by_hand(net)[0], by_hand(net)[1]), "scheduler is another optimizer's"),
        (
            lambda net: (o := torch.optim.SGD(net.parameters()), lr_scheduler.LinearLR(o)),
            "LinearLR, which has no translation(?s:.*)supported: StepLR",
        ),
    ],
)
def test_optimizers_without_a_translation(build, message):
    net = mlp()
    optimizer, scheduler = build(net)
    with pytest.raises(convert.Unsupported, match=message):
        convert.optimizer_from_torch(optimizer, net, scheduler=scheduler)


def example():
    """A net with everything that a run carries: dropout, buffers, moments, a schedule."""
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8, bias=False),  # under Adam, a bias here would be moved by rounding
        torch.nn.BatchNorm1d(8),
        torch.nn.Dropout(0.3),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 1),
    )


DATA = (rows(50, 6), (rows(50, 1, seed=9) > 0).astype(np.float32))


def train_torch(net, optimizer, scheduler, epochs, own=None):
    """The loop of the lecture's section 1D, shuffled."""
    data = torch.utils.data.TensorDataset(*map(torch.tensor, DATA))
    loader = torch.utils.data.DataLoader(data, 8, shuffle=True, generator=own)
    losses = []
    for _ in range(epochs):
        net.train()
        losses += torch_epoch(net, optimizer, loader)
        scheduler.step()
    return losses


HANDED = {
    "sgd": partial(optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "rmsprop": OPTIMIZERS["rmsprop"],
    "adagrad": OPTIMIZERS["adagrad"],
}
QUICK = [("amsgrad", True)]
"""The others are handed over in `tests/slow`."""


def begin(name):
    torch.manual_seed(7)
    net = example()
    optimizer = HANDED[name](net.parameters())
    return net, optimizer, lr_scheduler.StepLR(optimizer, 2, 0.5)


@pytest.mark.parametrize("name, own", QUICK)
def test_a_run_is_handed_over_between_epochs_and_back(name, own, tmp_path):
    """One epoch in torch, two in jaxnet through a file, two in torch: as five in torch."""
    whole = begin(name)
    loader_generator = torch.Generator().manual_seed(3) if own else None
    losses = train_torch(*whole, 5, loader_generator)
    state_after = torch.get_rng_state()

    net, optimizer, scheduler = begin(name)
    loader_generator = torch.Generator().manual_seed(3) if own else None
    found = train_torch(net, optimizer, scheduler, 1, loader_generator)
    counts: Any = {"steps_per_epoch": 7, "epochs": 5}
    translated = convert.optimizer_from_torch(optimizer, net, scheduler=scheduler, **counts)
    jnet, _ = convert.from_torch(net)
    its_own = None if loader_generator is None else loader_generator.get_state()
    state = convert.train_state_from_torch(
        net, optimizer, translated, torch.get_rng_state(), step=7, loader_generator=its_own
    )
    convert.save_train_state(tmp_path / "run.safetensors", state)
    again = convert.load_train_state(tmp_path / "run.safetensors", like=state)
    assert_same_tree(again, state)
    own_jax = jaxnet.random.manual_seed(3) if own else None
    loader = jaxnet.data.DataLoader(DATA, 8, shuffle=True, generator=own_jax)
    loss = jaxnet.losses.binary_cross_entropy_with_logits
    state, history = jaxnet.fit(
        jnet, loader, loss=loss, optimizer=translated, epochs=2, state=again
    )
    found += list(map(float, history.losses))

    net, optimizer, scheduler = begin(name)  # built anew: what they hold is the state's
    other = torch.Generator() if own else None
    to_torch(state, net, optimizer, scheduler=scheduler, epochs=3, loader_generator=other)
    found += train_torch(net, optimizer, scheduler, 2, other)
    assert torch.equal(torch.get_rng_state(), state_after)
    assert_close(np.array(found), np.array(losses), TRAJECTORY)
    ended = whole[0].state_dict().values()
    for (key, weight), expected in zip(net.state_dict().items(), ended, strict=True):
        scale = float(expected.double().abs().max())
        assert float((weight - expected).abs().max()) <= FINAL_WEIGHTS.rtol * scale, key


def test_optimizer_state_goes_to_torch_and_back():
    net, optimizer, scheduler = begin("rmsprop")
    train_torch(net, optimizer, scheduler, 1)
    translated = convert.optimizer_from_torch(optimizer, net)
    like = translated.init(convert.from_torch(net)[1]["params"])
    opt_state = convert.opt_state_from_torch(optimizer, net, like)
    saved = convert.opt_state_to_torch(opt_state, optimizer, net)
    expected = optimizer.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    assert saved["state"].keys() == expected["state"].keys()
    for index, values in expected["state"].items():
        assert saved["state"][index].keys() == values.keys()
        for key, value in values.items():
            assert_same_bits(saved["state"][index][key], value, where=key)


def test_parameters_that_have_done_different_numbers_of_steps_are_refused():
    net = mlp()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    optimizer.state[dict(net.named_parameters())["0.bias"]]["step"] += 1
    like = convert.optimizer_from_torch(optimizer, net).init(convert.from_torch(net)[1]["params"])
    with pytest.raises(ValueError, match=r"have done \[1.0, 2.0\] steps"):
        convert.opt_state_from_torch(optimizer, net, like)
