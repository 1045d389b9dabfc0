"""All losses: precisions, second derivatives, long sums, what is rejected here and in torch."""

import inspect
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxnet import losses
from jaxnet.certificate.bounds import FLOAT64, FLOAT64_RATIO, REDUCTION, half_precision
from tests.helpers import assert_close, assert_same_functions, each_row
from tests.test_losses import (
    BCE,
    CE,
    INF,
    LOGITS,
    NAN,
    NLL,
    as_torch,
    classes_of,
    floats,
    loss_case,
    numbers,
)  # fmt: skip

PROBS = numbers(12665, low=0.01, high=0.99), numbers(12665, low=0, high=1, seed=1)
PAIR = numbers(12665), numbers(12665, seed=1)
LARGE = {
    BCE: PROBS,
    LOGITS: (numbers(12665), PROBS[1]),
    CE: (numbers(12665, 3), classes_of((12665, 3))),
    NLL: (numbers(12665, 3, high=0), classes_of((12665, 3))),
    **dict.fromkeys(("mse_loss", "l1_loss", "smooth_l1_loss"), PAIR),
}


def test_long_sums():
    options: dict[str, Any] = {"tolerance": REDUCTION}
    cases = {
        (name, options["reduction"]): loss_case(name, x, constants=[y], **options)
        for name, (x, y) in LARGE.items()
        for options["reduction"] in ("mean", "sum")
    }
    assert_same_functions(cases)


@jax.jit
def compute_all(arrays):
    """Of each loss the elements of all rows and their mean."""
    return {
        name: [getattr(losses, name)(*pair, reduction=kind) for kind in ("none", "mean")]
        for name, pair in arrays.items()
    }


@each_row("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_kept(dtype):
    bound = FLOAT64 if dtype == "float64" else half_precision(float(jnp.finfo(dtype).eps))
    few = {name: [torch.tensor(part[:6]) for part in pair] for name, pair in LARGE.items()}
    kind = getattr(torch, dtype)
    few = {n: [x.to(kind) if x.is_floating_point() else x for x in p] for n, p in few.items()}
    with jax.enable_x64(True):

        def convert(x):
            return jnp.asarray(x.double().numpy(), dtype if x.is_floating_point() else int)

        for name, found in compute_all(jax.tree.map(convert, few)).items():
            for loss, reduction in zip(found, ("none", "mean"), strict=True):
                expected = getattr(F, name)(*few[name], reduction=reduction)
                assert loss.dtype == dtype and expected.dtype == kind
                assert_close(loss.astype(float), expected.double(), bound, where=name)


@jax.jit
def differentiate_all(arrays):
    """Of each loss the Hessian of a few rows, and values and gradients, vmapped and one by one."""
    found = {}
    for name, pair in arrays.items():
        loss = getattr(losses, name)
        batch = [array[:8].reshape(2, 4, *array.shape[1:]) for array in pair]
        rows = [jax.value_and_grad(loss)(*row) for row in zip(*batch, strict=True)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
        lanes = jax.vmap(jax.value_and_grad(loss))(*batch)
        found[name] = jax.hessian(loss)(*(array[:5] for array in pair)), lanes, stacked
    return found


def test_second_derivatives_and_vmap():
    for name, (hessian, lanes, rows) in differentiate_all(LARGE).items():
        x, y = (torch.tensor(array[:5]) for array in LARGE[name])
        expected = torch.autograd.functional.hessian(partial(getattr(F, name), target=y), x)
        assert_close(hessian, expected, where=name)
        jax.tree.map(partial(assert_close, where=name), lanes, rows)


def test_as_near_to_float64_as_torch():
    """The root mean square of the elements' errors, against torch's own function in float64."""
    for name, (elements, _) in compute_all(LARGE).items():
        function, (x, y) = getattr(F, name), map(torch.tensor, LARGE[name])
        exact = function(x.double(), y.double() if y.is_floating_point() else y, reduction="none")
        error_jax, error_torch = (
            np.sqrt(np.mean((np.asarray(own) - exact.numpy()) ** 2))
            for own in (elements, function(x, y, reduction="none"))
        )
        assert error_jax <= FLOAT64_RATIO * error_torch, name


@each_row("beta", [0.0, 0.5, 1.0])
def test_second_derivative_at_the_kinks(beta):
    difference, zeros = floats(0.25, 0, 0.5, -1, 3), np.zeros(5, np.float32)
    expected = torch.autograd.functional.hessian(
        lambda x: F.smooth_l1_loss(x, torch.tensor(zeros), reduction="sum", beta=beta),
        torch.tensor(difference),
    )
    function = partial(losses.smooth_l1_loss, target=zeros, reduction="sum", beta=beta)
    assert_close(jax.jit(jax.hessian(function))(difference), expected)


@each_row("name", [LOGITS, "mse_loss", "l1_loss", "smooth_l1_loss"])
def test_the_dtype_of_two(name):
    """That of the targets beside logits, else the wider one."""
    halves, singles = numbers(4).astype(np.float16), numbers(4, low=0, high=1, seed=1)
    for pair in [(halves, singles), (singles, halves)]:
        loss = jax.eval_shape(getattr(losses, name), *pair)
        assert loss.dtype == getattr(F, name)(*map(torch.tensor, pair)).numpy().dtype


@each_row("name, dtype", itertools.product([CE, NLL], ["int8", "uint8", "uint32", "int64"]))
def test_any_integer_dtype_holds_classes(name, dtype):
    """Torch takes int64 and uint8 alone; ignore_index need not fit into the dtype."""
    logits, targets = numbers(4, 3), classes_of((4, 3))
    for options in ({}, {"ignore_index": 2}):
        expected = getattr(F, name)(torch.tensor(logits), torch.tensor(targets), **options)
        assert_close(getattr(losses, name)(logits, targets.astype(dtype), **options), expected)


# What torch rejects too; the messages are those of tests/bad_calls.

HALF, ROWS, CLASSES = floats(0.5, 0.5), numbers(2, 3), np.array([0, 2])
PAIRS_OF_SHAPES = [
    *[((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((3,), (2,)), ((2, 0), (2,))],
    *[((2, 3, 4), (2, 3)), ((2, 3, 4), (4, 2)), ((2, 3, 4, 5), (2, 5, 4))],
]
REJECTED = [
    *((BCE, (floats(bad), floats(1)), {}) for bad in (-0.5, 1.5, NAN, INF)),
    *((BCE, (floats(1), floats(bad)), {}) for bad in (-0.5, 1.5, NAN, INF)),
    *((LOGITS, (HALF, HALF), {"weight": numbers(*shape)}) for shape in [(3,), (0,), (1, 2)]),
    *((LOGITS, (HALF, HALF), {"pos_weight": numbers(*shape)}) for shape in [(3,), (0,), (1, 2)]),
    *((LOGITS, (HALF, y), {}) for y in (floats(0.5), floats([0.5, 0.5]), CLASSES, CLASSES > 0)),
    *((CE, (ROWS, CLASSES), {"weight": numbers(*shape)}) for shape in [(2,), (1, 3), (), (4,)]),
    *((CE, (ROWS, y), {}) for y in (numbers(2, 4), HALF, CLASSES > 0)),
    (CE, (ROWS, ROWS), {"label_smoothing": 1.1}),
    *(("mse_loss", (HALF, HALF), {"weight": numbers(*shape)}) for shape in [(), (1,), (3,)]),
    *((name, (numbers(2, 3), numbers(3, 2)), {}) for name in ("mse_loss", "smooth_l1_loss")),
    *(("smooth_l1_loss", (HALF, HALF), {"beta": beta}) for beta in (-1.0, NAN)),
]
for name in (CE, NLL):
    REJECTED += [(name, (numbers(*x), np.zeros(y, int)), {}) for x, y in PAIRS_OF_SHAPES]
    for bad, reduction in itertools.product((3, -1, -100, 2**32, 2**40), ("none", "mean")):
        options = {"ignore_index": -5, "reduction": reduction}
        REJECTED.append((name, (ROWS, np.array([0, bad])), options))


def assert_rejected(name, arrays, options) -> None:
    """By torch, by jaxnet, and inside jit but for what only the values show."""
    raises = pytest.raises((ValueError, TypeError, IndexError, RuntimeError, UserWarning))
    with raises:
        getattr(F, name)(*map(torch.tensor, arrays), **as_torch(options))
    # Without beartype, whose own error would come first for a dtype.
    unchecked = partial(inspect.unwrap(getattr(losses, name)), **options)
    with raises as caught:
        unchecked(*arrays)
    if "holds" not in str(caught.value):
        with raises:
            jax.eval_shape(unchecked, *map(jnp.asarray, arrays))


@each_row("name, arrays, options", REJECTED)
def test_what_torch_rejects_is_rejected(name, arrays, options):
    assert_rejected(name, arrays, options)


def test_values_inside_jit_give_nan_where_they_would_be_rejected():
    bce = jax.jit(losses.binary_cross_entropy)
    assert np.isnan([bce(floats(bad), floats(0.5)) for bad in (-0.5, 1.5, NAN)]).all()
    for loss in map(jax.jit, (losses.cross_entropy, losses.nll_loss)):
        for bad in (-1, 3, 2**20):
            for weight in (None, floats(1, 2, 3)):
                assert np.isnan(loss(ROWS, np.array([0, bad]), weight))


def test_what_torch_takes_and_jaxnet_rejects():
    logits, targets = torch.tensor(ROWS), torch.tensor(CLASSES)
    for smoothing in (-0.1, NAN):
        with pytest.raises(ValueError, match="label_smoothing is"):
            losses.cross_entropy(ROWS, CLASSES, label_smoothing=smoothing)
        smoothed = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        assert smoothed == F.cross_entropy(logits, targets)
    for name in (CE, NLL):
        with pytest.raises(ValueError, match=r"target has shape \(1,\)"):
            getattr(losses, name)(ROWS[0], CLASSES[:1])
        function = getattr(F, name)
        assert function(logits[0], targets[:1]) == function(logits[0], targets[0])


@each_row("name", ["mse_loss", "l1_loss", "smooth_l1_loss"])
def test_what_torch_broadcasts_and_casts_is_rejected(name):
    unchecked, function_torch = inspect.unwrap(getattr(losses, name)), getattr(F, name)
    column, row, classes = numbers(3, 1), numbers(3), np.array([0, 1])
    with pytest.raises(ValueError, match=r"target has shape \(3,\), expected \(3, 1\) as in input"):
        unchecked(column, row)
    with pytest.warns(UserWarning, match="different to the input size"):
        loss = function_torch(torch.tensor(column), torch.tensor(row), reduction="none")
    assert loss.shape == (3, 3)
    with pytest.raises(TypeError, match="target has dtype int64, expected a floating dtype"):
        unchecked(HALF, classes)
    assert function_torch(torch.tensor(HALF), torch.tensor(classes)).dtype == torch.float32
