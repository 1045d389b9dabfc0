"""The NaN guard: the first bad step, tensor and rows of a run that is no longer finite."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.callbacks import Checkpoint, NanGuard, NotFinite, Report, all_finite
from jaxnet.checkpoint import Checkpoints
from jaxnet.data import InMemory
from jaxnet.lecture.experiments import manual_sigmoid_loss
from tests.test_callbacks import RUN, STEPS, fit
from tests.test_checkpoint import assert_same_run
from tests.tiny import LINEAR, LOSS, NET, ROWS, X, Y


def overflow(*around: Any):
    """The lecture's manual sigmoid, on data whose row 13 is a thousand times too large."""
    x = X.copy()
    x[13] = 1000 * np.abs(x[13])
    sgd = jaxnet.optim.sgd(1.0)
    options: dict[str, Any] = dict(loss=manual_sigmoid_loss, optimizer=sgd, batch_size=8, seed=2)
    return jaxnet.fit(NET, (x, Y), epochs=4, callbacks=around, **options)


def test_the_manual_sigmoid_is_named_with_its_step_tensor_and_rows():
    with pytest.raises(NotFinite, match="take a loss of logits") as caught:
        overflow(NanGuard())
    error = caught.value
    assert (error.epoch, error.step, error.tensor) == (1, 2, "the loss")
    np.testing.assert_array_equal(error.rows, range(8, 16))
    assert int(error.state.step) == 0 and len(error.history.losses) == 0
    assert "epoch 1, step 2" in str(error) and "8, 9, 10, ..." in str(error)


def test_without_the_guard_a_run_trains_on_as_in_torch():
    state, history = overflow()
    assert not np.isfinite(history.losses[2:]).any() and len(history.losses) == 24
    assert not all_finite(state, history.losses)


def test_the_last_finite_state_is_kept(tmp_path):
    """A shuffled run that goes wrong in its third epoch: two are saved, and can be resumed."""
    sgd = jaxnet.optim.sgd(lambda step: jnp.where(jnp.less(step, 2 * STEPS + 3), 1e-2, 1e38))
    finite = fit(2, Report(), optimizer=sgd)
    with pytest.raises(NotFinite) as caught:
        fit(6, Report(), NanGuard(), Checkpoint(tmp_path), optimizer=sgd)
    error = caught.value
    assert_same_run((error.state, error.history), finite)
    assert Checkpoints(tmp_path).list_epochs()[-1] == 2
    assert error.epoch == 3 and error.step in (16, 17) and len(error.rows) == 8
    whole = fit(3, Report(), optimizer=sgd)[1]
    bad = int(np.flatnonzero(~np.isfinite(whole.losses))[0]) + 1
    assert error.step in (bad, bad - 1)  # the weights are bad a step before the loss
    assert f"epoch 2, before that, is saved in {tmp_path}" in error.__notes__


def test_a_batch_with_a_bad_row_in_a_later_epoch_of_a_chunk_is_found():
    """Repeated epoch by epoch: the order and the masks are the run's own, where a callback after
    the guard draws from the stream, so that the run goes on elsewhere."""
    seen: list[Any] = []

    def loss(outputs, y):  # nan where a label of 2, which pulls the output up, has done so
        return LOSS(outputs, y) + jnp.where(jnp.any((y > 1) & (outputs > 1.12)), jnp.nan, 0.0)

    x, y = X.copy(), Y.copy()
    x[17], y[17] = 3 * x[17], 2
    run: dict[str, Any] = RUN | dict(loss=loss, seed=4, epochs=12)
    report = Report(4, loader=True)
    losses = jaxnet.fit(NET, (x, y), callbacks=[report], **run)[1].losses
    bad = int(np.flatnonzero(~np.isfinite(losses))[0])
    assert bad >= 5 * STEPS  # else the data do not test what they should
    with pytest.raises(NotFinite) as caught:
        jaxnet.fit(NET, (x, y), callbacks=[report, seen.append, NanGuard()], **run)
    error = caught.value
    assert error.step == bad + 1 and error.epoch == bad // STEPS + 1
    assert error.tensor == "the loss" and 17 in error.rows
    assert not any(not np.isfinite(chunk.losses).all() for chunk in seen)


@pytest.mark.parametrize(
    "options, tensor, hint",
    [
        (
            dict(loss=lambda o, y: jnp.sqrt(jnp.abs(o * 0.0)).sum()),
            "the gradient of 0.bias",
            "look for a log, a root",
        ),
        (
            dict(optimizer=optax.scale(-jnp.inf)),
            "the update of",
            "smaller lr, or clip the gradients",
        ),
    ],
)
def test_the_first_bad_tensor_is_named(options, tensor, hint):
    with pytest.raises(NotFinite, match=hint) as caught:
        fit(3, NanGuard(), net=LINEAR, shuffle=False, **options)
    assert caught.value.tensor.startswith(tensor)


@pytest.mark.parametrize(
    "source, tensor",
    [
        ((X, np.where(np.arange(ROWS) == 33, np.nan, Y[:, 0])), "y of the batch"),
        (InMemory({"y": np.where(np.arange(ROWS) == 33, np.nan, Y[:, 0])}), "the batch"),
        ((X, np.where(np.arange(ROWS) == 33, 2, Y[:, 0])), "weight"),
    ],
)
def test_a_step_of_ones_own_is_guarded_too(source, tensor):
    """Of a batch that is a pair or is none; of weights that no loss has shown yet."""

    def step(params, batch, draws):
        y = batch["y"] if isinstance(batch, dict) else batch[1]
        return {"weight": params["weight"] + jnp.where(jnp.any(y > 1), jnp.inf, 0.0)}, y.sum()

    state = {"weight": jnp.ones(2)}
    options: dict[str, Any] = dict(epochs=3, batch_size=8, seed=0, callbacks=[NanGuard()])
    with pytest.raises(NotFinite) as caught:
        jaxnet.train.run(step, state, source, **options)
    assert caught.value.tensor == tensor and caught.value.step == 5
    np.testing.assert_array_equal(caught.value.rows, range(32, 40))


def test_the_guard_computes_where_the_run_does():
    """In float64 too, whose range float32 has not."""

    def loss(outputs, y):
        return LOSS(outputs, y) + 1e300 * outputs.mean() ** 2

    sgd = jaxnet.optim.sgd(0.0)
    options: dict[str, Any] = dict(net=LINEAR, shuffle=False, optimizer=sgd, precision="float64")
    _, history = fit(1, NanGuard(), loss=loss, **options)
    assert np.isfinite(history.losses).all() and history.losses.max() > 1e38
