"""Stochastic gradient descent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxnet._utils.validation import check_number
from jaxnet.cache import by_value
from jaxnet.optim._arguments import (
    LearningRate,
    Params,
    chain,
    check_lr,
    check_not_negative,
)


@by_value
def sgd(
    lr: LearningRate = 1e-3,
    momentum: float | int = 0.0,
    dampening: float | int = 0.0,
    weight_decay: float | int = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    r"""Stochastic gradient descent with momentum and L2 penalty, as `torch.optim.SGD`.

    $g_t = \pm\nabla_t + \lambda\,p_t$, the sign being minus under `maximize`; then
    $b_1 = g_1$, $b_t = \mu\,b_{t-1} + (1 - \tau)\,g_t$, and the update to be added to $p_t$ is
    $-\gamma\,b_t$, or $-\gamma\,(g_t + \mu\,b_t)$ with `nesterov`. Here $\gamma$ = `lr`,
    $\mu$ = `momentum`, $\tau$ = `dampening`, $\lambda$ = `weight_decay`, $p$ the parameters.
    Without momentum the update is $-\gamma\,g_t$ and nothing is carried.

    `lr` is a number, a scalar array (traced or not) or a schedule, called with 0 at the first step.
    The field `trace` of the state is torch's `momentum_buffer`.

    Raises ValueError for an `lr`, `momentum` or `weight_decay` below 0 or nan, an `lr` that is no
    scalar, and `nesterov` without momentum or with dampening. A traced `lr` and the values of a
    schedule are not checked.

    As in torch the first gradient enters $b$ undamped. Differences: torch takes nan for a number,
    and a buffer that does not exist yet is 0 here. `optax.sgd` is the same with `momentum` and
    `nesterov`, and has neither `dampening` nor `weight_decay` nor `maximize`.

    >>> optimizer = sgd(lr=0.5, momentum=0.5)
    >>> params, grads = jnp.zeros(1), jnp.array([2.0])
    >>> first, opt_state = optimizer.update(grads, optimizer.init(params), params)
    >>> second, opt_state = optimizer.update(grads, opt_state, params)
    >>> first.tolist(), second.tolist()
    ([-1.0], [-1.5])

    Source: torch.optim.SGD.
    """
    lr = check_lr(lr)
    momentum, weight_decay = check_not_negative(momentum=momentum, weight_decay=weight_decay)
    check_number("dampening", dampening)
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"nesterov is True with momentum {momentum} and dampening {dampening}, "
            "expected a momentum above 0 and dampening 0"
        )
    return chain(
        optax.scale(-1.0) if maximize else None,
        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,
        _dampen_after_first(dampening) if momentum != 0 and dampening != 0 else None,
        optax.trace(momentum, nesterov) if momentum != 0 else None,
        optax.scale_by_learning_rate(lr),
    )


class DampeningState(NamedTuple):
    """What dampening carries from step to step."""

    started: Bool[Array, ""]
    """Whether a gradient has been seen: in torch, whether `momentum_buffer` exists."""


def _dampen_after_first(dampening: float | int) -> optax.GradientTransformation:
    """Multiply every gradient but the first by `1 - dampening`."""

    def init(params: Params) -> DampeningState:
        del params
        return DampeningState(started=jnp.zeros((), bool))

    def update(updates: Params, state: DampeningState, params: Params | None = None):
        del params
        factor = jnp.where(state.started, 1.0 - dampening, 1.0)
        damped = jax.tree.map(lambda grad: factor * grad, updates)
        return damped, DampeningState(started=jnp.ones((), bool))

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
