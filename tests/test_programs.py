"""What is compiled once: for other epochs, for objects that are made anew, for a certificate."""

import functools
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet
from jaxnet import cache, convert, nn, optim
from jaxnet.callbacks import Report
from tests.cases import certify_case
from tests.helpers import assert_same_bits, compilations, each_row
from tests.mutants import planted, replaced
from tests.tiny import ACCURACY, LINEAR, LOSS, NET, X, Y
from torchref import certify

FACTORIES = {
    "sgd": functools.partial(optim.sgd, lr=0.1, momentum=0.9),
    "adam": functools.partial(optim.adam, 1e-3, (0.9, 0.99)),
    "adamw": functools.partial(optim.adamw, weight_decay=1),
    "rmsprop": functools.partial(optim.rmsprop, centered=True),
    "adagrad": functools.partial(optim.adagrad),
    "step_lr": functools.partial(optim.step_lr, 0.1, 3),
    "exponential_lr": functools.partial(optim.exponential_lr, 0.1, 0.5, steps_per_epoch=2),
    "cosine_annealing_lr": functools.partial(optim.cosine_annealing_lr, 0.1, 7),
    "lambda_lr": lambda: optim.lambda_lr(0.1, lambda epoch: 1 / (1 + epoch), epochs=3),
    "an optimizer with a schedule": lambda: optim.adam(optim.step_lr(0.1, 3)),
    "a loss with weights": lambda: convert.loss_from_torch(
        torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]), label_smoothing=0.1)
    ),
}


def make_net():
    return nn.Sequential([layer.clone() for layer in NET.layers])


def fit(**changes):
    options: dict[str, Any] = {
        "net": make_net(),
        "data": (X, Y),
        "loss": LOSS,
        "optimizer": optim.adam(lr=0.01),
        "epochs": 3,
        "batch_size": 8,
        "shuffle": True,
        "seed": 1,
    } | changes
    if every := options.pop("every", None):
        options["callbacks"] = [Report(every, ACCURACY)]
    net, data = options.pop("net"), options.pop("data")
    return jaxnet.fit(net, data, **options)


@each_row("name", FACTORIES)
def test_the_same_settings_are_the_same_object(name):
    make = FACTORIES[name]
    made = make()
    assert made == make() and hash(made) == hash(make())
    cache.clear()
    assert made != make()


@each_row(
    "one, other",
    [
        (lambda: optim.sgd(1.0), lambda: optim.sgd(1)),
        (lambda: optim.sgd(0.1, dampening=0.0), lambda: optim.sgd(0.1, dampening=-0.0)),
        (lambda: optim.adam(betas=(0.9, 0.99)), lambda: optim.adam(betas=(0.9, 0.999))),
        (lambda: optim.step_lr(0.1, 3), lambda: optim.step_lr(0.1, 4)),
        (lambda: optim.adam(optim.step_lr(0.1, 3)), lambda: optim.adam(optim.step_lr(0.1, 4))),
    ],
)
def test_other_settings_are_another_object(one, other):
    assert one() != other()


def test_what_is_no_plain_value_is_made_anew():
    rate, schedule = jnp.float32(0.1), lambda count: 0.1
    assert optim.sgd(rate) != optim.sgd(rate) and optim.sgd(schedule) != optim.sgd(schedule)

    @jax.jit
    def step(rate):
        return optim.sgd(rate).update(jnp.ones(1), optim.sgd(rate).init(jnp.ones(1)))[0]

    assert step(rate) == -rate


def test_a_table_has_the_width_of_the_floats_around_it():
    narrow = optim.exponential_lr(0.1, 0.5)
    with jax.enable_x64(True):
        wide = optim.exponential_lr(0.1, 0.5)
        assert wide is not narrow and wide(jnp.asarray(3)).dtype == np.float64
    assert narrow(jnp.asarray(3)).dtype == np.float32


def test_a_loss_does_not_follow_a_tensor_that_changes():
    weight = torch.ones(2)
    first = convert.loss_from_torch(torch.nn.CrossEntropyLoss(weight))
    value = first(X[:4, :2], np.array([0, 1, 0, 1]))
    weight[0] = 5.0
    assert convert.loss_from_torch(torch.nn.CrossEntropyLoss(weight)) is not first
    assert first(X[:4, :2], np.array([0, 1, 0, 1])) == value


@each_row(
    "changes",
    [
        {"epochs": 5},
        {"epochs": 7, "every": 2},
        {"every": 3},
        {"callbacks": []},
        {"callbacks": [Report()]},
        {"optimizer": None, "net": None, "seed": 2},
    ],
)
def test_a_second_fit_compiles_nothing(changes):
    """Equal objects that are made anew, as a notebook's cell makes them when it runs again."""
    made = {"optimizer": lambda: optim.adam(lr=0.01), "net": make_net}
    _, first = fit(every=1)
    with compilations() as compiled:
        _, second = fit(**{key: made[key]() if v is None else v for key, v in changes.items()})
    assert compiled == []
    if "seed" not in changes:
        assert_same_bits(second.losses[:18], first.losses[:18])


def test_clear_drops_what_a_fit_has_compiled():
    fit(net=LINEAR, shuffle=False)
    cache.clear()
    with compilations() as compiled:
        fit(net=LINEAR, shuffle=False)
    assert "run" in compiled


def assert_compiled_once(name: str) -> None:
    """By the first of two certificates, although all is made anew from torch's each time."""
    first = certify_case(name)
    with compilations() as compiled:
        second = certify_case(name)
    assert compiled == [] and first.agrees and second.agrees


def test_a_second_sweep_compiles_nothing():
    """Of other seeds and rates, with an equal net; a number that is a constant makes another."""

    def sweep(seeds, rates, momentum):
        grid = {"lr": rates, "momentum": momentum}
        options: dict[str, Any] = {"loss": LOSS, "optimizer": optim.sgd, "epochs": 3}
        net = nn.Sequential([nn.Linear(6, 1)])
        return jaxnet.run_sweep(net, (X, Y), seeds=seeds, grid=grid, **options)

    sweep([1, 2], [0.1], [0.5])
    with compilations() as compiled:
        second = sweep([3, 4], [0.2], [0.5])
    assert compiled == []
    with compilations() as compiled:
        other = sweep([3, 4], [0.2], [0.9])
    assert "group" in compiled
    assert np.all(second.losses[:, 0] == other.losses[:, 0])
    assert np.all(second.losses[:, -1] != other.losses[:, -1])


def test_one_net_healthy_faulty_and_healthy_again():
    """An equal net, loss and optimizer must not meet the program of the other code."""
    file = "jaxnet/nn/layers.py"
    old, new = "y = y + jnp.broadcast_to(bias, y.shape)", "y = y - jnp.broadcast_to(bias, y.shape)"
    assert_compiled_once("saturated")
    with planted(file, replaced(file, old, new)) as changed:
        found = certify_case("saturated")
    assert changed and found.divergence is not None
    assert (found.divergence.stage, found.divergence.tensor) == ("outputs", "0")
    assert certify_case("saturated").agrees


SCALE = {"now": 1.0}


class Scaled(flax.linen.Module):
    """A port that looks at what is outside it, and has another method."""

    power: float = 1.0

    @flax.linen.compact
    def __call__(self, x):
        linear = nn.Linear(6, 1, name="0")(x)
        return SCALE["now"] * linear * (1.01 if isinstance(self.power, int) else 1.0)

    def turn(self, variables, x):
        return -jnp.asarray(self.apply(variables, x))


def agrees(apply) -> bool:
    """Whether a port of a Linear does, under SGD."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 1))
    params = {"0": {k: v.detach().numpy().copy() for k, v in net[0].named_parameters()}}
    return certify(
        net,
        loss=torch.nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        data=(X, Y),
        port=(apply, {"params": params}, optim.sgd(0.1)),
    ).agrees


def test_a_port_is_looked_at_each_time(monkeypatch):
    """What it reads from outside, a field that is 1 and not 1.0, a method that is not apply."""

    def apply(variables, x):
        layer = variables["params"]["0"]
        bias = jnp.broadcast_to(layer["bias"], (len(x), 1))
        return SCALE["now"] * (x @ layer["weight"].T + bias)

    assert agrees(Scaled().apply) and agrees(apply)
    assert not agrees(Scaled(1).apply) and not agrees(Scaled().turn)
    monkeypatch.setitem(SCALE, "now", 1.01)
    assert not agrees(Scaled().apply) and not agrees(apply)


def test_a_factory_of_the_users_is_called_for_each_sweep():
    rate = 0.1

    def make(momentum=0.5):
        return optim.sgd(rate, momentum)

    def scaled(outputs, y):
        return rate * LOSS(outputs, y)

    def sweep(**options):
        options = {"loss": LOSS, "optimizer": optim.sgd, "epochs": 2, "seeds": [1]} | options
        return jaxnet.run_sweep(LINEAR, (X, Y), **options).losses[0]

    calls = [{"optimizer": functools.wraps(optim.sgd)(lambda: make())}, {"loss": scaled}]
    slow = [sweep(**options) for options in calls]
    rate = 10.0
    for options, before in zip(calls, slow, strict=True):
        assert sweep(**options)[1] != before[1]
    with jax.numpy_rank_promotion("warn"):  # JAX's settings decide what is traced
        with compilations() as compiled:
            sweep()
        assert "group" in compiled


class Percent(float):
    """Rounds as it prints itself."""

    def __repr__(self):
        return f"{float(self):.0%}"


@each_row(
    "one, other",
    [(1, 1.0), (0.0, -0.0), (np.int32(1), np.float32(1)), (Percent(0.101), Percent(0.104))],
)
def test_numbers_that_compare_or_look_the_same_are_told_apart(one, other):
    make = cache.memoize(lambda net: object())
    assert make(Scaled(one)) is make(Scaled(one)) is not make(Scaled(other))
    find = cache.by_value(lambda value: object())
    assert find(one) is find(one) is not find(other)


def test_a_rate_that_is_an_array_is_no_value_to_be_found_by():
    rate = jnp.float32(0.2)
    optim.lambda_lr(rate, lambda epoch: 1.0, epochs=2)
    rate.delete()
    assert optim.lambda_lr(jnp.float32(0.2), lambda epoch: 1.0, epochs=2)(0) == jnp.float32(0.2)


def test_a_bounded_number_of_programs_is_kept():
    made = []
    make = cache.memoize(lambda number: made.append(number) or object())
    for number in range(cache.PROGRAMS + 1):
        make(number)
    make(1)
    assert len(made) == cache.PROGRAMS + 1
    make(0)  # the one that was used longest ago
    assert made[-1] == 0
    assert make(1) is make(1)
    before = make(1)
    cache.clear()
    assert make(1) is not before
    assert make([1]) is not make([1])  # cannot be hashed
