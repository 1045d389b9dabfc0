"""The losses of a difference: squared, absolute, and absolute with a smooth bottom."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet._utils.validation import check_number
from jaxnet.losses._arguments import Floats, Weights, check_elements, reduce


def mse_loss(
    input: Floats, target: Floats, reduction: str = "mean", weight: Weights | None = None
) -> Float[Array, "..."]:
    r"""Squared error.

    $l = w\,(x - t)^2$ with $x$ = `input`, $t$ = `target`, $w$ = `weight`, then the sum over all
    elements, or the mean $\sum l / \sum w$. `target` and `weight` have the shape of `input`. The
    result is a scalar, or has that shape under `reduction="none"`.

    Raises ValueError for an unknown `reduction` and for another shape, TypeError for a dtype.

    As in torch the mean of weights that sum to 0 is nan. Differences: torch warns of a `target` of
    another shape and broadcasts it, so that (N, 1) and (N,) give (N, N): rejected here. It casts
    an integer `input` or `target`: rejected here.

    >>> outputs, targets = jnp.array([1.0, 5.0]), jnp.array([0.0, 2.0])
    >>> print(mse_loss(outputs, targets), mse_loss(outputs, targets, weight=jnp.array([3, 1])))
    5.0 3.0

    Source: torch.nn.functional.mse_loss, torch.nn.MSELoss.
    """
    difference = _difference(input, target, reduction, weight)
    return _reduce_weighted(jnp.square(difference), weight, reduction)


def l1_loss(
    input: Floats, target: Floats, reduction: str = "mean", weight: Weights | None = None
) -> Float[Array, "..."]:
    r"""Absolute error.

    $l = w\,|x - t|$ with $x$ = `input`, $t$ = `target`, $w$ = `weight`, then the sum over all
    elements, or the mean $\sum l / \sum w$. Shapes and dtypes are those of `mse_loss`.

    Raises ValueError and TypeError as `mse_loss` does.

    As in torch the gradient is 0 where the difference is 0, and where it is nan. Differences: those
    of `mse_loss`.

    >>> outputs, targets = jnp.array([1.0, 5.0]), jnp.array([0.0, 2.0])
    >>> print(l1_loss(outputs, targets), l1_loss(outputs, targets, weight=jnp.array([3, 1])))
    2.0 1.5

    Source: torch.nn.functional.l1_loss, torch.nn.L1Loss.
    """
    difference = _difference(input, target, reduction, weight)
    return _reduce_weighted(absolute(difference), weight, reduction)


def smooth_l1_loss(
    input: Floats, target: Floats, reduction: str = "mean", beta: float | int = 1.0
) -> Float[Array, "..."]:
    r"""Absolute error, made smooth by a parabola where it is below `beta`.

    With $d = |x - t|$, $x$ = `input`, $t$ = `target` and $\beta$ = `beta`, $l = d^2 / (2 \beta)$
    where $d < \beta$ and $d - \beta / 2$ elsewhere, then the mean or sum over all elements. At
    $\beta = 0$ this is `l1_loss`. `target` has the shape of `input`. The result is a scalar, or
    has that shape under `reduction="none"`.

    Raises ValueError for an unknown `reduction`, for another shape and for a `beta` below 0 or
    nan; TypeError for a dtype.

    As in torch the gradient is $(x - t) / \beta$, at most 1 in size, and nan where the difference
    is. Differences: torch raises RuntimeError for `beta`; otherwise those of `mse_loss`.

    >>> outputs, targets = jnp.array([1.0, 5.0]), jnp.array([0.0, 2.0])
    >>> print(smooth_l1_loss(outputs, targets, reduction="none", beta=2.0))
    [0.25 2.  ]

    Source: torch.nn.functional.smooth_l1_loss, torch.nn.SmoothL1Loss.
    """
    difference = _difference(input, target, reduction)
    beta = check_number("beta", beta)
    if not beta >= 0:
        raise ValueError(f"beta is {beta}, expected a number of at least 0")
    element = absolute(difference) if beta == 0 else _smooth_absolute(difference, beta)
    return reduce(element, reduction)


def _absolute_tangent(tangent, size, difference):
    # torch.sign, which is 0 of nan; jnp.sign is nan of nan.
    sign = jnp.where(difference > 0, 1, jnp.where(difference < 0, -1, 0))
    return sign.astype(difference.dtype) * tangent


absolute = jax.custom_jvp(jnp.abs)
absolute.defjvps(_absolute_tangent)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _smooth_absolute(difference, beta):
    size = jnp.abs(difference)
    return jnp.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


@_smooth_absolute.defjvp
def _smooth_absolute_jvp(beta, primals, tangents):
    # Autodiff would multiply the parabola's slope, infinite at an infinite difference, by 0.
    (difference,), (tangent,) = primals, tangents
    inside = jnp.abs(difference) < beta
    slope = jnp.where(inside, difference / beta, jnp.sign(difference))
    return _smooth_absolute(difference, beta), slope * tangent


def _difference(input, target, reduction, weight=None):
    check_elements(input, target, reduction, weight=weight)
    if weight is not None and weight.shape != input.shape:
        raise ValueError(f"weight has shape {weight.shape}, expected {input.shape} as in input")
    return jnp.asarray(input) - jnp.asarray(target)


def _reduce_weighted(loss, weight, reduction):
    if weight is None:
        return reduce(loss, reduction)
    weight = jnp.asarray(weight)
    weighted = loss * weight
    if reduction == "mean":
        return jnp.sum(weighted) / jnp.sum(weight)
    return reduce(weighted, reduction)
