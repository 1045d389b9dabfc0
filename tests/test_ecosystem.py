"""jaxnet from outside: with other people's modules, optimizers, checkpoints and programs."""

from functools import partial
from typing import Any

import flax.linen
import flax.serialization
import jax
import jax.export
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

import jaxnet
from jaxnet import nn
from jaxnet.callbacks import Checkpoint
from jaxnet.certificate.bounds import (
    ELEMENTWISE,
    FINAL_WEIGHTS,
    REDUCTION,
    SMALL_LOSSES,
    TRAJECTORY,
)
from jaxnet.losses import binary_cross_entropy_with_logits
from jaxnet.train.state import TrainState
from tests.helpers import assert_close, assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)
IMAGES = (X[:, :, None, None] + 0.1 * RNG.normal(size=(24, 6, 6, 1))).astype(np.float32)
NET = nn.Sequential([nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)])
RUN: dict[str, Any] = dict(loss=binary_cross_entropy_with_logits, epochs=2, batch_size=6)
NONE: Any = None


def init(net: Any = NET) -> dict[str, Any]:
    return jaxnet.init(net, jaxnet.random.manual_seed(0))[1]


def list_batches(x: np.ndarray = X) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `RUN` takes in turn, cut by hand."""
    return [(x[i : i + 6], Y[i : i + 6]) for _ in range(2) for i in range(0, 24, 6)]


# Other people's Linen modules in jaxnet's loop.


class Images(flax.linen.Module):
    """In the way of Flax's own examples: the mode is an argument without a default."""

    p: float = 0.0

    @flax.linen.compact
    def __call__(self, x, train: bool):
        x = flax.linen.Conv(4, (3, 3))(x)
        x = flax.linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = flax.linen.avg_pool(flax.linen.relu(x), (2, 2), (2, 2)).reshape(len(x), -1)
        x = flax.linen.Dropout(self.p, deterministic=not train)(x)
        return flax.linen.Dense(1)(x)


class Rows(flax.linen.Module):
    """With `setup`, and Flax's name for the opposite of training."""

    p: float = 0.0

    def setup(self):
        self.first, self.last = flax.linen.Dense(8), flax.linen.Dense(1)
        self.dropout = flax.linen.Dropout(self.p)

    def __call__(self, x, *, deterministic=True):
        x = self.dropout(flax.linen.relu(self.first(x)), deterministic=deterministic)
        return self.last(x)


FOREIGN = {"images": (Images, IMAGES, "train"), "rows": (Rows, X, None)}


def train_by_hand(
    net: Any,
    x: np.ndarray,
    optimizer: Any,
    variables: Any,
    mode: dict[str, bool],
    sees: bool = False,
) -> tuple[Any, Any, np.ndarray]:
    """What `RUN` gives with Flax's and optax's own calls; whether the optimizer sees the loss."""

    @jax.jit
    def step(params, rest, opt_state, batch):
        def objective(params):
            weights = {"params": params, **rest}
            outputs, after = net.apply(weights, batch[0], mutable=list(rest), **mode)
            return optax.sigmoid_binary_cross_entropy(outputs, batch[1]).mean(), after

        (value, after), grads = jax.value_and_grad(objective, has_aux=True)(params)
        seen: dict[str, Any] = {"value": value, "grad": grads}
        seen = seen | {"value_fn": lambda params: objective(params)[0]} if sees else {}
        updates, opt_state = optimizer.update(grads, opt_state, params, **seen)
        return optax.apply_updates(params, updates), after, opt_state, value

    params, rest = start_of(variables)
    opt_state, losses = optimizer.init(params), []
    for batch in list_batches(x):
        params, rest, opt_state, value = step(params, rest, opt_state, batch)
        losses.append(value)
    return params, rest, np.array(losses)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_module_trains_as_in_a_loop_by_hand(name):
    """The same losses and running statistics from the same weights, with Flax's own calls."""
    kind, x, keyword = FOREIGN[name]
    net, optimizer = kind(), optax.sgd(0.1, momentum=0.9)

    def mode(train: bool) -> dict[str, bool]:
        return {"deterministic": not train} if keyword is None else {keyword: train}

    variables = jax.jit(partial(net.init, **mode(False)))(jax.random.key(0), x[:1])
    begin = jaxnet.train.start(optimizer, variables, jax.random.key(1))
    state, history = jaxnet.fit(net, (x, Y), optimizer=optimizer, state=begin, **RUN)

    params, rest, losses = train_by_hand(net, x, optimizer, variables, mode(True))
    assert_close(history.losses, losses, TRAJECTORY)
    assert_same_end((state.params, state.model_state), (params, rest), start_of(variables))
    # From one state: what two trained nets predict may differ by more than a forward rounds.
    apply = jax.jit(partial(net.apply, **mode(False)))
    by_hand = apply({"params": state.params, **state.model_state}, x)
    assert_close(jaxnet.predict(net, state, x), by_hand, REDUCTION)


def assert_same_end(ours: Any, own: Any, before: Any) -> None:
    """Two programs round otherwise, and so part by a share of how far they have moved.

    Of how far any tensor has: what moves a bias before a BatchNorm is rounding alone.
    """
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), own, before))
    bound = FINAL_WEIGHTS.rtol * max(moved)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=bound)


def start_of(variables: Any) -> tuple[Any, Any]:
    """Weights, and the other collections."""
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


def test_a_foreign_modules_dropout_draws_from_the_key():
    """Weights that stay and all rows at once: the losses differ by their masks alone."""
    net, optimizer = Rows(0.5), optax.sgd(0.0)
    variables = net.init(jax.random.key(0), X[:1])
    options: dict[str, Any] = RUN | dict(optimizer=optimizer, batch_size=None, epochs=4)

    def run(seed: int) -> tuple[TrainState, np.ndarray]:
        begin = jaxnet.train.start(optimizer, variables, jax.random.key(seed))
        state, history = jaxnet.fit(net, (X, Y), state=begin, **options)
        return state, history.losses

    (state, losses), (_, again), (_, other) = run(0), run(0), run(1)
    assert_same_bits(losses, again)
    assert len({*losses.tolist(), *other.tolist()}) == 8
    evaluated = net.apply({"params": state.params}, X)
    assert_close(jaxnet.predict(net, state, X), evaluated, REDUCTION)


def test_an_integer_seed_says_what_a_foreign_module_needs():
    with pytest.raises(TypeError, match="for other Flax modules pass a jax.random.key"):
        jaxnet.fit(Rows(), (X, Y), optimizer=optax.sgd(0.1), seed=0, **RUN)


# jaxnet's modules in other people's loops.


def test_a_module_of_jaxnet_trains_in_nnx():
    """Through Flax's bridge, from torch's weights, with NNX's optimizer: the losses of `fit`."""

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.body = nnx.bridge.ToNNX(NET, rngs=rngs).lazy_init(X)

        def __call__(self, x):
            return self.body(x)

    model = Model(nnx.Rngs(0))
    nnx.update(model.body, init()["params"])
    optimizer = nnx.Optimizer(model, jaxnet.optim.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        value, grads = nnx.value_and_grad(
            lambda model: binary_cross_entropy_with_logits(model(x), y)
        )(model)
        optimizer.update(model, grads)
        return value

    losses = [step(model, optimizer, *batch) for batch in list_batches()]
    state, history = jaxnet.fit(NET, (X, Y), optimizer=jaxnet.optim.adam(1e-2), seed=0, **RUN)
    assert_close(np.array(losses), history.losses, TRAJECTORY)
    assert_same_end(nnx.state(model.body, nnx.Param), state.params, init()["params"])
    nnx.update(model.body, state.params)
    assert_close(model(X), jaxnet.predict(NET, state, X), REDUCTION)


def test_flaxs_lifted_transforms_and_table_take_jaxnets_layers():
    many = flax.linen.vmap(
        nn.Linear, in_axes=NONE, out_axes=0, variable_axes={"params": 0},
        split_rngs={"params": True}, axis_size=3,
    )(6, 2)  # fmt: skip
    variables = many.init(jax.random.key(0), X)
    second = jax.tree.map(lambda values: values[1], variables)
    assert_close(many.apply(variables, X)[1], nn.Linear(6, 2).apply(second, X), ELEMENTWISE)
    again = flax.linen.remat(nn.Linear)(6, 2)
    assert_close(again.apply(second, X), nn.Linear(6, 2).apply(second, X), ELEMENTWISE)
    nested = nn.Sequential([NET, nn.Dropout(0.5), nn.Linear(1, 1)])
    table = nested.tabulate(jax.random.key(0), X, console_kwargs={"width": 200})
    assert "0/0" in table and "Total Parameters: 35" in table


# Any optimizer of optax's.

COSINE = optax.cosine_decay_schedule(1e-2, 6)
OPTIMIZERS: dict[str, Any] = {
    "lion": optax.lion(1e-3),
    "lamb": optax.lamb(1e-2),
    "adafactor": optax.adafactor(1e-2),
    "adabelief": optax.adabelief(1e-2),
    "chain": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(COSINE)),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "inject_hyperparams": optax.inject_hyperparams(optax.adam)(learning_rate=COSINE),
    "multi_transform": optax.multi_transform(
        {"train": jaxnet.optim.adam(1e-2), "freeze": optax.set_to_zero()},
        {"0": "freeze", "2": "train"},
    ),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-2),
    "polyak_sgd": optax.polyak_sgd(max_learning_rate=1e3, scaling=10.0),
    "reduce_on_plateau": optax.chain(
        optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.5)
    ),
    "line search": optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(4, slope_rtol=0.9)
    ),
}
SEE_THE_LOSS = ("polyak_sgd", "reduce_on_plateau", "line search")
QUICK = ("line search",)
"""The others run in `tests/slow`."""


@pytest.mark.parametrize("name", QUICK)
def test_any_optimizer_of_optaxs_is_that_of_a_loop_by_hand(name):
    optimizer = OPTIMIZERS[name]
    begin = jaxnet.train.start(optimizer, init(), jax.random.key(0))
    _, history = jaxnet.fit(NET, (X, Y), optimizer=optimizer, state=begin, **RUN)

    _, _, losses = train_by_hand(NET, X, optimizer, init(), {}, name in SEE_THE_LOSS)
    assert_close(history.losses, losses, SMALL_LOSSES)


def test_an_optimizer_of_optaxs_is_saved_and_resumed(tmp_path):
    options: dict[str, Any] = RUN | dict(optimizer=OPTIMIZERS["inject_hyperparams"], seed=0)
    whole, history = jaxnet.fit(NET, (X, Y), **options)
    for options["epochs"] in (1, 2):
        saved = Checkpoint(tmp_path / "run", resume=True)
        found = jaxnet.fit(NET, (X, Y), callbacks=[saved], **options)
    assert_same_bits(found[1].losses, history.losses)
    jax.tree.map(assert_same_bits, found[0].opt_state, whole.opt_state)
