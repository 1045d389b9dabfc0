"""What a compiled run draws, step by step, is what torch draws: rows of each batch, each mask.

Both sides are listened to while they run: torch where it multiplies and drops, jaxnet inside the
compiled program, at every step of it.
"""

import dataclasses
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
import torchref.lecture
from jaxnet import lecture, nn
from jaxnet.certificate.bounds import SMALL_LOSSES
from jaxnet.data import Batching, DataLoader, random_split, start_epoch
from jaxnet.losses import binary_cross_entropy_with_logits
from jaxnet.train import epoch, make_train_step
from jaxnet.train.step import TrainStep
from tests.helpers import Enough, assert_close, assert_same_bits, assert_same_state
from tests.layers import assert_same_weights, build_jax, build_torch

PIXELS = lecture.PIXELS
SEEN = 100  # rows of a batch that are compared: all of a minibatch, some of a full one
BATCH, UNITS = 50, 32 + 16  # of the shuffled runs; a byte for each unit that may be dropped


class Drawn(NamedTuple):
    """Of every training step, digests of the rows that went in and of the masks, in order."""

    rows: list[int]
    masks: list[tuple[int, ...]]


def digest(array: np.ndarray) -> int:
    """Of the bytes; a mask's eight to a byte."""
    return zlib.crc32((np.packbits(array) if array.dtype == bool else array).tobytes())


@pytest.fixture
def listen_torch(monkeypatch):
    """`Drawn` of what torch does from here on in training mode."""
    drawn = Drawn([], [])
    linear, dropout = torch.nn.functional.linear, torch.nn.functional.dropout

    def hear_linear(x, *weights):
        if torch.is_grad_enabled() and x.shape[-1] == PIXELS:
            drawn.rows.append(digest(x[:SEEN].numpy()))
            drawn.masks.append(())
        return linear(x, *weights)

    def hear_dropout(x, p, training, inplace):
        y = dropout(x, p, training, inplace)
        if training:
            assert (x != 0).all(), "a zero that is kept would look dropped"
            drawn.masks[-1] += (digest((y != 0).numpy()),)
        return y

    monkeypatch.setattr(torch.nn.functional, "linear", hear_linear)
    monkeypatch.setattr(torch.nn.functional, "dropout", hear_dropout)
    return drawn


@pytest.fixture
def listen_jax(monkeypatch):
    """`Drawn` of what runs compiled from here on do in training mode."""
    drawn = Drawn([], [])
    step = TrainStep.__call__

    def hear(x, masks):
        drawn.rows.append(digest(np.asarray(x)))
        # In order of execution, which for these nets is the order of their layers' numbers.
        layers = sorted(masks, key=int)
        drawn.masks.append(tuple(digest(np.asarray(masks[name])) for name in layers))

    def tell_and_step(self, state, batch, draws=None):
        jax.debug.callback(hear, batch[0][:SEEN], draws, ordered=True)
        return step(self, state, batch, draws)

    monkeypatch.setattr(TrainStep, "__call__", tell_and_step)
    return drawn


def fresh(loss):
    """The loss as another object, so that no run compiled before is used again."""
    return lambda outputs, y: loss(outputs, y)


def test_every_step_of_the_lecture(listen_torch, listen_jax):
    """Of an eighth of the rows; `tests/slow` has the whole runs, and `dropout`."""
    assert compare_every_step("minibatch", 1, listen_torch, listen_jax, every=8) == 99


def compare_every_step(name, epochs, listen_torch, listen_jax, every=1):
    """Hold rows and masks of a run against torch's; how many steps there were."""
    train, test = jaxnet.data.load_mnist(lecture.EXPERIMENTS[name].classes)
    data = train._replace(images=train.images[::every], labels=train.labels[::every]), test
    experiment = lecture.EXPERIMENTS[name]
    experiment = dataclasses.replace(experiment, epochs=epochs, loss=fresh(experiment.loss))
    result = lecture.run(experiment, data)

    def count(*_):
        if len(listen_torch.rows) == result.state.step:
            raise Enough

    with pytest.raises(Enough):
        torchref.lecture.run(name, data, watch=count)
    jax.effects_barrier()
    assert len(listen_jax.rows) == result.state.step == result.record["steps"]
    assert listen_jax == listen_torch
    assert len(set(listen_jax.masks)) == len(listen_jax.masks), "every step has its own mask"
    return len(listen_jax.rows)


def make_wide(n, s):
    layers = n.Linear(PIXELS, 32), n.Dropout(0.15), n.Linear(32, 16), n.Dropout(0.42)
    return s(*layers, n.Linear(16, 1))


def test_every_step_of_shuffled_epochs(listen_torch, listen_jax, monkeypatch):
    """Some of the lecture's rows in batches of 50, shuffled anew each epoch, with two dropouts.

    Memory holds the masks of seven batches at a time.
    """
    compare_shuffled(515, False, 7, listen_torch, listen_jax, monkeypatch)


def compare_shuffled(rows, own, ahead, listen_torch, listen_jax, monkeypatch):
    monkeypatch.setattr(epoch, "DRAWN", ahead * BATCH * UNITS)
    data, _ = jaxnet.data.load_mnist((0, 1))
    picked = np.linspace(0, len(data.images) - 1, rows).astype(int)
    x, y = data.images[picked], data.labels[picked, None].astype(np.float32)
    torch.manual_seed(-9)
    its_own = torch.Generator().manual_seed(2**63)
    dataset = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    options: Any = {"batch_size": BATCH, "shuffle": True, "generator": its_own if own else None}
    loader = torch.utils.data.DataLoader(dataset, **options)
    net = build_torch(make_wide)
    for _ in range(2):
        for xi, _ in loader:
            net(xi)
    seed = jaxnet.random.manual_seed(2**63) if own else None
    loader = DataLoader((x, y), batch_size=BATCH, shuffle=True, generator=seed)
    options = {"optimizer": jaxnet.optim.sgd(), "epochs": 2, "seed": -9}
    loss = fresh(binary_cross_entropy_with_logits)
    state, _ = jaxnet.fit(build_jax(make_wide), loader, loss=loss, **options)
    jax.effects_barrier()
    steps = 2 * -(-rows // BATCH)
    assert len(listen_jax.rows) == len(set(listen_jax.rows)) == steps
    assert listen_jax == listen_torch
    assert_same_state(state.generator)


ROWS = 41


def make_small(n, s):
    layers = n.Linear(6, 8), n.Dropout(0.3), n.ReLU(), n.Linear(8, 4), n.Dropout(0.5)
    return s(*layers, n.Linear(4, 1))


def test_a_users_script(seed=-7):
    """Side by side, line by line, with the whole state compared after every line that draws."""
    torch.manual_seed(seed)
    generator = jaxnet.random.manual_seed(seed)

    x_torch = torch.randn(ROWS, 6)
    generator, x = jaxnet.random.normal(generator, (ROWS, 6))
    assert_same_bits(x, x_torch)
    y_torch = torch.randint(0, 2, (ROWS, 1)).float()
    generator, y = jaxnet.random.randint(generator, 0, 2, (ROWS, 1))
    assert_same_bits(y.astype(np.float32), y_torch)
    y = y.astype(jnp.float32)
    noise = torch.randn(7)  # an odd number of few: one is kept for later
    generator, values = jaxnet.random.normal(generator, (7,))
    assert_same_bits(values, noise)
    assert_same_state(generator)

    net_torch: Any = build_torch(make_small)
    net = build_jax(make_small)
    generator, variables = jaxnet.init(net, generator)
    assert_same_weights(variables, net_torch)
    assert_same_state(generator)

    dataset = torch.utils.data.TensorDataset(x_torch, y_torch)
    train_torch, test_torch = torch.utils.data.random_split(dataset, [0.8, 0.2])
    generator, (train, test) = random_split(generator, ROWS, [0.8, 0.2])
    assert train.tolist() == list(train_torch.indices)
    assert test.tolist() == list(test_torch.indices)
    assert_same_state(generator)

    optimizer_torch = torch.optim.Adam(net_torch.parameters())
    loader = torch.utils.data.DataLoader(train_torch, batch_size=8, shuffle=True)
    optimizer, batching = jaxnet.optim.adam(), Batching(len(train), 8, shuffle=True)
    # Compiled, as a user would: primitive by primitive it is two hundred programs.
    step = jax.jit(make_train_step(net, binary_cross_entropy_with_logits, optimizer))
    draw = jax.jit(lambda generator, x: nn.draw(net, generator, x))
    begin = jax.jit(start_epoch, static_argnums=1)
    state = jaxnet.train.start(optimizer, variables, generator)
    dropped: dict[str, Any] = {}
    for name in ("1", "4"):
        net_torch[int(name)].register_forward_hook(
            lambda module, args, y, name=name: dropped.update({name: y != 0})
        )
    losses = []
    for _ in range(2):
        net_torch.train()
        taken, order = begin(state.generator, batching)
        assert order is not None
        state = state._replace(generator=taken)
        for number, (xi_torch, yi_torch) in enumerate(loader):
            rows = train[order[8 * number : 8 * number + 8]]
            assert_same_bits(x[rows], xi_torch, where=f"batch {number}")
            assert_same_state(state.generator)
            logits = net_torch(xi_torch)
            loss_torch = torch.nn.functional.binary_cross_entropy_with_logits(logits, yi_torch)
            optimizer_torch.zero_grad()
            loss_torch.backward()
            optimizer_torch.step()
            _, masks = draw(state.generator, x[rows])
            state, info = step(state, (x[rows], y[rows]))
            assert_same_bits(masks["1"], dropped["1"])
            assert_same_bits(masks["4"], dropped["4"])
            losses.append((float(info.loss), loss_torch.item()))
        assert len(train) % 8 == 1, "the last batch is short"
        net_torch.eval()
        for part_torch, part in ((train_torch, train), (test_torch, test)):
            batches = list(torch.utils.data.DataLoader(part_torch, batch_size=8))
            taken, order = begin(state.generator, Batching(len(part), 8))
            state = state._replace(generator=taken)
            assert order is None
            assert_same_bits(x[part], torch.cat([xi for xi, _ in batches]))
            assert_same_state(state.generator)
    losses_jax, losses_torch = np.array(losses).T
    assert_close(losses_jax, losses_torch, SMALL_LOSSES)
