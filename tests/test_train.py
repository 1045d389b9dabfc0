"""`fit`: torch scripts followed loss by loss, cuts that change no bit, what is rejected."""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
import jaxnet.train.loop
from jaxnet import nn
from jaxnet.callbacks import Report, Stop
from jaxnet.certificate.bounds import SMALL_LOSSES, TRAJECTORY
from jaxnet.data import Batching, DataLoader, start_epoch
from jaxnet.train import start
from tests.helpers import assert_close, assert_same_bits, assert_same_state
from tests.tiny import ACCURACY, ADAM, LINEAR, LOSS, NET, ROWS, SGD, X, Y

CHEAP: dict[str, Any] = {"net": LINEAR, "optimizer": SGD}
"""For what is asked of loaders alone."""


def fit(**changes):
    arguments = {"loss": LOSS, "optimizer": ADAM, "epochs": 6, "seed": 1}
    data = changes.pop("data", (X, Y))
    net = changes.pop("net", NET)
    return jaxnet.fit(net, data, **(arguments | changes))


def assert_same_tree(actual, expected) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_same_bits(one, other)


def build_torch() -> torch.nn.Sequential:
    """`NET` in torch, with weights from its stream as it is."""
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Dropout(0.4), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )


def torch_epoch(net, optimizer, loader) -> list[float]:
    """An epoch of a user's loop: every loss."""
    losses = []
    for x, y in loader:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def torch_run(epochs: int, report_loader: bool = False, dtype=torch.float32, **options: Any):
    """A user's script: seed, net, loader, loop; what it leaves is torch's stream and its losses."""
    torch.manual_seed(1)
    net = build_torch().to(dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    data = torch.utils.data.TensorDataset(*(torch.tensor(part).to(dtype) for part in (X, Y)))
    loader = torch.utils.data.DataLoader(data, **options)
    seen: list[float] = []
    for _ in range(epochs):
        seen += torch_epoch(net, optimizer, loader)
        if report_loader:
            list(torch.utils.data.DataLoader(data, batch_size=options["batch_size"]))
    return np.array(seen)


QUICK_BATCHES = [(8, False, True), (8, True, False), (40, True, True)]
QUICK_LOADERS = [(False, True, False), (True, True, True)]
"""The others are in `tests/slow`: each compiles a program."""


@pytest.mark.parametrize(("batch_size", "shuffle", "report_loader"), QUICK_BATCHES)
def test_minibatches_follow_a_torch_script(batch_size, shuffle, report_loader):
    """Short last batches, shuffles, masks and reports: every loss, and the stream afterwards."""
    options = {"batch_size": batch_size, "shuffle": shuffle}
    expected = torch_run(3, report_loader, **options)
    state, history = fit(epochs=3, callbacks=[Report(loader=report_loader)], **options)
    assert_close(history.losses.astype(np.float64), expected, SMALL_LOSSES)
    assert_same_state(state.generator)
    assert state.step == len(expected) == len(history.losses)


@pytest.mark.parametrize(("shuffle", "drop_last", "own"), QUICK_LOADERS)
def test_a_data_loader_follows_a_torch_script(shuffle, drop_last, own):
    """One that drops its short batch, and one with a generator of its own, cut in two runs."""
    options = {"batch_size": 8, "shuffle": shuffle, "drop_last": drop_last}
    its_own = torch.Generator().manual_seed(5)
    expected = torch_run(3, **options, generator=its_own if own else None)
    loader = DataLoader((X, Y), **options, generator=jaxnet.random.manual_seed(5) if own else None)
    state, first = fit(data=loader, epochs=2)
    state, last = fit(data=loader, epochs=1, seed=None, state=state)
    both = np.concatenate([first.losses, last.losses]).astype(np.float64)
    assert_close(both, expected, SMALL_LOSSES)
    assert_same_state(state.generator)
    assert (state.loader_generator is None) != own
    if own:
        assert_same_bits(jaxnet.random.get_state(state.loader_generator), its_own.get_state())


def test_persistent_workers_stay_over_a_cut_and_on_disk(tmp_path):
    loader = DataLoader((X, Y), 8, shuffle=True, persistent_workers=True)
    np.save(tmp_path / "x.npy", X)
    on_disk = loader._replace(data=(np.load(tmp_path / "x.npy", mmap_mode="r"), Y))
    whole, _ = fit(data=loader, epochs=3, **CHEAP)
    assert_same_tree(fit(data=on_disk, epochs=3, **CHEAP)[0].generator, whole.generator)
    state, _ = fit(data=loader, epochs=1, **CHEAP)
    assert_same_tree(fit(data=loader, epochs=2, seed=None, state=state, **CHEAP)[0], whole)
    other, _ = fit(data=loader._replace(persistent_workers=False), epochs=3, **CHEAP)
    assert not np.array_equal(other.generator.position, whole.generator.position)


def test_a_loader_of_another_seed_does_not_take_over_in_silence():
    loader = DataLoader((X, Y), batch_size=8, shuffle=True, generator=jaxnet.random.manual_seed(5))
    state, _ = fit(data=loader, epochs=1, **CHEAP)
    other = loader._replace(generator=jaxnet.random.manual_seed(6))
    with pytest.raises(ValueError, match="a loader with another seed"):
        fit(data=other, epochs=1, seed=None, state=state, **CHEAP)
    state = state._replace(loader_generator=None)
    anew, _ = fit(data=other, epochs=1, seed=None, state=state, **CHEAP)
    expected, _ = start_epoch(other.generator, Batching(ROWS, 8, shuffle=True, own=True))
    assert_same_tree(anew.loader_generator, expected)


def test_a_generator_as_seed_goes_on_from_where_it_is():
    generator, _ = jaxnet.random.uniform(jaxnet.random.manual_seed(1), (7,))
    torch.manual_seed(1)
    torch.rand(7)
    net = torch.nn.Linear(6, 8)
    state, _ = fit(seed=generator, epochs=1)
    assert float(start_of(generator).params["0"]["weight"][0, 0]) == net.weight[0, 0].item()
    assert state.step == 1


def start_of(generator):
    generator, variables = jaxnet.init(NET, generator)
    return start(ADAM, variables, generator)


def test_a_cards_masks_are_those_of_its_stream():
    """With `device="cuda"` weights are the CPU's and masks the card's, wherever the run is."""
    generator = jaxnet.random.manual_seed(1, device="cuda")
    _, history = fit(seed=generator, epochs=1)
    state = start_of(generator)
    _, keep = jaxnet.random.dropout_mask(state.generator, 0.4, (ROWS, 8))

    @jax.jit
    def compute_loss(params, keep):
        return LOSS(NET.apply({"params": params}, X, train=True, draws={"1": keep}), jnp.asarray(Y))

    np.testing.assert_allclose(history.losses[0], compute_loss(state.params, keep), rtol=1e-6)
    assert_same_tree(state.params, start_of(jaxnet.random.manual_seed(1)).params)
    assert history.losses[0] != fit(epochs=1)[1].losses[0]


def test_a_short_last_batch_counts_as_its_own_mean():
    """41 rows in batches of 40: the second loss is that of one row alone."""
    net = nn.Sequential([nn.Linear(6, 1)])
    state, history = fit(net=net, epochs=1, batch_size=40)
    before, _ = fit(net=net, data=(X[:40], Y[:40]), epochs=1)
    alone = jax.jit(LOSS)(jaxnet.predict(net, before, X[40:]), Y[40:])
    assert history.losses[1] == pytest.approx(float(alone), rel=TRAJECTORY.rtol)


def test_a_report_is_of_the_state_after_the_epoch_and_the_loss_before_its_last_update():
    state, history = fit(epochs=4, batch_size=8, callbacks=[Report(2, ACCURACY)])
    assert [report.loss for report in history.reports] == [history.losses[11], history.losses[23]]
    assert history.reports[1].metrics == jaxnet.evaluate(NET, state, (X, Y), metrics=ACCURACY)
    assert history.compile_seconds > 0 and history.run_seconds > 0


@pytest.mark.parametrize("around", [(), (Report(every=2**62),)])
def test_epochs_without_end_begin_at_once_and_end_where_a_callback_says(around, monkeypatch):
    """A callback that names no epoch, and one that names none in reach."""
    monkeypatch.setattr(jaxnet.train.loop, "_PAUSE", 0.01)

    def stop(chunk):
        seen.append(chunk.epoch)
        if len(seen) == 3:
            raise Stop

    seen: list[int] = []
    state, history = fit(epochs=10**12, callbacks=[*around, stop])
    assert state.step == len(history.losses) == seen[-1]
    assert_same_bits(history.losses[:9], fit(epochs=9)[1].losses[: len(history.losses)])


def test_no_state_counts_more_steps_than_int32_has():
    """Twelve steps before that, of six an epoch, two epochs are left."""
    state, _ = fit(epochs=1, batch_size=8)
    state = state._replace(step=jax.numpy.int32(2**31 - 1 - 13))
    options = {"seed": None, "state": state, "batch_size": 8}
    assert fit(epochs=2, **options)[0].step == 2**31 - 2
    seen: list[int] = []
    message = "epochs must be at most 2 here, not 3: a state counts its steps in int32"
    for around in ([], [lambda chunk: seen.append(chunk.epoch)]):
        with pytest.raises(ValueError, match=message):
            fit(epochs=3, callbacks=around, **options)
    assert seen == [2] or seen == [1, 2]


def test_nets_without_weights_run():
    for seed in (1, jax.random.key(1)):
        state, history = fit(net=nn.Sequential([nn.ReLU()]), data=(Y, Y), seed=seed, epochs=2)
        assert state.step == 2 and history.losses[0] == history.losses[1]


def test_two_seeds_differ():
    for seeds in ((1, 2), map(jax.random.key, (1, 2))):
        first, second = (fit(seed=seed, epochs=1, **CHEAP)[1].losses[0] for seed in seeds)
        assert first != second


class Silent(flax.linen.Module):
    """Drops units, and has no argument by which it could be told which."""

    @flax.linen.compact
    def __call__(self, x, train=False):
        return nn.Linear(6, 1)(nn.Dropout(0.5)(x, train=train))


def test_a_net_that_draws_must_take_its_draws():
    state = start(ADAM, Silent().init(jax.random.key(0), X), jaxnet.random.manual_seed(0))
    with pytest.raises(TypeError, match="unexpected keyword argument 'draws'"):
        jaxnet.fit(Silent(), (X, Y), loss=LOSS, optimizer=ADAM, epochs=1, state=state)


def test_a_state_and_data_on_two_devices_are_rejected_and_may_be_moved():
    here, there = jax.devices()[:2]
    state, _ = fit(data=jax.device_put((X, Y), here), **CHEAP)
    away, resumed = jax.device_put((X, Y), there), CHEAP | {"seed": None, "state": state}
    for call, name in [
        (lambda: jaxnet.predict(LINEAR, state, away[0]), "x"),
        (lambda: jaxnet.evaluate(LINEAR, state, away, metrics=ACCURACY), "x"),
        (lambda: fit(data=away, **resumed), "x"),
        (lambda: fit(data=(X, away[1]), **resumed), "y"),
    ]:
        message = f"state is on cpu:0 but {name} is on cpu:1: move one of them, with jax.device_put"
        with pytest.raises(ValueError, match=message):
            call()
    moved = jaxnet.predict(LINEAR, jax.device_put(state, there), away[0])
    assert moved.devices() == {there}
    assert_same_bits(moved, jaxnet.predict(LINEAR, state, jax.device_put(away[0], here)))
    other, _ = fit(data=away, **CHEAP)
    assert other.params["0"]["weight"].devices() == {there}
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.device_put((X[:40], Y[:40]), jax.NamedSharding(mesh, jax.P("rows")))
    assert_same_tree(fit(data=rows, **CHEAP)[0].generator, state.generator)


def test_a_key_on_another_device_than_the_data_is_rejected():
    data, key = jax.device_put((X, Y), jax.devices()[0]), jax.random.key(0)
    key = jax.device_put(key, jax.devices()[1])
    with pytest.raises(ValueError, match="seed is on cpu:1 but x is on cpu:0: move one of them"):
        jaxnet.fit(NET, data, loss=LOSS, optimizer=ADAM, epochs=1, seed=key)
