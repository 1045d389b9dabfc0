"""RMSprop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

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
def rmsprop(
    lr: LearningRate = 1e-2,
    alpha: float | int = 0.99,
    eps: float | int = 1e-8,
    weight_decay: float | int = 0.0,
    momentum: float | int = 0.0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    r"""RMSprop with momentum, L2 penalty and centering, as `torch.optim.RMSprop`.

    $g_t = \pm\nabla_t + \lambda\,p_t$, the sign being minus under `maximize`; then
    $v_t = \alpha\,v_{t-1} + (1 - \alpha)\,g_t^2$, and the update to be added to $p_t$ is
    $-\gamma\,b_t$ with

    $$b_t = \mu\,b_{t-1} + \frac{g_t}{\sqrt{v_t} + \epsilon}.$$

    Under `centered` the root is of the variance $v_t - a_t^2$ with
    $a_t = \alpha\,a_{t-1} + (1 - \alpha)\,g_t$. Here $\gamma$ = `lr`, $\alpha$ = `alpha`,
    $\epsilon$ = `eps`, $\lambda$ = `weight_decay`, $\mu$ = `momentum`, $p$ the parameters. All
    averages start at 0. `lr` is a number, a scalar array (traced or not) or a schedule, called
    with 0 at the first step. The state is an `RMSpropState`.

    Raises ValueError for an `lr`, `alpha`, `eps`, `weight_decay` or `momentum` below 0 or nan and
    an `lr` that is no scalar. A traced `lr` and the values of a schedule are not checked. `init`
    raises TypeError for parameters that are not floating-point.

    As in torch a variance that rounding puts below 0, as that of a gradient which stays the same
    for long may be, makes the update nan; which one it is can differ. Differences: torch takes nan
    for a number and has complex parameters too; XLA's CPU backend takes subnormal numbers for 0.
    `optax.rmsprop` has $\epsilon$ inside the root unless told otherwise, other defaults, and
    neither `weight_decay` nor `maximize`.

    >>> optimizer = rmsprop(lr=0.5, alpha=0.75, momentum=0.5)
    >>> params, grads = jnp.zeros(1), jnp.array([4.0])
    >>> updates, opt_state = optimizer.update(grads, optimizer.init(params), params)
    >>> print(updates, optax.tree.get(opt_state, "square_avg"))  # -0.5 * 4 / sqrt(0.25 * 16)
    [-1.] [4.]

    Source: torch.optim.RMSprop; Hinton, lecture 6e of Neural Networks for Machine Learning,
    https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; for `centered`,
    Graves, https://arxiv.org/abs/1308.0850.
    """
    lr = check_lr(lr)
    alpha, eps, weight_decay, momentum = check_not_negative(
        alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    return chain(
        optax.scale(-1.0) if maximize else None,
        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,
        _scale_by_rmsprop(alpha, eps, momentum, centered),
        optax.scale_by_learning_rate(lr),
    )


class RMSpropState(NamedTuple):
    """What RMSprop carries from step to step, by torch's names."""

    step: Int[Array, ""]
    """Steps done."""
    square_avg: Params
    """$v_t$, shaped like the parameters."""
    momentum_buffer: Params | None = None
    """$b_t$, shaped like the parameters; None without `momentum`."""
    grad_avg: Params | None = None
    """$a_t$, shaped like the parameters; None without `centered`."""


def _scale_by_rmsprop(alpha, eps, momentum, centered) -> optax.GradientTransformation:
    """RMSprop's update without `-lr`."""
    # optax.scale_by_rms and scale_by_stddev multiply by a rounded 1 / (sqrt(v) + eps) and square a
    # gradient before they weigh it, so that it overflows sooner; and optax.trace would keep the
    # momentum under another name.

    def init(params: Params) -> RMSpropState:
        check_floating(params)

        # Separate zeros: jit cannot donate one buffer twice.
        kept = (momentum != 0, centered)
        more = [optax.tree.zeros_like(params) if keep else None for keep in kept]
        return RMSpropState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), *more)

    def update(updates: Params, state: RMSpropState, params: Params | None = None):
        del params
        square_avg = average_squares(state.square_avg, updates, alpha)
        grad_avg, variance = None, square_avg
        if centered:
            grad_avg = jax.tree.map(lambda a, g: lerp(a, g, 1 - alpha), state.grad_avg, updates)
            variance = jax.tree.map(
                lambda square, average: square - average * average, square_avg, grad_avg
            )
        scaled = jax.tree.map(lambda grad, var: grad / (jnp.sqrt(var) + eps), updates, variance)
        buffer = None
        if momentum != 0:
            scaled = buffer = jax.tree.map(
                lambda moving, new: momentum * moving + new, state.momentum_buffer, scaled
            )
        step = jnp.asarray(optax.safe_increment(state.step))
        return scaled, RMSpropState(step, square_avg, buffer, grad_avg)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
