"""Adagrad."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxnet.cache import by_value
from jaxnet.optim._arguments import (
    LearningRate,
    Params,
    chain,
    check_floating,
    check_lr,
    check_not_negative,
)


@by_value
def adagrad(
    lr: LearningRate = 1e-2,
    lr_decay: float | int = 0.0,
    weight_decay: float | int = 0.0,
    initial_accumulator_value: float | int = 0.0,
    eps: float | int = 1e-10,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    r"""Adagrad with a decaying rate and L2 penalty, as `torch.optim.Adagrad`.

    $g_t = \pm\nabla_t + \lambda\,p_t$, the sign being minus under `maximize`; then
    $s_t = s_{t-1} + g_t^2$ from $s_0$ = `initial_accumulator_value`, and the update to be added to
    $p_t$ is

    $$-\frac{\gamma}{1 + (t - 1)\,\eta}\,\frac{g_t}{\sqrt{s_t} + \epsilon}$$

    with $\gamma$ = `lr`, $\eta$ = `lr_decay`, $\lambda$ = `weight_decay`, $\epsilon$ = `eps`, $p$
    the parameters. `lr` is a number, a scalar array (traced or not) or a schedule, called with 0
    at the first step; `lr_decay` divides a schedule's rate too. The state is an `AdagradState`.

    Raises ValueError for a number below 0 or nan and an `lr` that is no scalar. A traced `lr` and
    the values of a schedule are not checked. `init` raises TypeError for parameters that are not
    floating-point.

    Differences: torch takes nan for a number, and has complex parameters and sparse gradients too;
    XLA's CPU backend takes subnormal numbers for 0: it shows in gradients below 1e-19.
    `optax.adagrad` has $\epsilon$ inside the root and starts the sum at 0.1, and has neither
    `lr_decay` nor `weight_decay` nor `maximize`.

    >>> optimizer = adagrad(lr=0.5, lr_decay=1.0)
    >>> params, grads = jnp.zeros(1), jnp.array([3.0])
    >>> first, opt_state = optimizer.update(grads, optimizer.init(params), params)
    >>> second, opt_state = optimizer.update(grads, opt_state, params)
    >>> print(first, second.round(3))  # -0.5 * 3 / 3, -0.5 / 2 * 3 / sqrt(18)
    [-0.5] [-0.177]

    Source: torch.optim.Adagrad; Duchi, Hazan and Singer, https://jmlr.org/papers/v12/duchi11a.html.
    """
    lr = check_lr(lr)
    lr_decay, weight_decay = check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay)
    initial_accumulator_value, eps = check_not_negative(
        initial_accumulator_value=initial_accumulator_value, eps=eps
    )
    return chain(
        optax.scale(-1.0) if maximize else None,
        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,
        _scale_by_adagrad(lr_decay, initial_accumulator_value, eps),
        optax.scale_by_learning_rate(lr),
    )


class AdagradState(NamedTuple):
    """What Adagrad carries from step to step, by torch's names."""

    step: Int[Array, ""]
    """Steps done."""
    sum: Params
    """$s_t$, shaped like the parameters."""


def _scale_by_adagrad(lr_decay, initial_accumulator_value, eps) -> optax.GradientTransformation:
    """Adagrad's update without `-lr`. optax.scale_by_rss has `eps` inside the root."""

    def init(params: Params) -> AdagradState:
        check_floating(params)
        start = optax.tree.full_like(params, initial_accumulator_value)
        return AdagradState(jnp.zeros((), jnp.int32), start)

    def update(updates: Params, state: AdagradState, params: Params | None = None):
        del params
        total = jax.tree.map(lambda before, grad: before + grad * grad, state.sum, updates)
        scaled = jax.tree.map(lambda grad, sum: grad / (jnp.sqrt(sum) + eps), updates, total)
        if lr_decay != 0:
            slower = 1 / (1 + state.step * lr_decay)
            scaled = jax.tree.map(lambda step: slower * step, scaled)
        step = jnp.asarray(optax.safe_increment(state.step))
        return scaled, AdagradState(step, total)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
