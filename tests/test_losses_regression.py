"""mse_loss, l1_loss and smooth_l1_loss against torch: kinks, weights, infinities, refusals."""

import inspect
import itertools
from functools import partial

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

from jaxnet import losses
from jaxnet.certificate.bounds import REDUCTION
from tests.helpers import assert_close, assert_same_function, each_row, examples
from tests.test_losses import (
    INF,
    NAN,
    REDUCTIONS,
    Refusal,
    assert_refused,
    assert_same_loss,
    both,
    floats,
    numbers,
)

WEIGHTED = ("mse_loss", "l1_loss")
NAMES = (*WEIGHTED, "smooth_l1_loss")
WEIGHTED_CASES = list(itertools.product(WEIGHTED, REDUCTIONS))
NAMES_CASES = list(itertools.product(NAMES, REDUCTIONS))


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (2, 1, 4)])
@pytest.mark.parametrize(("name", "reduction"), NAMES_CASES)
def test_every_reduction(name, reduction, shape):
    inputs = numbers(*shape), numbers(*shape, seed=1)
    assert_same_loss(name, *inputs, reduction=reduction, jit=shape != (2, 3))


@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize(("name", "reduction"), WEIGHTED_CASES)
def test_weights_and_their_gradient(name, reduction, shape):
    function_jax, function_torch = both(name, reduction=reduction)
    inputs = numbers(*shape), numbers(*shape, seed=1), numbers(*shape, low=0.1, seed=2)
    assert_same_function(
        lambda input, target, weight: function_jax(input, target, weight=weight),
        lambda input, target, weight: function_torch(input, target, weight=weight),
        inputs,
    )


@pytest.mark.parametrize(("name", "reduction"), WEIGHTED_CASES)
def test_weights_that_are_integers_or_sum_to_zero(name, reduction):
    inputs = numbers(3), numbers(3, seed=1)
    for weight in (np.array([2, 0, 1]), floats(0, 0, 0), floats(1, -1, 0)):
        assert_same_loss(name, *inputs, weight=weight, reduction=reduction, jit=True)


SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(SHAPES, st.sampled_from(NAMES), st.sampled_from(REDUCTIONS), st.integers(0, 2**32 - 1))
@examples(10)
def test_any_shape(shape, name, reduction, seed):
    inputs = numbers(*shape, seed=seed), numbers(*shape, seed=seed + 1)
    assert_same_loss(name, *inputs, reduction=reduction, jit=True)


# The difference is 0, of either sign, `beta` or next to it, too large to square, or no number.
EDGES = floats(
    *[0, -0.0, 0.5, -0.5, 1, -1, 2, -2, 1 + 2**-23, 1 - 2**-24, 1e-30, 1e20, -1e20, 3e38],
    *[INF, -INF, NAN],
)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        *(("smooth_l1_loss", {"beta": beta}) for beta in (1.0, 0.5, 2, 0.0, 0, 1e-6, 1e30, INF)),
    ],
)
def test_kinks_and_differences_of_any_size(name, options):
    zeros = np.zeros_like(EDGES)
    assert_same_loss(name, EDGES, zeros, reduction="none", **options)
    assert_same_loss(name, zeros, EDGES, reduction="none", jit=True, **options)
    assert_same_loss(name, *map(np.ravel, np.meshgrid(EDGES, EDGES)), reduction="none", **options)


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_beside_infinite_differences(name):
    weight = np.resize(floats(0, 1, 2, NAN), EDGES.shape)
    zeros = np.zeros_like(EDGES)
    assert_same_loss(name, EDGES, zeros, weight=weight, reduction="none")


@pytest.mark.parametrize("name", NAMES)
def test_gradient_at_the_kinks_by_hand(name):
    difference = floats(0, -0.0, 1, -1, 0.5, -3, NAN)
    expected = {
        "mse_loss": floats(0, 0, 2, -2, 1, -6, NAN),
        "l1_loss": floats(0, 0, 1, -1, 1, -1, 0),
        "smooth_l1_loss": floats(0, 0, 1, -1, 0.5, -1, NAN),
    }[name]
    function = partial(getattr(losses, name), reduction="sum")
    assert_close(jax.grad(function)(jnp.asarray(difference), jnp.zeros(7)), expected)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_second_derivative_at_the_kinks(beta):
    difference, zeros = floats(0.25, 0, 0.5, -1, 3), np.zeros(5, np.float32)
    expected = torch.autograd.functional.hessian(
        lambda x: F.smooth_l1_loss(x, torch.tensor(zeros), reduction="sum", beta=beta),
        torch.tensor(difference),
    )
    function = partial(losses.smooth_l1_loss, target=zeros, reduction="sum", beta=beta)
    assert_close(jax.hessian(function)(difference), expected)


@pytest.mark.parametrize("name", NAMES)
def test_two_dtypes_give_the_wider(name):
    halves, singles = numbers(4).astype(np.float16), numbers(4, seed=1)
    for inputs in [(halves, singles), (singles, halves)]:
        expected = getattr(F, name)(*map(torch.tensor, inputs))
        assert_close(getattr(losses, name)(*inputs), expected)


HALF, LONG = floats(0.5, 0.5), np.array([0, 1])
REFUSALS: list[Refusal] = [
    row
    for name in NAMES
    for row in [
        (name, (HALF, HALF), {"reduction": "avg"}, ValueError, "reduction is 'avg'"),
        (name, (LONG, LONG), {}, TypeError, "input has dtype int64"),
        (name, (HALF > 0, HALF > 0), {}, TypeError, "input has dtype bool"),
        (name, (numbers(2, 3), numbers(3, 2)), {}, ValueError, r"target has shape \(3, 2\)"),
    ]
]
REFUSALS += [
    (name, (HALF, HALF), {"weight": numbers(*shape)}, ValueError, "weight has shape")
    for name in WEIGHTED
    for shape in [(), (1,), (3,), (1, 2)]
]
REFUSALS += [
    ("smooth_l1_loss", (HALF, HALF), {"beta": beta}, ValueError, f"beta is {beta}")
    for beta in (-1.0, NAN)
]


@each_row(("name", "arrays", "options", "error", "message"), REFUSALS)
def test_refusals(name, arrays, options, error, message):
    # torch warns of the shapes before it fails.
    assert_refused(name, arrays, options, error, message, in_torch=(UserWarning,))


@pytest.mark.parametrize("name", NAMES)
def test_what_torch_takes_and_jaxnet_refuses(name):
    unchecked, function_torch = inspect.unwrap(getattr(losses, name)), getattr(F, name)
    column, row = numbers(3, 1), numbers(3)
    with pytest.raises(ValueError, match=r"target has shape \(3,\), expected \(3, 1\) as in input"):
        unchecked(column, row)
    with pytest.warns(UserWarning, match="different to the input size"):
        loss = function_torch(torch.tensor(column), torch.tensor(row), reduction="none")
    assert loss.shape == (3, 3)
    for arrays, message in [((HALF, LONG), "target has dtype"), ((LONG, HALF), "input has dtype")]:
        with pytest.raises(TypeError, match=f"{message} int64, expected a floating dtype"):
            unchecked(*arrays)
        assert function_torch(*map(torch.tensor, arrays)).dtype == torch.float32


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_mean_of_equal_weights_is_the_mean(name):
    inputs = numbers(1000), numbers(1000, seed=1)
    function = getattr(losses, name)
    equal = function(*inputs, weight=np.full(1000, 0.3, np.float32))
    assert_close(equal, function(*inputs), REDUCTION)
