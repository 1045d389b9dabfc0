"""jaxnet.optim's schedules against torch.optim.lr_scheduler: every epoch's rate, and whole runs."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from torch.optim import lr_scheduler

from jaxnet import optim
from jaxnet.certificate.bounds import EPS, SAME_FORMULA_FLOAT64, Tolerance
from tests.helpers import assert_close, assert_same_bits, each_row, examples, to_numpy
from tests.test_optim import NAN, TORCH, no_annotation_checks

__all__ = ["no_annotation_checks"]  # a fixture

# A rate against torch's in float64, relative to the rate: a sine of an angle of three roundings,
# squared, then three more, so 7 eps at most. Measured: 3.8 eps along cosines, 1.7 along powers.
RATE = Tolerance(rtol=8 * EPS, atol=0.0)


class Pair(NamedTuple):
    """A schedule and torch's scheduler of the same arguments."""

    schedule: Callable[..., optax.Schedule]
    scheduler: Callable[..., Any]


STEP = Pair(optim.step_lr, lr_scheduler.StepLR)
EXPONENTIAL = Pair(optim.exponential_lr, lr_scheduler.ExponentialLR)
COSINE = Pair(optim.cosine_annealing_lr, lr_scheduler.CosineAnnealingLR)
LAMBDA = Pair(optim.lambda_lr, lr_scheduler.LambdaLR)


def rates_of_torch(pair: Pair, lr: float, until: int, **options) -> np.ndarray:
    """The float64 rate of every epoch, the scheduler being stepped at its end."""
    options.pop("epochs", None)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = pair.scheduler(optimizer, **options)
    rates = []
    for _ in range(until):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def rates_of_jax(schedule: optax.Schedule, counts) -> np.ndarray:
    """The rate at each count by itself, in one compiled loop."""
    rate_of: Any = schedule
    return to_numpy(jax.jit(lambda counts: jax.lax.map(rate_of, counts))(jnp.asarray(counts)))


def assert_same_rates(pair: Pair, lr: float, until: int, **options) -> None:
    expected = rates_of_torch(pair, lr, until, **options)
    # XLA's CPU backend takes subnormal numbers for 0.
    expected[np.abs(expected) < np.finfo(np.float32).tiny] = 0
    rates = rates_of_jax(pair.schedule(lr, **options), range(until))
    # torch goes from rate to rate: back at 1e-6 from 0.75 its own, in float64, is off by 1.6e-12.
    strayed = 1e-11 * max(lr, options.get("eta_min", 0.0))
    tolerance = RATE._replace(atol=strayed)
    assert_close(rates, expected.astype(np.float32), tolerance, where=f"{options}")


GAMMAS = (0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0, 1.01)
STEP_SIZES = (1, 2, 7, 30, 1000)
COSINES = itertools.product(
    [1, 2, 3, 10, 97, 1000], [{}, *({"eta_min": x} for x in (1e-3, 0.1, 0.5))]
)
FUNCTIONS = (lambda n: 1 / (1 + n), lambda n: 0.95**n, lambda n: n // 30)
OVER_MANY_EPOCHS: list[tuple[Pair, float, int, dict[str, Any]]] = [
    *((EXPONENTIAL, 0.1, 3000, {"gamma": gamma}) for gamma in GAMMAS),
    *((STEP, 0.3, 3000, {"step_size": size, "gamma": 0.9}) for size in STEP_SIZES),
    *((STEP, 0.3, 3 * size, {"step_size": size}) for size in STEP_SIZES),
    # Down and up again.
    *((COSINE, 0.1, 3 * T_max + 2, {"T_max": T_max, **end}) for T_max, end in COSINES),
    *((LAMBDA, 0.1, 500, {"lr_lambda": function, "epochs": 500}) for function in FUNCTIONS),
]


@each_row(("pair", "lr", "until", "options"), OVER_MANY_EPOCHS)
def test_rates_over_many_epochs(pair, lr, until, options):
    assert_same_rates(pair, lr, until, **options)


def test_cosine_at_its_ends_is_exact():
    rates = rates_of_jax(optim.cosine_annealing_lr(0.1, 50, 0.003), [0, 50, 100, 150])
    assert_same_bits(rates, np.array([0.1, 0.003, 0.1, 0.003], np.float32))


def test_cosine_of_optax_loses_digits_and_stays_below():
    counts = np.arange(151)
    expected = rates_of_torch(COSINE, 0.1, 151, T_max=100)
    rates = rates_of_jax(optax.cosine_decay_schedule(0.1, 100), counts)
    assert np.all(rates[100:] == 0) and np.all(expected[101:] > 0)
    errors = abs(rates[90:100] / expected[90:100] - 1)
    assert errors.max() > 10 * RATE.rtol


def test_lambda_is_called_once_an_epoch_with_an_int_and_is_nan_afterwards():
    calls = []
    schedule = optim.lambda_lr(
        0.1, lambda epoch: calls.append(epoch) or 1.0, epochs=3, steps_per_epoch=2
    )
    rates = rates_of_jax(schedule, [0, 5, 6, 7, 2**31 - 1])
    assert calls == [0, 1, 2] and all(type(epoch) is int for epoch in calls)
    assert np.isnan(rates).tolist() == [False, False, True, True, True]


@given(
    *(st.floats(1e-6, 10), st.integers(1, 300), st.just(0.0) | st.floats(1e-9, 1)),
    *(st.integers(1, 40), st.floats(0.5, 1)),
)
@examples(8)
def test_any_arguments(lr, T_max, eta_min, step_size, gamma):
    assert_same_rates(COSINE, lr, 2 * T_max + 3, T_max=T_max, eta_min=eta_min)
    assert_same_rates(STEP, lr, 100, step_size=step_size, gamma=gamma)


CASES: list[tuple[Pair, dict[str, Any]]] = [
    (STEP, {"step_size": 2, "gamma": 0.5}),
    (EXPONENTIAL, {"gamma": 0.7}),
    (COSINE, {"T_max": 3, "eta_min": 0.01}),
    (LAMBDA, {"lr_lambda": lambda epoch: 1 / (1 + epoch), "epochs": 7}),
]


def case_id(value) -> str | None:
    if isinstance(value, Pair):
        return value.schedule.__name__
    return "" if isinstance(value, dict) else getattr(value, "__name__", None)


cases = pytest.mark.parametrize(("pair", "options"), CASES, ids=case_id)


@cases
@pytest.mark.parametrize("steps_per_epoch", [1, 3, 792])
def test_the_rate_changes_with_the_epoch_alone(pair, options, steps_per_epoch):
    schedule = pair.schedule(0.1, **options, steps_per_epoch=steps_per_epoch)
    counts = np.arange(7 * steps_per_epoch)
    epochs = rates_of_jax(pair.schedule(0.1, **options), range(7))
    assert_same_bits(rates_of_jax(schedule, counts), np.repeat(epochs, steps_per_epoch))
    assert len(set(epochs.tolist())) >= 4


@cases
def test_counts_of_any_kind_and_one_compilation(pair, options):
    schedule = pair.schedule(0.1, **options)
    traces = []

    @jax.jit
    def rate_of(count):
        traces.append(count)
        return schedule(count)

    one_by_one = [rate_of(jnp.int32(count)) for count in range(7)]
    assert len(traces) == 1
    assert all(rate.dtype == jnp.float32 and rate.shape == () for rate in one_by_one)
    for counts in (range(7), map(np.int32, np.arange(7)), map(jnp.asarray, range(7))):
        eager = [schedule(count) for count in counts]  # pyright: ignore[reportArgumentType]
        assert_close(jnp.stack(list(map(jnp.asarray, eager))), jnp.stack(one_by_one), RATE)
    assert_close(schedule(jnp.arange(7)), jnp.stack(one_by_one), RATE)


@cases
def test_rates_under_vmap(pair, options):
    def rate_in_epoch_1(lr):
        return pair.schedule(lr, **options)(1)

    lrs = jnp.array([0.1, 0.3])
    expected = jnp.stack([jnp.asarray(rate_in_epoch_1(float(lr))) for lr in lrs])
    assert_close(jax.jit(jax.vmap(rate_in_epoch_1))(lrs), expected, RATE)
    assert_close(rate_in_epoch_1(lrs[0]), expected[0], RATE)


def test_the_largest_counts():
    last = np.int32(2**31 - 1)
    assert rates_of_jax(optim.exponential_lr(0.5, 1.0), [last]) == 0.5
    assert rates_of_jax(optim.exponential_lr(0.5, 0.5), [last]) == 0
    assert rates_of_jax(optim.exponential_lr(0.5, 2.0), [last]) == np.inf
    # Powers of each of the exponent's four digits.
    for count in (255, 256, 65535, 65536, 2**24 - 1, 2**24, 2**31 - 1):
        gamma = 0.3 ** (1 / count)
        expected = np.full(1, gamma**count, np.float32)
        assert_close(rates_of_jax(optim.exponential_lr(1.0, gamma), [count]), expected, RATE)
    largest = 2**30 - 1
    cosine = rates_of_jax(optim.cosine_annealing_lr(1.0, largest), [0, largest, 2 * largest, last])
    assert_close(cosine, np.array([1, 0, 1, 1], np.float32), RATE)


OPTIMIZERS: list[tuple[Any, dict[str, Any]]] = [
    (optim.sgd, {"momentum": 0.9}),
    (optim.adam, {}),
    (optim.adamw, {}),
    (optim.rmsprop, {"momentum": 0.5}),
    (optim.adagrad, {"lr_decay": 0.1}),
]


@cases
@pytest.mark.parametrize(("make", "settings_of_make"), OPTIMIZERS, ids=case_id)
def test_a_run_in_float64_is_torchs(make, settings_of_make, pair, options):
    """Least squares, each gradient taken where the last step ended, three steps an epoch."""
    rng = np.random.default_rng(0)
    x, y, start = rng.normal(size=(8, 3)), rng.normal(size=8), rng.normal(size=3)

    param = torch.tensor(start, requires_grad=True)
    optimizer_torch = TORCH[make]([param], lr=0.05, **settings_of_make)
    arguments = {name: option for name, option in options.items() if name != "epochs"}
    scheduler = pair.scheduler(optimizer_torch, **arguments)
    weights_torch = []
    for step in range(21):
        optimizer_torch.zero_grad()
        ((torch.tensor(x) @ param - torch.tensor(y)) ** 2).mean().backward()
        optimizer_torch.step()
        if step % 3 == 2:
            scheduler.step()
        weights_torch.append(to_numpy(param))

    traces = []
    with jax.enable_x64(True):
        optimizer = make(pair.schedule(0.05, **options, steps_per_epoch=3), **settings_of_make)
        params = jnp.asarray(start)
        opt_state = optimizer.init(params)

        @jax.jit
        def train_step(params, opt_state):
            traces.append(params)
            grads = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        for expected in weights_torch:
            params, opt_state = train_step(params, opt_state)
            assert_close(params, expected, SAME_FORMULA_FLOAT64)
    assert len(traces) == 1


def constant(epoch: int) -> float:
    return 1.0


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (optim.step_lr, {"step_size": 1, "lr": -0.1}, "lr is -0.1, expected a number of at least 0"),
    (optim.step_lr, {"step_size": 1, "gamma": -0.1}, "gamma is -0.1, expected"),
    (optim.exponential_lr, {"gamma": NAN}, "gamma is nan, expected"),
    (optim.exponential_lr, {"gamma": 0.5, "lr": NAN}, "lr is nan, expected"),
    (optim.cosine_annealing_lr, {"T_max": 3, "lr": -1.0}, "lr is -1.0, expected"),
    (optim.cosine_annealing_lr, {"T_max": 3, "eta_min": -1.0}, "eta_min is -1.0, expected"),
    (optim.cosine_annealing_lr, {"T_max": 3, "eta_min": jnp.array(NAN)}, "eta_min is nan, exp"),
    (optim.lambda_lr, {"lr_lambda": constant, "epochs": 1, "lr": -1.0}, "lr is -1.0, expected"),
]
NEEDED: dict[Any, dict[str, Any]] = {
    optim.step_lr: {"step_size": 1},
    optim.exponential_lr: {"gamma": 1},
    optim.cosine_annealing_lr: {"T_max": 1},
    optim.lambda_lr: {"lr_lambda": constant, "epochs": 1},
}
for bad in (0, -1, 1.5, 2.0, True, 2**30, None):
    for make, needed in NEEDED.items():
        REFUSED += [
            (make, {**needed, name: bad}, f"{name} is {bad}, expected an integer from 1 to")
            for name in ("steps_per_epoch", "step_size", "T_max", "epochs")
            if name == "steps_per_epoch" or name in needed
        ]


@each_row(("make", "options", "message"), REFUSED, ids=case_id)
def test_refused(make, options, message, no_annotation_checks):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(**{"lr": 0.1, **options})


def test_a_rate_that_is_no_scalar_or_a_schedule_is_refused(no_annotation_checks):
    with pytest.raises(ValueError, match=r"lr has shape \(2,\), expected a scalar"):
        optim.exponential_lr(jnp.ones(2), 0.5)
    inner: Any = optim.exponential_lr(0.1, 0.5)
    with pytest.raises(ValueError, match="lr is a function, expected a number"):
        optim.exponential_lr(inner, 0.5)
