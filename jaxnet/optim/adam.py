"""Adam and AdamW."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxnet._utils.validation import check_number
from jaxnet.cache import by_value
from jaxnet.optim._arguments import (
    LearningRate,
    Params,
    average_squares,
    chain,
    check_floating,
    check_lr,
    check_not_negative,
    lerp,
)


@by_value
def adam(
    lr: LearningRate = 1e-3,
    betas: tuple[float | int, float | int] = (0.9, 0.999),
    eps: float | int = 1e-8,
    weight_decay: float | int = 0.0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    r"""Adam, or AMSGrad, with the L2 penalty in the gradient, as `torch.optim.Adam`.

    $g_t = \pm\nabla_t + \lambda\,p_t$, the sign being minus under `maximize`; then
    $m_t = \beta_1 m_{t-1} + (1 - \beta_1)\,g_t$, $v_t = \beta_2 v_{t-1} + (1 - \beta_2)\,g_t^2$,
    and the update to be added to $p_t$ is

    $$-\gamma\,\frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon},$$

    with $\max(v_1, \dots, v_t)$ for $v_t$ under `amsgrad`. Here $\gamma$ = `lr`,
    $(\beta_1, \beta_2)$ = `betas`, $\epsilon$ = `eps`, $\lambda$ = `weight_decay`, $p$ the
    parameters. `lr` is a number, a scalar array (traced or not) or a schedule, called with 0 at
    the first step. The state is an `AdamState`.

    Raises ValueError for an `lr`, `eps` or `weight_decay` below 0 or nan, an `lr` that is no
    scalar, and `betas` outside [0, 1). A traced `lr` and the values of a schedule are not checked.
    `init` raises TypeError for parameters that are not floating-point.

    Differences: torch has complex parameters too, and wants both betas to be floats. XLA's CPU
    backend takes subnormal numbers for 0: an `eps` below 1e-12 shows it in gradients below 1e-17.
    `optax.adam` forms $1 - \beta^t$ in float32, which puts the first steps off by up to
    1e-5 of the step; `optax.amsgrad` takes the maximum of $v_t / (1 - \beta_2^t)$, so
    that a large first gradient is felt longer. Neither has `weight_decay` or `maximize`.

    >>> optimizer = adam(lr=0.1)
    >>> params, grads = jnp.zeros(2), jnp.array([4.0, -1e-8])
    >>> updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
    >>> print(updates.round(3))  # sqrt(v) is 4 for the one; 1e-8 for the other, as eps is
    [-0.1   0.05]

    Source: torch.optim.Adam; Kingma and Ba, https://arxiv.org/abs/1412.6980; Reddi, Kale and
    Kumar, https://openreview.net/forum?id=ryQu7f-RZ.
    """
    lr, eps, weight_decay = _check_adam(lr, betas, eps, weight_decay)
    return chain(
        optax.scale(-1.0) if maximize else None,
        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,
        _scale_by_adam(betas, eps, amsgrad),
        optax.scale_by_learning_rate(lr),
    )


@by_value
def adamw(
    lr: LearningRate = 1e-3,
    betas: tuple[float | int, float | int] = (0.9, 0.999),
    eps: float | int = 1e-8,
    weight_decay: float | int = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    r"""Adam, or AMSGrad, with weight decay apart from the gradient, as `torch.optim.AdamW`.

    The update to be added to $p_t$ is $-\gamma\,\lambda\,p_t$ plus the update of `adam` without
    weight decay, with $\gamma$ = `lr`, $\lambda$ = `weight_decay` and $p$ the parameters. The
    decay shrinks the weights under `maximize` too. All arguments are those of `adam`.

    Raises ValueError and TypeError as `adam` does.

    Differences: torch multiplies the weights by $1 - \gamma\,\lambda$ and then adds the step, with
    a rounding between; here both make one update. Otherwise as in `adam`. `optax.adamw` differs
    as `optax.adam` does, and has another default `weight_decay`, 1e-4.

    >>> optimizer = adamw(lr=0.1, weight_decay=0.5)
    >>> params, grads = jnp.array([2.0]), jnp.array([4.0])
    >>> updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
    >>> print(updates.round(3))  # -0.1 * (0.5 * 2 + 4 / 4)
    [-0.2]

    Source: torch.optim.AdamW; Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
    """
    lr, eps, weight_decay = _check_adam(lr, betas, eps, weight_decay)
    return chain(
        optax.scale(-1.0) if maximize else None,
        _scale_by_adam(betas, eps, amsgrad),
        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,
        optax.scale_by_learning_rate(lr),
    )


class AdamState(NamedTuple):
    """What Adam carries from step to step, by torch's names."""

    step: Int[Array, ""]
    """Steps done."""
    exp_avg: Params
    """$m_t$, shaped like the parameters."""
    exp_avg_sq: Params
    """$v_t$, shaped like the parameters."""
    max_exp_avg_sq: Params | None = None
    """$\\max(v_1, \\dots, v_t)$, shaped like the parameters; None without `amsgrad`."""


def _scale_by_adam(betas, eps, amsgrad) -> optax.GradientTransformation:
    """Adam's update without `-lr`."""
    beta1, beta2 = betas

    def init(params: Params) -> AdamState:
        check_floating(params)
        # Separate zeros: jit cannot donate one buffer twice.
        zeros = [optax.tree.zeros_like(params) for _ in range(3 if amsgrad else 2)]
        return AdamState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates: Params, state: AdamState, params: Params | None = None):
        del params
        exp_avg = jax.tree.map(lambda a, grad: lerp(a, grad, 1 - beta1), state.exp_avg, updates)
        exp_avg_sq = average_squares(state.exp_avg_sq, updates, beta2)
        largest = jax.tree.map(jnp.maximum, state.max_exp_avg_sq, exp_avg_sq) if amsgrad else None
        step = jnp.asarray(optax.safe_increment(state.step))

        # Numerator and denominator times sqrt(1 - beta2**t), which saves a division per element.
        root = jnp.sqrt(_bias_correction(beta2, step))
        factor = root / _bias_correction(beta1, step)
        scaled = jax.tree.map(
            lambda average, square: factor * average / (jnp.sqrt(square) + eps * root),
            exp_avg,
            largest if amsgrad else exp_avg_sq,
        )
        return scaled, AdamState(step, exp_avg, exp_avg_sq, largest)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _bias_correction(beta: float | int, step: Int[Array, ""]) -> Float[Array, ""] | float:
    """`1 - beta**step` to the last bits, of weak type, so that float16 parameters stay float16."""
    if beta == 0:
        return 1.0
    # In float32 `1 - 0.999` is off by 2e-5 of itself. torch forms it in float64 on the host, where
    # step is not known here, but the logarithm is.
    return -jnp.expm1(step * math.log(beta))


def _check_adam(lr, betas, eps, weight_decay):
    lr = check_lr(lr)
    if np.shape(betas) != (2,):
        raise ValueError(f"betas is {betas}, expected two numbers in [0, 1)")
    for i, beta in enumerate(betas):
        if not 0.0 <= check_number(f"betas[{i}]", beta) < 1.0:
            raise ValueError(f"betas[{i}] is {beta}, expected a number in [0, 1)")
    return lr, *check_not_negative(eps=eps, weight_decay=weight_decay)
