"""Whether the run that is resumed is the same: what differs is told, what is named may change."""

import shutil
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnet
import jaxnet.checkpoint._contents
from jaxnet.callbacks import Checkpoint, Report
from jaxnet.checkpoint import CheckpointMismatchError, Checkpoints, list_epochs
from tests.helpers import each_row
from tests.test_checkpoint import (
    BASE,
    X,
    Y,
    assert_same_run,
    fit,
    five_epochs,
    folder,
    list_files,
    make_net,
    resume,
    saved,
)

__all__ = ["five_epochs", "folder", "saved"]  # fixtures


def other_loss(outputs, y):
    return BASE["loss"](outputs, y)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a run of two epochs, in which nothing is written."""
    place = tmp_path_factory.mktemp("begun") / "run"
    fit(2, Checkpoint(place))
    return place


@each_row(
    "options, message",
    [
        (dict(optimizer=jaxnet.optim.adam(2e-2)), "optimizer.lr: 0.01 in the checkpoint, 0.02 in"),
        (
            dict(loss=other_loss),
            r"loss: jaxnet\.binary_.* in the checkpoint, tests\..*other_loss in",
        ),
        (dict(report=Report()), "report_every: 2 in the checkpoint, 1 in this run"),
        (dict(report=None), "report_every: 2 in the checkpoint, nothing in this run"),
        (dict(precision="fast"), "precision: parity in the checkpoint, fast in this"),
        (dict(seed=2), r"seed: 1 in the checkpoint, 2 in this run"),
        (dict(data=(2 * X, Y)), r"data.0: .*SHA-256"),
        (dict(shuffle=False), "batches.shuffle: True in the checkpoint, False in this run"),
        (dict(batch_size=6), r"batches.batch_size: 5 in the checkpoint, 6 in this run"),
        (dict(optimizer=jaxnet.optim.sgd()), r"opt_state.*exp_avg.*nothing in this"),
        (
            dict(net=make_net(width=5)),
            r"params\['0'\]\['weight'\]: float32 \(4, 3\) in the checkpoint, float32 \(5, 3\)",
        ),
        (dict(net=make_net(p=0.4)), "net.layers.2.p: 0.5 in the checkpoint, 0.4 in"),
    ],
)
def test_another_run_is_rejected_with_the_differences(options, message, begun):
    before = list_files(begun)
    with pytest.raises(CheckpointMismatchError, match=message):
        fit(2, resume(begun), **options)
    assert list_files(begun) == before


def test_another_jax_is_named_and_takes_no_other_rate(monkeypatch, begun, folder):
    shutil.copytree(begun, folder)
    here = jax.__version__
    monkeypatch.setattr(jax, "__version__", "0.99")
    with pytest.raises(
        CheckpointMismatchError, match="lr: 0.01 in the checkpoint, 0.1 in this run"
    ):
        fit(3, resume(folder), optimizer=jaxnet.optim.adam(0.1))
    with pytest.warns(UserWarning, match=f"run/2 was written with jax {here} and now 0.99"):
        _, history = fit(3, resume(folder))
    assert len(history.losses) == 3 * 5


INJECTED = optax.inject_hyperparams(optax.adam)


def descend(optimizer: Any, epochs: int, *around: Any, **begin: Any):
    """A number that an optimizer makes smaller."""

    def step(state, batch, draws):
        weight, moments = state
        updates, moments = optimizer.update(weight, moments, weight)
        return (weight + updates, moments), weight

    begin = begin or {"state": (jnp.ones(()), optimizer.init(jnp.ones(()))), "seed": 0}
    return jaxnet.train.run(step, source=(X, Y), epochs=epochs, callbacks=around, **begin)


@pytest.mark.parametrize("make", [jaxnet.optim.adam, lambda lr: INJECTED(learning_rate=lr)])
def test_what_is_named_may_change(make, folder):
    """Also a rate that the state holds. Resumed once more, the run needs no new command."""
    state, history = descend(make(0.1), 2, Checkpoint(folder))
    weight, moments = state.params
    if make is not jaxnet.optim.adam:
        given = moments.hyperparams | {"learning_rate": jnp.float32(0.2)}
        moments = moments._replace(hyperparams=given)
    whole = descend(make(0.2), 6, state=(state._replace(params=(weight, moments)), history))
    for epochs in (4, 6):
        again = resume(folder, changed=["step.optimizer"])
        found = descend(make(0.2), epochs, again)
    assert_same_run(found, whole)


@each_row(
    "changed, options, message",
    [
        (["seed"], {"optimizer": jaxnet.optim.adam(0.1)}, "what differs from .*2 is optimizer.lr$"),
        (["optimizer.rate"], {"seed": 2}, "changed has 'optimizer.rate', but .* is seed$"),
        (["optimizer.lr"], {}, "what differs from .* is nothing"),
        (["optimizer.l"], {"optimizer": jaxnet.optim.adam(0.1)}, "changed has 'optimizer.l'"),
        (["optimizer"], {"optimizer": jaxnet.optim.sgd()}, "of another run:\n  opt_state"),
        (["seed"], {"seed": 2, "precision": "fast"}, "of another run:\n  precision: parity"),
    ],
)
def test_what_did_not_change_or_does_not_fit_is_rejected(changed, options, message, begun):
    with pytest.raises(ValueError, match=message):
        fit(3, resume(begun, changed=changed), **options)


def test_a_checkpoint_of_the_first_format_is_rejected_and_stays(saved, folder, monkeypatch):
    checkpoints = Checkpoints(folder)
    checkpoints.restore(like=saved[0])
    monkeypatch.setattr(jaxnet.checkpoint._contents, "FORMAT", 1)
    assert checkpoints.save(6, *saved)
    checkpoints.close()
    monkeypatch.undo()
    with pytest.raises(
        CheckpointMismatchError, match="6 has format 1, and this jaxnet reads format"
    ):
        Checkpoints(folder).restore(like=saved[0])
    assert list_epochs(folder) == [4, 5, 6]
