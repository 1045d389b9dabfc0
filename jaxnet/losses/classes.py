"""The losses of rows that have one class each, or class probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxnet._utils.validation import INT32, check_number
from jaxnet.losses._arguments import (
    Classes,
    Floats,
    Weights,
    check_arrays,
    check_floating,
    check_reduction,
    known_values,
    reduce,
)


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

    Differences: torch raises RuntimeError for most of these. It accepts what is rejected here: a
    `label_smoothing` below 0 or nan (as 0), a target (1,) with an input (C,), and C = 0. It
    rejects what is accepted here: class indices other than int64 and uint8, and beside indices a
    `weight` of another dtype than `input` (cast here) and its gradient.

    >>> logits, target = jnp.array([[0.0, 0.0], [100.0, 0.0]]), jnp.array([1, 1])
    >>> round(float(cross_entropy(logits, target, reduction="sum")), 3)  # log 2 + 100
    100.693

    Source: torch.nn.functional.cross_entropy, torch.nn.CrossEntropyLoss.
    """
    class_axis = _check_classes(input, target, weight, reduction)
    if not 0.0 <= check_number("label_smoothing", label_smoothing) <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected a number in [0, 1]")
    if target.shape == input.shape:
        _check_class_probabilities(target, ignore_index)
        loss = _rows_of_probs(input, target, weight, label_smoothing, class_axis)
        return reduce(loss, reduction)
    _check_class_indices(target, input.shape, class_axis, ignore_index, f" or {input.shape}")
    log_probs = jax.nn.log_softmax(jnp.asarray(input), class_axis)
    indices, counted = _indices_of(target, input.shape[class_axis], ignore_index)
    loss, row_weight = _rows_of_classes(log_probs, indices, weight, class_axis)
    if label_smoothing > 0:
        smooth = _rows_of_all_classes(log_probs, weight, class_axis)
        share = label_smoothing / input.shape[class_axis]
        loss = (1 - label_smoothing) * loss + share * smooth
    return _reduce_counted(loss, row_weight, counted, reduction)


def nll_loss(
    input: Floats,
    target: Classes,
    weight: Weights | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Float[Array, "..."]:
    r"""Negative log likelihood of class indices, from log-probabilities such as log_softmax gives.

    $l = -w_k\,x_k$ with $x$ = `input`, $w$ = `weight` and $k$ the class that `target` holds, then
    the sum, or the mean $\sum l / \sum w_k$.

    Shapes: `input` (C,) or (N, C, d1, ...); `target` the same without C, of any integer dtype;
    `weight` (C,). The result is a scalar, or has the shape of `target` under `reduction="none"`.
    A row whose class is `ignore_index` counts neither in the sum nor in the mean: with no row left
    the mean is nan and its gradient 0.

    Raises errors, and differs from torch, as `cross_entropy` does with class indices.

    >>> log_probs, target = jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]])), jnp.array([0, 1])
    >>> round(float(nll_loss(log_probs, target, reduction="sum")), 3)  # log 2 + log 4
    2.079

    Source: torch.nn.functional.nll_loss, torch.nn.NLLLoss.
    """
    class_axis = _check_classes(input, target, weight, reduction)
    _check_class_indices(target, input.shape, class_axis, ignore_index)
    indices, counted = _indices_of(target, input.shape[class_axis], ignore_index)
    loss, row_weight = _rows_of_classes(jnp.asarray(input), indices, weight, class_axis)
    return _reduce_counted(loss, row_weight, counted, reduction)


def _rows_of_probs(input, target, weight, label_smoothing, class_axis):
    log_probs = jax.nn.log_softmax(jnp.asarray(input), class_axis)
    probs = jnp.asarray(target)
    if label_smoothing > 0:
        probs = probs * (1 - label_smoothing) + label_smoothing / input.shape[class_axis]
    terms = log_probs * probs
    if weight is not None:
        terms = terms * _along(class_axis, weight, terms)
    return -jnp.sum(terms, class_axis)


def _indices_of(target, classes, ignore_index):
    """Indices that are safe to take, and which rows count."""
    # XLA counts in int32, and a narrow or unsigned dtype may not hold ignore_index.
    indices = jnp.asarray(target).astype(jnp.int32)
    counted = indices != ignore_index
    # take_along_axis would count a negative class from the end; C, out of bounds, gives nan.
    return jnp.where(counted, jnp.where(indices < 0, classes, indices), 0), counted


def _rows_of_classes(log_probs, indices, weight, class_axis):
    """The loss of every row, ignored ones included, and the weight of its class, if any."""
    picked = jnp.take_along_axis(log_probs, jnp.expand_dims(indices, class_axis), class_axis)
    loss = -jnp.squeeze(picked, class_axis)
    if weight is None:
        return loss, None
    row_weight = jnp.take(jnp.asarray(weight).astype(loss.dtype), indices)
    return loss * row_weight, row_weight


def _rows_of_all_classes(log_probs, weight, class_axis):
    if weight is not None:
        weight = jnp.asarray(weight).astype(log_probs.dtype)
        log_probs = log_probs * _along(class_axis, weight, log_probs)
    return -jnp.sum(log_probs, class_axis)


def _reduce_counted(loss, row_weight, counted, reduction):
    # `where=` selects the ignored rows away: times 0 they would turn an inf cotangent into nan.
    if reduction == "mean" and row_weight is not None:
        return jnp.sum(loss, where=counted) / jnp.sum(row_weight, where=counted)
    if reduction == "none":
        return jnp.where(counted, loss, 0)
    return reduce(loss, reduction, where=counted)


def _along(axis, vector, like):
    return jnp.expand_dims(vector, [i for i in range(like.ndim) if i != axis])


def _check_classes(input, target, weight, reduction):
    """The axis of the classes, once `input` has some and `weight` one for each."""
    check_reduction(reduction)
    check_arrays(input=input, target=target, weight=weight)
    check_floating("input", input)
    class_axis = min(1, len(input.shape) - 1)
    if class_axis < 0 or input.shape[class_axis] == 0:
        raise ValueError(f"input has shape {input.shape}, expected (C,) or (N, C, ...) with C > 0")
    classes = input.shape[class_axis]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"weight has shape {weight.shape}, expected ({classes},), one per class")
    return class_axis


def _check_class_probabilities(target, ignore_index):
    if not jnp.issubdtype(target.dtype, jnp.floating):
        raise TypeError(
            f"target has dtype {target.dtype} and the shape of input, {target.shape}; expected "
            "floating class probabilities, or class indices without the class axis"
        )
    if ignore_index >= 0:
        raise ValueError(f"ignore_index is {ignore_index}, expected < 0 with class probabilities")


def _check_class_indices(target, input_shape, class_axis, ignore_index, or_else=""):
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
        raise TypeError(f"ignore_index is {ignore_index!r}, expected an integer")
    if not -INT32 <= ignore_index <= INT32:
        raise ValueError(f"ignore_index is {ignore_index}, expected -{INT32} to {INT32}")
    classes = input_shape[class_axis]
    expected = input_shape[:class_axis] + input_shape[class_axis + 1 :]
    if target.shape != expected:
        raise ValueError(f"target has shape {target.shape}, expected {expected}{or_else}")
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(f"target has dtype {target.dtype}, expected integer class indices")
    values = known_values(target)
    if values is None:
        return
    outside = ((values < 0) | (values >= classes)) & (values != ignore_index)
    if outside.any():
        raise IndexError(
            f"target holds class {values[outside][0]}, expected every class in [0, {classes}) "
            f"or equal to ignore_index, {ignore_index}"
        )
