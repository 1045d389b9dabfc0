"""jaxnet.optim's schedules against torch.optim.lr_scheduler: every epoch's rate, and whole runs."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.optim import lr_scheduler

from jaxnet import optim
from jaxnet.certificate.bounds import EPS, SAME_FORMULA_FLOAT64, Tolerance
from tests.helpers import assert_close, assert_same_bits, each_row, to_numpy
from tests.test_optim import TORCH

# A rate against torch's in float64, relative to the rate: a sine of an angle of three roundings,
# squared, then three more, so 7 eps at most. Measured: 3.8 eps along cosines, 1.7 along powers.
RATE = Tolerance(rtol=8 * EPS, atol=0.0)


class Pair(NamedTuple):
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


def rates_of_jax(*pairs: tuple[Any, Iterable[int]]) -> list[np.ndarray]:
    """For each schedule the rate at each count by itself, in one program."""
    schedules = [schedule for schedule, _ in pairs]
    every = [jnp.asarray(list(counts)) for _, counts in pairs]
    found = jax.jit(lambda every: list(map(jax.lax.map, schedules, every)))(every)
    return list(map(to_numpy, found))


GAMMAS = (0.0, 0.1, 0.9, 0.999, 1.01)
STEP_SIZES = (1, 7, 200)
FUNCTIONS = (lambda n: 1 / (1 + n), lambda n: 0.95**n, lambda n: n // 30)
ENDS = [{}, *({"eta_min": end} for end in (1e-3, 0.5))]
RNG = np.random.default_rng(0)
DRAWN = zip(10 ** RNG.uniform(-6, 1, 4), RNG.integers(1, 300, 4), RNG.uniform(0, 1, 4), strict=True)
OVER_MANY_EPOCHS: list[tuple[Pair, float, int, dict[str, Any]]] = [
    *((EXPONENTIAL, 0.1, 600, {"gamma": gamma}) for gamma in GAMMAS),
    *((STEP, 0.3, 600, {"step_size": size, "gamma": 0.9}) for size in STEP_SIZES),
    *((STEP, 0.3, 3 * size, {"step_size": size}) for size in STEP_SIZES),
    # Down and up again.
    *(
        (COSINE, 0.1, 3 * T_max + 2, {"T_max": T_max, **end})
        for T_max, end in itertools.product([1, 2, 3, 97], ENDS)
    ),
    *((COSINE, lr, 2 * t + 3, {"T_max": int(t), "eta_min": end}) for lr, t, end in DRAWN),
    *((LAMBDA, 0.1, 500, {"lr_lambda": function, "epochs": 500}) for function in FUNCTIONS),
]


def test_rates_over_many_epochs():
    found = rates_of_jax(
        *((p.schedule(lr, **options), range(n)) for p, lr, n, options in OVER_MANY_EPOCHS)
    )
    for rates, (pair, lr, until, options) in zip(found, OVER_MANY_EPOCHS, strict=True):
        expected = rates_of_torch(pair, lr, until, **options)
        # XLA's CPU backend takes subnormal numbers for 0.
        expected[np.abs(expected) < np.finfo(np.float32).tiny] = 0
        # torch goes from rate to rate: back at 1e-6 from 0.75 its own, in float64, is off by
        # 1.6e-12.
        strayed = 1e-11 * max(lr, options.get("eta_min", 0.0))
        tolerance = RATE._replace(atol=strayed)
        assert_close(rates, expected.astype(np.float32), tolerance, where=f"{pair} {options}")


def test_cosine_of_optax_loses_digits_and_stays_below():
    expected = rates_of_torch(COSINE, 0.1, 151, T_max=100)
    (rates,) = rates_of_jax((optax.cosine_decay_schedule(0.1, 100), range(151)))
    assert np.all(rates[100:] == 0) and np.all(expected[101:] > 0)
    errors = abs(rates[90:100] / expected[90:100] - 1)
    assert errors.max() > 10 * RATE.rtol


def test_lambda_is_called_once_an_epoch_with_an_int_and_is_nan_afterwards():
    calls = []
    schedule = optim.lambda_lr(
        0.1, lambda epoch: calls.append(epoch) or 1.0, epochs=3, steps_per_epoch=2
    )
    (rates,) = rates_of_jax((schedule, [0, 5, 6, 7, 2**31 - 1]))
    assert calls == [0, 1, 2] and all(type(epoch) is int for epoch in calls)
    assert np.isnan(rates).tolist() == [False, False, True, True, True]


CASES: list[tuple[Pair, dict[str, Any]]] = [
    (STEP, {"step_size": 2, "gamma": 0.5}),
    (EXPONENTIAL, {"gamma": 0.7}),
    (COSINE, {"T_max": 3, "eta_min": 0.01}),
    (LAMBDA, {"lr_lambda": lambda epoch: 1 / (1 + epoch), "epochs": 7}),
]


@each_row("pair, options", CASES)
def test_the_rate_changes_with_the_epoch_alone(pair, options):
    every = (1, 3, 792)
    epochs, *longer = rates_of_jax(
        *((pair.schedule(0.1, **options, steps_per_epoch=n), range(7 * n)) for n in every)
    )
    for steps, rates in zip(every[1:], longer, strict=True):
        assert_same_bits(rates, np.repeat(epochs, steps))
    assert len(set(epochs.tolist())) >= 4


@each_row("pair, options", CASES)
def test_counts_and_rates_of_any_kind_and_one_compilation(pair, options):
    schedule, traces = pair.schedule(0.1, **options), []

    @jax.jit
    def rate_of(count):
        traces.append(count)
        return schedule(count)

    one_by_one = jnp.stack([rate_of(jnp.int32(count)) for count in range(7)])
    assert len(traces) == 1 and one_by_one.dtype == jnp.float32 and one_by_one.shape == (7,)
    for counts in (range(7), np.arange(7, dtype=np.int32)):
        assert_close(jnp.stack([jnp.asarray(schedule(n)) for n in counts]), one_by_one, RATE)
    assert_close(schedule(jnp.arange(7)), one_by_one, RATE)
    lanes = jax.jit(jax.vmap(lambda lr: pair.schedule(lr, **options)(1)))(jnp.array([0.1, 0.3]))
    assert_close(lanes[0], one_by_one[1], RATE)
    assert_close(lanes[1], jnp.asarray(pair.schedule(0.3, **options)(1)), RATE)


def test_the_ends_of_cosines_and_the_largest_counts():
    last, largest = 2**31 - 1, 2**30 - 1
    # Powers of each of the exponent's four digits.
    counts = (255, 256, 65535, 65536, 2**24 - 1, 2**24, last)
    ends, long, *powers = rates_of_jax(
        (optim.cosine_annealing_lr(0.1, 50, 0.003), [0, 50, 100, 150]),
        (optim.cosine_annealing_lr(1.0, largest), [0, largest, 2 * largest, last]),
        *((optim.exponential_lr(0.5, gamma), [last]) for gamma in (1.0, 0.5, 2.0)),
        *((optim.exponential_lr(1.0, 0.3 ** (1 / count)), [count]) for count in counts),
    )
    assert_same_bits(ends, np.array([0.1, 0.003, 0.1, 0.003], np.float32))
    assert_close(long, np.array([1, 0, 1, 1], np.float32), RATE)
    assert [float(power[0]) for power in powers[:3]] == [0.5, 0, np.inf]
    expected = np.array([(0.3 ** (1 / count)) ** count for count in counts], np.float32)
    assert_close(np.concatenate(powers[3:]), expected, RATE)


@each_row(
    "make, settings, case",
    [
        *((optim.sgd, {"momentum": 0.9}, case) for case in CASES),
        *[(optim.adam, {}, CASES[0]), (optim.adamw, {}, CASES[1])],
        *[
            (optim.rmsprop, {"momentum": 0.5}, CASES[2]),
            (optim.adagrad, {"lr_decay": 0.1}, CASES[3]),
        ],
    ],
)
def test_a_run_in_float64_is_torchs(make, settings, case):
    """Least squares, each gradient taken where the last step ended, three steps an epoch."""
    rng, (pair, options) = np.random.default_rng(0), case
    x, y, start = rng.normal(size=(8, 3)), rng.normal(size=8), rng.normal(size=3)
    param = torch.tensor(start, requires_grad=True)
    optimizer_torch = TORCH[make]([param], lr=0.05, **settings)
    scheduler = pair.scheduler(optimizer_torch, **{k: options[k] for k in options if k != "epochs"})
    weights_torch = []
    for step in range(21):
        optimizer_torch.zero_grad()
        ((torch.tensor(x) @ param - torch.tensor(y)) ** 2).mean().backward()
        optimizer_torch.step()
        if step % 3 == 2:
            scheduler.step()
        weights_torch.append(to_numpy(param))
    with jax.enable_x64(True):
        optimizer = make(pair.schedule(0.05, **options, steps_per_epoch=3), **settings)

        def train_step(carry, _):
            params, opt_state = carry
            grads = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            return (params, opt_state), params

        begin = jnp.asarray(start), optimizer.init(jnp.asarray(start))
        _, weights = jax.lax.scan(train_step, begin, length=21)
    assert_close(weights, np.array(weights_torch), SAME_FORMULA_FLOAT64)
