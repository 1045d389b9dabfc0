"""The binary losses: of probabilities and of logits."""

import functools
import operator

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxnet.losses._arguments import (
    Floats,
    Weights,
    broadcast,
    check_elements,
    known_values,
    reduce,
)


def binary_cross_entropy(
    input: Floats, target: Floats, weight: Weights | None = None, reduction: str = "mean"
) -> Float[Array, "..."]:
    r"""Binary cross entropy between probabilities and targets in [0, 1].

    $l = -w\,(t \log x + (1 - t) \log(1 - x))$ with $x$ = `input`, $t$ = `target`, $w$ = `weight`,
    then the mean or sum over all elements. `target` has the shape and dtype of `input`; `weight`
    broadcasts to that shape. The result is a scalar, or has that shape under `reduction="none"`.

    Raises ValueError for an unknown `reduction`, for shapes that do not fit and for values outside
    [0, 1] or nan in `input` or `target`; TypeError for a dtype. Inside jit such values are not
    seen: the loss of an `input` outside [0, 1] is then nan.

    As in torch each logarithm is clamped at -100, so the loss is finite at 0 and 1, and the
    gradients are not those of the clamp: $(x - t) / \max((1 - x) x, 10^{-12})$ in `input`
    and $-\log(x / (1 - x))$, infinite at 0 and 1, in `target`. Differences: torch raises
    RuntimeError for values and dtypes and has no gradient in `weight`, which is given here;
    on a CPU, XLA takes a subnormal `input` for 0.

    >>> probs, targets = jnp.array([0.5, 1.0]), jnp.array([1.0, 0.0])
    >>> round(float(binary_cross_entropy(probs, targets, reduction="sum")), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.binary_cross_entropy, torch.nn.BCELoss.
    """
    check_elements(input, target, reduction, weight=weight)
    _check_probabilities("input", input)
    _check_probabilities("target", target)
    probs, targets = jnp.asarray(input), jnp.asarray(target)
    if probs.dtype != targets.dtype:
        raise TypeError(f"target has dtype {targets.dtype}, expected {probs.dtype} as in input")
    loss = _element_of_probs(probs, targets)
    if weight is not None:
        loss = loss * broadcast("weight", weight, loss)
    return reduce(loss, reduction)


def binary_cross_entropy_with_logits(
    input: Floats,
    target: Floats,
    weight: Weights | None = None,
    reduction: str = "mean",
    pos_weight: Weights | None = None,
) -> Float[Array, "..."]:
    r"""Binary cross entropy between logits and targets, stable for logits of any size.

    $l = w\,((1 - t)\,x - (1 + (p - 1)\,t) \log\sigma(x))$ with $x$ = `input`, $t$ = `target`,
    $w$ = `weight`, $p$ = `pos_weight` and $\sigma$ the sigmoid, then the mean or sum over all
    elements. `target` has the shape of `input`; both weights broadcast to it. The result has the
    dtype of `target` and is a scalar, or has that shape under `reduction="none"`.

    Raises ValueError for an unknown `reduction` and for shapes that do not fit; TypeError for a
    dtype. Like torch it takes targets outside [0, 1].

    As in torch the gradients are $w\,((1 + (p - 1)\,t)\,\sigma(x) - p\,t)$ in `input`, exact in
    both tails, and $w\,(\log\sigma(-x) - p \log\sigma(x))$ in `target`. A logit of -inf gives nan,
    one of inf gives inf, or nan where `target` is 1. Differences: torch raises RuntimeError for
    weights that do not fit and for dtypes, and has no gradients in the two weights, which are
    given here.

    >>> logits, targets = jnp.array([0.0, 100.0]), jnp.array([1.0, 0.0])
    >>> loss = binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    >>> round(float(loss), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.binary_cross_entropy_with_logits, torch.nn.BCEWithLogitsLoss.
    """
    check_elements(input, target, reduction, weight=weight, pos_weight=pos_weight)
    logits, targets = jnp.asarray(input), jnp.asarray(target)
    if pos_weight is not None:
        pos_weight = broadcast("pos_weight", pos_weight, targets)
    loss = _element_of_logits(logits, targets, pos_weight).astype(targets.dtype)
    if weight is not None:
        loss = loss * broadcast("weight", weight, loss)
    return reduce(loss, reduction)


@jax.custom_jvp
def _element_of_probs(probs, targets):
    log_p = jnp.maximum(jnp.log(probs), -100)
    log_not_p = jnp.maximum(jnp.log1p(-probs), -100)
    return (targets - 1) * log_not_p - targets * log_p


@functools.partial(_element_of_probs.defjvp, symbolic_zeros=True)
def _element_of_probs_jvp(primals, tangents):
    probs, targets = primals
    slopes = (
        lambda: (probs - targets) / jnp.maximum((1 - probs) * probs, 1e-12),
        lambda: -jax.scipy.special.logit(probs),
    )
    return _element_of_probs(*primals), _sum_of_tangents(slopes, tangents)


@jax.custom_jvp
def _element_of_logits(logits, targets, pos_weight):
    # Torch's own form: the tidier max(x, 0) - x t + log(1 + exp(-|x|)) is nan at x = inf.
    log_weight = 1 if pos_weight is None else (pos_weight - 1) * targets + 1
    return (1 - targets) * logits - log_weight * _log_sigmoid(logits)


@functools.partial(_element_of_logits.defjvp, symbolic_zeros=True)
def _element_of_logits_jvp(primals, tangents):
    # Left to autodiff, the slope 1 - t - sigmoid(-x) would round to 0 at t = 0, x = -20.
    logits, targets, pos_weight = primals
    if pos_weight is None:
        slopes = (lambda: jax.nn.sigmoid(logits) - targets, lambda: -logits)
    else:
        positive = pos_weight * targets
        slopes = (
            lambda: (positive + 1 - targets) * jax.nn.sigmoid(logits) - positive,
            lambda: _log_sigmoid(-logits) - pos_weight * _log_sigmoid(logits),
            lambda: -targets * _log_sigmoid(logits),
        )
    return _element_of_logits(*primals), _sum_of_tangents(slopes, tangents[: len(slopes)])


def _sum_of_tangents(slopes, tangents):
    """Sum of slope times tangent over the arguments that vary: inf times a still 0 is nan."""
    pairs = zip(slopes, tangents, strict=True)
    terms = (slope() * t for slope, t in pairs if not isinstance(t, SymbolicZero))
    return functools.reduce(operator.add, terms)


def _log_sigmoid(x):
    return jnp.minimum(x, 0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


def _check_probabilities(name, array):
    values = known_values(array)
    if values is not None and not (inside := (values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} holds {values[~inside][0]}, expected every element in [0, 1]")
