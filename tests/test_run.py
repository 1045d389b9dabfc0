"""`jaxnet.train.run`: steps of one's own, two nets that take turns among them."""

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import jaxnet
import jaxnet.train.epoch
from jaxnet import cache
from jaxnet.callbacks import Checkpoint, NanGuard, Report
from jaxnet.certificate.bounds import SMALL_LOSSES
from jaxnet.data import InMemory
from jaxnet.train import make_draws, make_train_step, start
from tests.helpers import assert_close, assert_same_state, compilations
from tests.test_checkpoint import assert_same_run
from tests.tiny import ADAM, LOSS, NET, X, Y

EXAMPLE = Path(__file__).parent.parent / "examples" / "two_nets.py"


@pytest.fixture(scope="module")
def two_nets():
    """The names of `examples/two_nets.py`."""
    return runpy.run_path(str(EXAMPLE))


def train_in_torch(points: np.ndarray, epochs: int) -> np.ndarray:
    """The same two nets as a torch script has them; the discriminator's losses."""
    torch.manual_seed(1)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    generator = torch.nn.Sequential(linear(4, 16), relu(), linear(16, 2))
    discriminator = torch.nn.Sequential(linear(2, 16), relu(), linear(16, 1))
    adams = [
        torch.optim.Adam(net.parameters(), lr)
        for net, lr in [(generator, 2e-3), (discriminator, 5e-3)]
    ]
    data = torch.utils.data.TensorDataset(torch.tensor(points))
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    ones, zeros, losses = torch.ones(64, 1), torch.zeros(64, 1), []
    for _ in range(epochs):
        for (real,) in loader:
            noise = torch.randn(64, 4)
            loss = binary_cross_entropy_with_logits(discriminator(real), ones)
            made = discriminator(generator(noise).detach())
            loss = loss + binary_cross_entropy_with_logits(made, zeros)
            adams[1].zero_grad()
            loss.backward()
            adams[1].step()
            adams[0].zero_grad()
            judged = discriminator(generator(noise))
            binary_cross_entropy_with_logits(judged, ones).backward()
            adams[0].step()
            losses.append(loss.item())
    return np.array(losses)


def test_two_nets_that_take_turns_follow_a_torch_script(two_nets):
    """Weights, orders and noise are torch's; every loss, and the stream afterwards."""
    expected = train_in_torch(two_nets["POINTS"], 3)
    state, history = two_nets["train"](3)
    assert_close(history.losses.astype(np.float64), expected, SMALL_LOSSES)
    assert_same_state(state.generator)
    assert state.step == len(expected)


def test_two_nets_are_saved_resumed_guarded_and_reported(two_nets, tmp_path):
    """The same bits as the plain run, whatever is called around it and wherever it is cut."""
    train, plain = two_nets["train"], two_nets["train"](7)

    def around():
        return NanGuard(), Report(2), Checkpoint(tmp_path, resume=True)

    train(3, *around())
    state, history = train(7, *around())
    assert [(report.epoch, report.loss) for report in history.reports] == [
        (epoch, history.losses[8 * epoch - 1]) for epoch in (2, 4, 6)
    ]
    assert_same_run((state, history._replace(reports=())), plain)


def test_noise_made_in_several_chunks_is_that_made_at_once(two_nets, monkeypatch):
    """1 KiB of noise a step: chunks of 3 of eight steps."""
    whole = two_nets["train"](2)
    with monkeypatch.context() as patch:
        patch.setattr(jaxnet.train.epoch, "DRAWN", 3 * 1024)
        cache.clear()
        cut = two_nets["train"](2)
    cache.clear()
    assert_same_run(cut, whole)


def begin(seed: int = 1) -> Any:
    generator, variables = jaxnet.init(NET, jaxnet.random.manual_seed(seed))
    return start(ADAM, variables, generator)


def test_the_step_of_a_net_is_what_fit_trains_by():
    options: dict[str, Any] = {"batch_size": 8, "shuffle": True}
    steps = make_train_step(NET, LOSS, ADAM), begin(), (X, Y)
    found = jaxnet.train.run(*steps, draw=make_draws(NET, X), epochs=4, **options)
    expected = jaxnet.fit(NET, (X, Y), loss=LOSS, optimizer=ADAM, epochs=4, seed=1, **options)
    assert_same_run(found, expected)


def halve(weight, batch, draws):
    """A weight that is halved and moved by its batch; its loss is what it was."""
    assert draws is None
    x = batch["x"] if isinstance(batch, dict) else batch[0]
    return jax.tree.map(lambda w: w / 2 + x.mean(), weight), jax.tree.leaves(weight)[0]


@pytest.mark.parametrize("weight", [1.0, [np.float64(1.0)], {"w": jnp.asarray(1.0)}])
def test_a_state_may_be_any_tree_of_numbers(weight, tmp_path):
    """One that is no `TrainState` is its `params`; a number is an array from the first step on."""
    source = InMemory({"x": np.zeros(4, np.float32)})
    around = NanGuard(), Report(), Checkpoint(tmp_path)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 2, "seed": 0}
    with compilations() as compiled:
        state, history = jaxnet.train.run(halve, weight, source, callbacks=around, **options)
    assert compiled.count("run") <= 1
    assert jax.tree.structure(state.params) == jax.tree.structure(weight)
    np.testing.assert_array_equal(history.losses, 0.5 ** np.arange(6, dtype=np.float32))
    assert int(state.step) == 6 and float(jax.tree.leaves(state.params)[0]) == 2.0**-6


def test_a_state_of_ones_own_is_resumed():
    """What `run` gives back goes on, its step given the state alone, by a pair or by itself."""
    data = np.zeros(4, np.float32), np.zeros(4, np.float32)
    whole = jaxnet.train.run(halve, jnp.ones(()), data, epochs=4, seed=0)
    begun = jaxnet.train.run(halve, jnp.ones(()), data, epochs=2, seed=0)
    resumed = jaxnet.train.run(halve, begun, data, epochs=4)
    assert resumed[1].losses.tolist() == whole[1].losses.tolist() == [1, 0.5, 0.25, 0.125]
    alone, history = jaxnet.train.run(halve, begun[0], data, epochs=2)
    assert history.losses.tolist() == [0.25, 0.125] and int(alone.step) == 4
    with pytest.raises(TypeError, match="whose state is a TrainState"):
        jaxnet.train.run(halve, (begun[0].params, begun[1]), data, epochs=4, seed=0)


def test_a_state_of_another_precision_is_rejected():
    with jax.enable_x64(True):
        wide = jnp.ones((), jnp.float64)
    with pytest.raises(ValueError, match="state is float64 but precision is 'parity'"):
        jaxnet.train.run(halve, wide, (np.zeros(4), np.zeros(4)), epochs=1, seed=0)


def test_nan_in_the_data_is_the_steps_own_affair(tmp_path):
    """`fit` rejects it; a step of one's own may know what it means, on disk as in memory."""
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=4)
    x[:] = [np.nan, 0, 0, 0]

    def count(seen, batch, draws):
        return seen + jnp.isnan(batch[0]).sum(), seen

    for data in ((np.array(x), np.zeros(4)), (x, np.zeros(4))):
        state, _ = jaxnet.train.run(count, jnp.float32(0), data, epochs=2, batch_size=2, seed=0)
        assert float(state.params) == 2
