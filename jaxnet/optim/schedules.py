r"""torch.optim.lr_scheduler's learning rates as optax schedules, to be given as an `lr`.

A schedule maps the count of steps done to a learning rate. It is pure and takes a count that is
traced or not, a scalar or an array of them. torch's scheduler is stepped once an epoch; here the
epoch is the count divided by `steps_per_epoch`, rounded down.

torch multiplies the last epoch's rate, in float64, by a factor. A rate is computed here from the
epoch alone, and differs from torch's by a few roundings of float32.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxnet._utils.validation import check_function, check_number
from jaxnet.cache import by_value
from jaxnet.optim._arguments import check_lr, check_not_negative

Rate = float | int | Float[Array, ""]
Count = int | np.integer | Int[Array | np.ndarray, "..."]


@by_value
def step_lr(
    lr: Rate, step_size: int, gamma: float | int = 0.1, *, steps_per_epoch: int = 1
) -> optax.Schedule:
    r"""A rate that is multiplied by `gamma` every `step_size` epochs.

    $\gamma_0\,g^{\lfloor e / s \rfloor}$ in epoch $e$, counted from 0, with $\gamma_0$ = `lr`,
    $g$ = `gamma`, $s$ = `step_size`.

    Raises ValueError for an `lr` or `gamma` below 0 or nan, an `lr` that is no scalar, and a
    `step_size` or `steps_per_epoch` that is no integer from 1 to 2**30 - 1. A traced `lr` is not
    checked. Difference: torch takes any numbers.

    >>> schedule = step_lr(8.0, step_size=2, gamma=0.5)
    >>> [float(schedule(count)) for count in range(5)]
    [8.0, 8.0, 4.0, 4.0, 2.0]

    Source: torch.optim.lr_scheduler.StepLR.
    """
    lr = _check_rate("lr", lr)
    _check_integer("step_size", step_size)
    check_not_negative(gamma=gamma)
    epoch_of, power_of_gamma = _epochs(steps_per_epoch), _powers(gamma)

    def schedule(count) -> Float[Array, "..."]:
        return lr * power_of_gamma(epoch_of(count) // step_size)

    return schedule


@by_value
def exponential_lr(lr: Rate, gamma: float | int, *, steps_per_epoch: int = 1) -> optax.Schedule:
    r"""A rate that is multiplied by `gamma` every epoch.

    $\gamma_0\,g^e$ in epoch $e$, counted from 0, with $\gamma_0$ = `lr`, $g$ = `gamma`.

    Raises ValueError as `step_lr` does. Difference: torch takes any numbers.

    >>> schedule = exponential_lr(8.0, gamma=0.5, steps_per_epoch=2)
    >>> [float(schedule(count)) for count in range(5)]
    [8.0, 8.0, 4.0, 4.0, 2.0]

    Source: torch.optim.lr_scheduler.ExponentialLR.
    """
    return step_lr(lr, 1, gamma, steps_per_epoch=steps_per_epoch)


@by_value
def cosine_annealing_lr(
    lr: Rate, T_max: int, eta_min: Rate = 0.0, *, steps_per_epoch: int = 1
) -> optax.Schedule:
    r"""A rate that falls from `lr` to `eta_min` in `T_max` epochs along half a cosine.

    $\eta + (\gamma_0 - \eta)\,(1 + \cos(\pi e / T)) / 2$ in epoch $e$, counted from 0, with
    $\gamma_0$ = `lr`, $\eta$ = `eta_min`, $T$ = `T_max`. As in torch the rate rises again after
    epoch $T$, to `lr` in epoch $2 T$, and so on.

    Raises ValueError for an `lr` or `eta_min` below 0, nan or no scalar, and a `T_max` or
    `steps_per_epoch` that is no integer from 1 to 2**30 - 1. A traced `lr` or `eta_min` is not
    checked. Differences: torch takes any numbers. `optax.cosine_decay_schedule` stays at its
    lowest after $T$, and loses digits on the way there.

    >>> schedule = cosine_annealing_lr(1.0, T_max=3, eta_min=0.5)
    >>> print([round(float(schedule(count)), 3) for count in range(7)])
    [1.0, 0.875, 0.625, 0.5, 0.625, 0.875, 1.0]

    Source: torch.optim.lr_scheduler.CosineAnnealingLR; Loshchilov and Hutter,
    https://arxiv.org/abs/1608.03983.
    """
    lr, eta_min = _check_rate("lr", lr), _check_rate("eta_min", eta_min)
    _check_integer("T_max", T_max)
    epoch_of = _epochs(steps_per_epoch)

    def schedule(count) -> Float[Array, "..."]:
        phase = epoch_of(count) % (2 * T_max)
        done = jnp.minimum(phase, 2 * T_max - phase)
        # (1 + cos) / 2 and (1 - cos) / 2 as squares of sines up to pi / 2: nothing cancels.
        return lr * _sine_squared(T_max - done, T_max) + eta_min * _sine_squared(done, T_max)

    return schedule


def lambda_lr(
    lr: Rate, lr_lambda: Callable[[int], float], *, epochs: int, steps_per_epoch: int = 1
) -> optax.Schedule:
    r"""A rate that any function of the epoch multiplies.

    $\gamma_0\,f(e)$ in epoch $e$, counted from 0, with $\gamma_0$ = `lr`, $f$ = `lr_lambda`, which
    is called here and now with 0, ..., `epochs` - 1. In later epochs the rate is nan, so that it
    cannot pass unnoticed.

    Raises ValueError for an `lr` below 0, nan or no scalar, and `epochs` or `steps_per_epoch` that
    are no integers from 1 to 2**30 - 1. A traced `lr` and the factors are not checked.

    Differences: torch calls `lr_lambda` when an epoch begins, and knows no last one; it takes a
    list of functions, one per group of parameters.

    >>> schedule = lambda_lr(6.0, lambda epoch: 1 / (1 + epoch), epochs=3)
    >>> [float(schedule(count)) for count in range(4)]
    [6.0, 3.0, 2.0, nan]

    Source: torch.optim.lr_scheduler.LambdaLR.
    """
    lr = _check_rate("lr", lr)
    _check_integer("epochs", epochs)
    _check_integer("steps_per_epoch", steps_per_epoch)
    check_function("lr_lambda", lr_lambda)
    factors = np.array([check_number(f"lr_lambda({e})", lr_lambda(e)) for e in range(epochs)])
    # An array may change, or be deleted: it is no value to be found by.
    make = vars(_tabulated_lr)["__wrapped__"] if isinstance(lr, jax.Array) else _tabulated_lr
    return make(lr, factors, steps_per_epoch)


@by_value(arrays=True)
def _tabulated_lr(lr: Rate, factors: np.ndarray, steps_per_epoch: int) -> optax.Schedule:
    """A rate that a table multiplies, an element an epoch."""
    epoch_of = _epochs(steps_per_epoch)

    def schedule(count) -> Float[Array, "..."]:
        table = jnp.asarray(factors)
        return lr * jnp.take(table, epoch_of(count), mode="fill", fill_value=jnp.nan)

    return schedule


def _epochs(steps_per_epoch: int) -> Callable[[Count], Int[Array, "..."]]:
    _check_integer("steps_per_epoch", steps_per_epoch)
    return lambda count: jnp.asarray(count) // steps_per_epoch


_BITS = 8


def _powers(base: float | int) -> Callable[[Int[Array, "..."]], Float[Array, "..."]]:
    """`base**exponent` for exponents of 0 and more, below 2**16 rounded three times at most."""
    # The product of the powers of the exponent's four digits, which are tabulated in float64: the
    # rounding of `base` or of its logarithm would grow with the exponent.
    digits = np.arange(2**_BITS)
    with np.errstate(over="ignore", under="ignore"):
        tables = [np.float64(base) ** (digits << shift) for shift in range(0, 32, _BITS)]
        tables = [table.astype(jnp.result_type(float)) for table in tables]

    def power(exponent: Int[Array, "..."]) -> Float[Array, "..."]:
        factors = (
            jnp.asarray(table)[(exponent >> (_BITS * i)) & (2**_BITS - 1)]
            for i, table in enumerate(tables)
        )
        return functools.reduce(operator.mul, factors)

    return power


def _sine_squared(part: Int[Array, "..."], whole: int) -> Float[Array, "..."]:
    """`sin(pi / 2 * part / whole)**2`."""
    return jnp.square(jnp.sin(np.pi / 2 * (part.astype(float) / whole)))


def _check_rate(name, rate) -> Any:
    if callable(rate):
        raise ValueError(f"{name} is a function, expected a number")
    return check_lr(rate, name)


def _check_integer(name, value):
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    # Counts are int32, and so is twice T_max.
    if not whole or not 1 <= value < 2**30:
        raise ValueError(f"{name} is {value!r}, expected an integer from 1 to 2**30 - 1")
