"""parity, fast and float64: what is set, what is computed in, what torch gives in float64."""

import dataclasses
import re
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnet
import torchref.lecture
from jaxnet import lecture, losses, metrics, nn
from jaxnet.callbacks import Report
from jaxnet.certificate.bounds import TRAJECTORY_FLOAT64
from jaxnet.data import load_mnist
from jaxnet.precision import MEANINGS, cast, use
from jaxnet.train import start
from tests import test_train
from tests.helpers import assert_same_bits, assert_same_state, compilations, to_numpy
from tests.test_train import assert_same_tree, torch_run
from tests.tiny import ACCURACY, LINEAR, LOSS, NET, SGD, X, Y

FLOATS = {name: np.dtype(name if name == "float64" else "float32") for name in MEANINGS}


def fit(name: Any = "parity", **changes):
    return test_train.fit(**changes, precision=name)


def settings() -> tuple[Any, bool]:
    config: Any = jax.config
    return config.jax_default_matmul_precision, config.jax_enable_x64


WITHIN = {"parity": ("highest", False), "fast": ("default", False), "float64": ("highest", True)}


def test_use_sets_and_restores():
    for name in MEANINGS:
        with jax.default_matmul_precision("bfloat16"), jax.enable_x64(name != "float64"):
            before = settings()
            with pytest.raises(ZeroDivisionError), use(name):
                assert settings() == WITHIN[name]
                raise ZeroDivisionError
            assert settings() == before


def test_the_products_of_a_net_have_the_precision():
    def program():
        variables = jax.eval_shape(NET.init, jax.random.key(0), X)
        return str(jax.make_jaxpr(NET.apply)(variables, X))

    for name in MEANINGS:
        with jax.default_matmul_precision("high"), use(name):
            found = re.findall(r"precision=\(?(?:Precision\.)?(\w+)", program())
            assert found == 2 * [WITHIN[name][0].upper()]


@pytest.mark.parametrize("name", MEANINGS)
def test_fit_computes_in_it_whatever_is_set_for_all_of_jax(name):
    """Steps and reports; what other callbacks see is the caller's own."""
    seen = []

    def spy(part, values):
        seen.append((part, *settings(), values.dtype))

    def loss(outputs, y):
        spy("step", outputs)
        return LOSS(outputs, y)

    def metric(outputs, y):
        spy("report", y)
        return metrics.logit_is_right(outputs, y)

    inside = []
    with jax.default_matmul_precision("high"), jax.enable_x64(True):
        callbacks = [Report(3, {"accuracy": metric}), lambda chunk: inside.append(settings())]
        _, history = fit(name, net=LINEAR, optimizer=SGD, loss=loss, callbacks=callbacks)
    assert set(seen) == {(part, *WITHIN[name], FLOATS[name]) for part in ("step", "report")}
    assert set(inside) == {("high", True)}
    assert history.precision == name and history.losses.dtype == FLOATS[name]


def test_precisions_do_not_mix_in_one_process():
    """Compiled programs are remembered: each precision finds its own again."""
    results = [fit(name, callbacks=[Report(2, ACCURACY)]) for name in (*MEANINGS, "parity")]
    for (state, history), name in zip(results, (*MEANINGS, "parity"), strict=True):
        kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
        assert kinds == {FLOATS[name], np.dtype(np.int32)}
        assert history.losses.dtype == FLOATS[name] and history.precision == name
    (parity, first), (fast, second), (double, third), (again, fourth) = results
    assert_same_bits(fourth.losses, first.losses)
    assert_same_tree(again, parity)
    assert np.abs(third.losses - first.losses).max() > 0
    assert_same_tree(double.generator, parity.generator)
    if jax.default_backend() == "cpu":  # where no product is cheaper than a full one
        assert_same_bits(second.losses, first.losses)
        assert_same_tree(fast, parity)


def test_parity_is_the_same_bits_where_x64_is_set():
    loader = {"batch_size": 8, "shuffle": True}
    expected, history = fit(**loader)
    with jax.enable_x64(True):
        data = jnp.asarray(X.astype(np.float64)), jnp.asarray(Y.astype(np.float64))
        state, other = fit(data=data, **loader)
        outputs = jaxnet.predict(NET, state, data[0])
        inside_jit = jax.jit(lambda state, x: jaxnet.predict(NET, state, x))(state, data[0])
        values = jaxnet.evaluate(NET, state, data, loss=LOSS)
    assert_same_tree(state, expected)
    assert_same_bits(other.losses, history.losses)
    assert_same_bits(outputs, jaxnet.predict(NET, expected, X))
    assert outputs.dtype == inside_jit.dtype == np.float32
    assert values == jaxnet.evaluate(NET, expected, (X, Y), loss=LOSS)


def forward(params, x) -> np.ndarray:
    """`NET` in evaluation mode, in NumPy, in float64."""
    first, last = (
        {name: np.array(values, np.float64) for name, values in params[layer].items()}
        for layer in ("0", "3")
    )
    hidden = np.maximum(x.astype(np.float64) @ first["weight"].T + first["bias"], 0)
    return hidden @ last["weight"].T + last["bias"]


def test_a_float64_state_is_predicted_and_evaluated_in_float64():
    state, history = fit("float64", callbacks=[Report(6, ACCURACY)])
    outputs = jaxnet.predict(NET, state, X)
    assert outputs.dtype == np.float64
    np.testing.assert_allclose(outputs, forward(state.params, X), rtol=1e-14)
    values = jaxnet.evaluate(NET, state, (X, Y), loss=LOSS, metrics=ACCURACY)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(forward(state.params, X)), torch.tensor(Y).double()
    )
    assert values["loss"] == pytest.approx(expected.item(), rel=1e-14)
    assert values["accuracy"] == history.reports[-1].metrics["accuracy"]
    with use("float64"):
        jitted = jax.jit(lambda state, x: jaxnet.predict(NET, state, x))(state, X)
        slope = jax.grad(lambda x: jaxnet.predict(NET, state, x).sum())(jnp.asarray(X))
    np.testing.assert_allclose(jitted, outputs, rtol=1e-14)
    assert jitted.dtype == np.float64 and np.abs(slope).max() > 0


def test_predict_obeys_what_is_set_for_all_of_jax():
    """As `net.apply` does; without it, other modules' products are full too."""
    seen = []

    class Net(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            seen.append(settings())
            return flax.linen.Dense(1)(x)

    variables = jax.jit(Net().init)(jax.random.key(0), X)
    state = start(SGD, variables, jaxnet.random.manual_seed(0))
    seen.clear()
    jaxnet.predict(Net(), state, X)
    with jax.default_matmul_precision("high"):
        jaxnet.predict(Net(), state, X)
    with use("fast"):
        jaxnet.evaluate(Net(), state, (X, Y), loss=LOSS)
    assert seen == [("highest", False), ("high", False), ("default", False)]


def test_a_state_of_another_precision_may_be_cast():
    """What tests/bad_calls rejects otherwise; `fast` has the types of `parity`."""
    single, _ = fit(epochs=1)
    double, _ = fit("float64", epochs=1)
    fit("fast", seed=None, state=single)
    widened = cast(single, "float64")
    assert_same_tree(cast(widened, "parity"), single)
    state, history = fit("float64", seed=None, state=widened)
    assert history.losses.dtype == np.float64 and state.step == 7
    assert fit(seed=None, state=cast(double, "fast"))[1].losses.dtype == np.float32


def test_cast_leaves_what_is_not_floating_point():
    key = jax.random.key(0)
    tree = {"half": jnp.ones(2, jnp.bfloat16), "count": np.arange(2), "key": key, "none": None}
    assert cast(tree, "parity")["half"].dtype == jnp.bfloat16
    wide = cast(tree, "float64")
    assert wide["half"].dtype == np.float64 and np.issubdtype(wide["count"].dtype, np.integer)
    assert wide["key"] == key and wide["none"] is None
    third = np.float32(1 / 3)
    assert np.asarray(cast(third, "float64")) == np.float64(third) != 1 / 3


def test_float64_follows_a_torch_script_in_float64():
    expected = torch_run(6, dtype=torch.float64, batch_size=8, shuffle=True)
    state, history = fit("float64", batch_size=8, shuffle=True)
    np.testing.assert_allclose(history.losses, expected, rtol=TRAJECTORY_FLOAT64.rtol)
    assert_same_state(state.generator)


def test_the_lecture_in_float64(name="logits"):
    losses_torch: list[float] = []
    result_torch = torchref.lecture.run(
        name, watch=lambda net, output, loss: losses_torch.append(loss.item()), dtype=torch.float64
    )
    stream = torch.get_rng_state()
    record, state, history = lecture.run(lecture.EXPERIMENTS[name], precision="float64")
    np.testing.assert_allclose(history.losses, losses_torch, rtol=TRAJECTORY_FLOAT64.rtol)
    assert history.losses.dtype == np.float64 and record["precision"] == "float64"
    assert_same_bits(jaxnet.random.get_state(state.generator), stream)
    for part in ("train_accuracy", "test_accuracy"):
        assert record[part] == result_torch.record[part]
    for ours, theirs in zip(record["reports"], result_torch.record["reports"], strict=True):
        assert ours["accuracy"] == theirs["accuracy"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=TRAJECTORY_FLOAT64.rtol)
    weights = result_torch.net.state_dict()
    for layer, params in state.params.items():
        for part, values in params.items():
            gap = np.abs(to_numpy(values) - to_numpy(weights[f"{layer}.{part}"])).max()
            assert values.dtype == np.float64 and gap <= 1e-14


def test_the_lectures_last_figures_are_computed_as_its_run(name: Any = "fast"):
    """A float32 state does not tell how its run multiplied."""
    seen = []

    def metric(outputs, y):
        seen.append(settings())
        return metrics.logit_is_right(outputs, y)

    experiment = dataclasses.replace(lecture.EXPERIMENTS["logits"], epochs=1, metric=metric)
    train, test = load_mnist((0, 1))
    few: Any = tuple(
        part._replace(images=part.images[:rows], labels=part.labels[:rows])
        for part, rows in ((train, 9), (test, 8))
    )
    with jax.default_matmul_precision("high"):
        result = lecture.run(experiment, few, precision=name)
    assert set(seen) == {WITHIN[name]} and len(seen) == 2  # training and test rows
    assert result.record["precision"] == result.history.precision == name


def test_buffers_and_integer_targets():
    """Running averages are widened with the weights; classes stay integers."""
    net, seen = nn.Sequential([nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)]), []

    def loss(outputs, y):
        seen.append(y.dtype)
        return losses.cross_entropy(outputs, y)

    data = (X, Y[:, 0].astype(np.int64))
    state, _ = fit("float64", net=net, data=data, loss=loss)
    floats = {name: leaf.dtype for name, leaf in state.model_state["batch_stats"]["1"].items()}
    assert floats["running_mean"] == floats["running_var"] == np.float64
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float64)}
    assert all(np.issubdtype(kind, np.integer) for kind in seen)
    fit("float64", net=net, data=data, loss=loss, seed=None, state=state)
    assert jaxnet.predict(net, state, X).dtype == np.float64


def test_a_net_without_weights_has_no_precision_of_its_own():
    net = nn.Sequential([nn.Sigmoid()])
    state = start(SGD, {"params": {}}, jaxnet.random.manual_seed(0))
    assert jaxnet.predict(net, state, Y).dtype == np.float32
    with use("float64"):
        assert jaxnet.predict(net, state, Y.astype(np.float64)).dtype == np.float64


def test_a_run_compiles_once_and_its_evaluation_no_more(name: Any = "fast"):
    """Reports, the evaluation afterwards and the next chunk share one program each."""
    chosen = {"accuracy": lambda outputs, y: metrics.logit_is_right(outputs, y)}
    fresh = lambda outputs, y: LOSS(outputs, y)  # noqa: E731, no program is remembered
    with compilations() as compiled:
        state, _ = fit(name, net=LINEAR, loss=fresh, callbacks=[Report(2, chosen)])
        with use(name):  # a float32 state does not tell how it was trained
            jaxnet.evaluate(LINEAR, state, (X, Y), metrics=chosen)
    assert compiled.count("run") == compiled.count("measure") == 1
