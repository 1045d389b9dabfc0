"""The losses of the lecture, with the arguments, edge cases and gradients of torch's.

Each function is pure and may be jitted, vmapped and differentiated. Shapes and dtypes are always
checked; values only where they are known, so not in an argument that jit, vmap or grad traces.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Integer, Real

Floats = Float[Array | np.ndarray, "..."]
Classes = Integer[Array | np.ndarray, "..."]
Weights = Real[Array | np.ndarray, "..."]


def binary_cross_entropy(
    input: Floats,
    target: Floats,
    weight: Weights | None = None,
    reduction: str = "mean",
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
    RuntimeError for values and dtypes and refuses the gradient in `weight`, which is given here;
    on a CPU, XLA takes a subnormal `input` for 0.

    >>> probs, targets = jnp.array([0.5, 1.0]), jnp.array([1.0, 0.0])
    >>> round(float(binary_cross_entropy(probs, targets, reduction="sum")), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.binary_cross_entropy, torch.nn.BCELoss.
    """
    _check_reduction(reduction)
    _check_arrays(input=input, target=target, weight=weight)
    _check_same_shape(input, target)
    _check_probabilities("input", input)
    _check_probabilities("target", target)
    probs, targets = jnp.asarray(input), jnp.asarray(target)
    if probs.dtype != targets.dtype:
        raise TypeError(f"target has dtype {targets.dtype}, expected {probs.dtype} as in input")
    loss = _element_of_probs(probs, targets)
    if weight is not None:
        loss = loss * _broadcast("weight", weight, loss)
    return _reduce(loss, reduction)


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
    weights that do not fit and for dtypes, and refuses the gradients in the two weights, which are
    given here.

    >>> logits, targets = jnp.array([0.0, 100.0]), jnp.array([1.0, 0.0])
    >>> loss = binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    >>> round(float(loss), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.binary_cross_entropy_with_logits, torch.nn.BCEWithLogitsLoss.
    """
    _check_reduction(reduction)
    _check_arrays(input=input, target=target, weight=weight, pos_weight=pos_weight)
    _check_same_shape(input, target)
    _check_floating("input", input)
    _check_floating("target", target)
    logits, targets = jnp.asarray(input), jnp.asarray(target)
    if pos_weight is not None:
        pos_weight = _broadcast("pos_weight", pos_weight, targets)
    loss = _element_of_logits(logits, targets, pos_weight).astype(targets.dtype)
    if weight is not None:
        loss = loss * _broadcast("weight", weight, loss)
    return _reduce(loss, reduction)


def cross_entropy(
    input: Floats,
    target: Floats | Classes,
    weight: Weights | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Float[Array, "..."]:
    r"""Cross entropy between logits and class indices, or class probabilities.

    $l = -\sum_c w_c\,q_c \log\mathrm{softmax}(x)_c$, $q_c = (1 - s)\,p_c + s / C$, with $x$ =
    `input`, $w$ = `weight`, $s$ = `label_smoothing`, $p$ = `target` or, of a class index $k$, 1 at
    $k$ and 0 elsewhere. The mean of class indices is $\sum l / \sum w_k$; that of probabilities
    divides by the number of rows, whatever the weights.

    Shapes: `input` (C,) or (N, C, d1, ...); `target` the same without C, of any integer dtype, or
    the same with C, of a floating dtype; `weight` (C,). The result is a scalar, or has the shape
    of `input` without C under `reduction="none"`. A row whose class is `ignore_index` counts
    neither in the sum nor in the mean: with no row left the mean is nan and its gradient 0.

    Raises ValueError for an unknown `reduction`, for shapes that do not fit, for `label_smoothing`
    outside [0, 1] and for an `ignore_index` of 0 or more with probabilities; TypeError for a
    dtype; IndexError for a class outside [0, C). Inside jit such a class is not seen: its loss is
    then nan.

    Differences: torch raises RuntimeError for most of these. It accepts what is refused here: a
    `label_smoothing` below 0 or nan (as 0), a target (1,) with an input (C,), and C = 0. It
    refuses what is accepted here: class indices other than int64 and uint8, and beside indices a
    `weight` of another dtype than `input` (cast here) and its gradient.

    >>> logits, target = jnp.array([[0.0, 0.0], [100.0, 0.0]]), jnp.array([1, 1])
    >>> round(float(cross_entropy(logits, target, reduction="sum")), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.cross_entropy, torch.nn.CrossEntropyLoss.
    """
    _check_reduction(reduction)
    _check_arrays(input=input, target=target, weight=weight)
    _check_floating("input", input)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected a number in [0, 1]")
    class_axis = min(1, len(input.shape) - 1)
    if class_axis < 0 or input.shape[class_axis] == 0:
        raise ValueError(f"input has shape {input.shape}, expected (C,) or (N, C, ...) with C > 0")
    classes = input.shape[class_axis]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"weight has shape {weight.shape}, expected ({classes},), one per class")
    if target.shape == input.shape:
        _check_class_probabilities(target, ignore_index)
        loss = _rows_of_probs(input, target, weight, label_smoothing, class_axis)
        return _reduce(loss, reduction)
    _check_class_indices(target, input.shape, class_axis, ignore_index)
    # XLA counts in int32, and a narrow or unsigned dtype may not hold ignore_index.
    indices = jnp.asarray(target).astype(jnp.int32)
    counted = indices != ignore_index
    # take_along_axis would count a negative class from the end; C, out of bounds, gives nan.
    indices = jnp.where(counted, jnp.where(indices < 0, classes, indices), 0)
    loss, row_weight = _rows_of_classes(input, indices, weight, label_smoothing, class_axis)
    # `where=` selects the ignored rows away: times 0 they would turn an inf cotangent into nan.
    if reduction == "mean" and row_weight is not None:
        return jnp.sum(loss, where=counted) / jnp.sum(row_weight, where=counted)
    if reduction == "none":
        return jnp.where(counted, loss, 0)
    return _reduce(loss, reduction, where=counted)


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


def _rows_of_probs(input, target, weight, label_smoothing, class_axis):
    log_probs = jax.nn.log_softmax(jnp.asarray(input), class_axis)
    probs = jnp.asarray(target)
    if label_smoothing > 0:
        probs = probs * (1 - label_smoothing) + label_smoothing / input.shape[class_axis]
    terms = log_probs * probs
    if weight is not None:
        terms = terms * _along(class_axis, weight, terms)
    return -jnp.sum(terms, class_axis)


def _rows_of_classes(input, indices, weight, label_smoothing, class_axis):
    """The loss of every row, ignored ones included, and the weight of its class, if any."""
    log_probs = jax.nn.log_softmax(jnp.asarray(input), class_axis)
    picked = jnp.take_along_axis(log_probs, jnp.expand_dims(indices, class_axis), class_axis)
    loss, row_weight = -jnp.squeeze(picked, class_axis), None
    if weight is not None:
        weight = jnp.asarray(weight).astype(loss.dtype)
        row_weight = jnp.take(weight, indices)
        loss = loss * row_weight
    if label_smoothing > 0:
        if weight is not None:
            log_probs = log_probs * _along(class_axis, weight, log_probs)
        share = label_smoothing / input.shape[class_axis]
        loss = (1 - label_smoothing) * loss - share * jnp.sum(log_probs, class_axis)
    return loss, row_weight


def _along(axis, vector, like):
    return jnp.expand_dims(vector, [i for i in range(like.ndim) if i != axis])


def _reduce(loss, reduction, where=None):
    if reduction == "none":
        return loss
    return jnp.mean(loss, where=where) if reduction == "mean" else jnp.sum(loss, where=where)


def _broadcast(name, weight, like):
    try:
        fits = np.broadcast_shapes(weight.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {weight.shape}, expected one that fits {like.shape}")
    return jnp.broadcast_to(jnp.asarray(weight), like.shape).astype(like.dtype)


def _check_reduction(reduction):
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}, expected 'none', 'mean' or 'sum'")


def _check_arrays(**arrays):
    for name, array in arrays.items():
        if array is not None and not isinstance(array, jax.Array | np.ndarray | np.generic):
            raise TypeError(f"{name} is a {type(array).__name__}, expected an array")


def _check_floating(name, array):
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected a floating dtype")


def _check_same_shape(input, target):
    if target.shape != input.shape:
        raise ValueError(f"target has shape {target.shape}, expected {input.shape} as in input")


def _known_values(array):
    """The values, or None of a tracer; in NumPy, as inside jit jnp would trace a constant too."""
    return None if isinstance(array, Tracer) else np.asarray(array)


def _check_probabilities(name, array):
    _check_floating(name, array)
    values = _known_values(array)
    if values is not None and not (inside := (values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} holds {values[~inside][0]}, expected every element in [0, 1]")


def _check_class_probabilities(target, ignore_index):
    if not jnp.issubdtype(target.dtype, jnp.floating):
        raise TypeError(
            f"target has dtype {target.dtype} and the shape of input, {target.shape}; expected "
            "floating class probabilities, or class indices without the class axis"
        )
    if ignore_index >= 0:
        raise ValueError(f"ignore_index is {ignore_index}, expected < 0 with class probabilities")


def _check_class_indices(target, input_shape, class_axis, ignore_index):
    classes = input_shape[class_axis]
    expected = input_shape[:class_axis] + input_shape[class_axis + 1 :]
    if target.shape != expected:
        raise ValueError(f"target has shape {target.shape}, expected {expected} or {input_shape}")
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"target has dtype {target.dtype}, expected integer class indices")
    values = _known_values(target)
    if values is None:
        return
    outside = ((values < 0) | (values >= classes)) & (values != ignore_index)
    if outside.any():
        raise IndexError(
            f"target holds class {values[outside][0]}, expected every class in [0, {classes}) "
            f"or equal to ignore_index, {ignore_index}"
        )
