"""The losses against torch.nn.functional: values, gradients, edge cases."""

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
from jaxnet.certificate.bounds import (
    ELEMENTWISE,
    ELEMENTWISE_RELATIVE,
    REDUCTION,
)
from tests.helpers import Case, assert_close, assert_same_functions, each_row

INF, NAN = float("inf"), float("nan")
REDUCTIONS = ("none", "mean", "sum")
BCE, LOGITS, CE = "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy"
NLL = "nll_loss"


def numbers(*shape: int, low: float = -4, high: float = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def floats(*values) -> np.ndarray:
    return np.array(values, np.float32)


def grid(*values) -> list[np.ndarray]:
    """Every combination of these values, one by one."""
    return [part.ravel() for part in np.meshgrid(*values)]


def as_torch(options: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def loss_case(
    name: str, *inputs: np.ndarray, constants=(), tolerance: Any = ELEMENTWISE, **options: Any
) -> Case:
    """Jaxnet's and torch's function of that name, with NumPy `options` given as arrays to each."""
    function = partial(getattr(losses, name), **options)
    function_torch = partial(getattr(F, name), **as_torch(options))
    return Case(function, function_torch, inputs, constants, tolerance)


def weight_of(shape, seed: int = 2):
    return None if shape is None else numbers(*shape, low=0, seed=seed)


# 1 - 2**-24 is the largest float32 below 1; near 1e-12 the floor of torch's gradient takes over.
EDGE_PROBS = floats(0, 1, 0.5, 1 - 2**-24, 2**-24, 1e-6, 0.9e-12, 1e-12, 1.1e-12, 1e-20, 1.2e-38)
# 0 is a tie of min(x, 0) and of |x|; at 17, 40 and 90 sigmoid, exp and its inverse run out.
EDGE_LOGITS = floats(0, -0.0, 17, -17, 40, -40, 90, -90, 1e9, -1e9, 3e37, -3e37, INF, -INF, NAN)
WEIGHT_SHAPES = [(), (3,), (2, 1), (2, 3)]


SHAPES_OF_ELEMENTS = [
    *((shape, "mean") for shape in [(), (0, 3), (2, 3, 4)]),
    *[((0, 3), "sum"), ((2, 3, 4), "sum"), ((2, 3, 4), "none")],
]


def list_binary():
    """Every reduction and shape of a weight."""
    for name, low, high in ((BCE, 0.01, 0.99), (LOGITS, -4, 4)):

        def pair(*shape, low=low, high=high):
            return numbers(*shape, low=low, high=high), numbers(*shape, low=0, high=1, seed=1)

        for shape, reduction in SHAPES_OF_ELEMENTS:
            yield loss_case(name, *pair(*shape), reduction=reduction)
        for shape in WEIGHT_SHAPES:
            yield loss_case(name, *pair(2, 3), weight=weight_of(shape), reduction="none")
        for reduction in ("mean", "sum"):
            yield loss_case(name, *pair(2, 3), weight=weight_of((3,)), reduction=reduction)
        yield loss_case(name, *pair(3), weight=np.array([2, 0, 1]))  # cast, as in torch
        yield loss_case(name, *pair(1000), reduction="none")
    for weight, pos_weight, reduction in [
        *((None, shape, "none") for shape in WEIGHT_SHAPES),
        *[((2, 1), (1, 3), "none"), ((3,), (2, 3), "mean"), ((), (1,), "sum")],
    ]:
        weights: dict[str, Any] = {"weight": weight_of(weight), "reduction": reduction}
        yield loss_case(LOGITS, *pair(2, 3), pos_weight=weight_of(pos_weight, 3), **weights)


def list_binary_edges():
    """Where torch clamps logarithms and gradients; logits of any size beside targets of any."""
    probs, targets = grid(EDGE_PROBS, floats(0, 1, 0.5, 2**-24, 1 - 2**-24))
    yield loss_case(BCE, probs, targets, reduction="none")
    # Where the targets do not vary, their infinite slope must not reach the gradient of input.
    yield loss_case(BCE, probs, constants=[targets], reduction="none")
    yield loss_case(BCE, probs, constants=[targets], weight=floats(0))
    # Relative: an absolute bound would let a loss of 0 pass for 1e-9.
    small, zeros = floats(1e-9, 3e-8, 1e-5), [floats(0, 0, 0)]
    options: dict[str, Any] = {"reduction": "none"}
    yield loss_case(BCE, small, constants=zeros, tolerance=ELEMENTWISE_RELATIVE, **options)
    logits, targets, pos_weight = grid(EDGE_LOGITS, floats(0, 1, 0.5, -1, 2, NAN), floats(0, 1, 3))
    for options["pos_weight"] in (None, pos_weight):
        yield loss_case(LOGITS, logits, targets, **options)
        yield loss_case(LOGITS, logits, constants=[targets], **options)


def classes_of(shape) -> np.ndarray:
    size = () if len(shape) == 1 else shape[:1] + shape[2:]
    return np.random.default_rng(0).integers(shape[min(1, len(shape) - 1)], size=size)


def class_weight(shape, weighted: bool = True):
    return numbers(shape[min(1, len(shape) - 1)], low=0.1, high=2, seed=3) if weighted else None


SHAPES = [(3,), (2, 3, 4), (2, 3, 2, 2), (4, 1)]


def list_classes():
    """Indices and probabilities, of rows, of one and of images: every reduction and option."""
    for shape, reduction, weighted, smoothing in [
        *itertools.product([(4, 3)], ["mean"], (False, True), (0.0, 0.1)),
        *(((4, 3), r, w, 0.1 * w) for r in ("none", "sum") for w in (False, True)),
        *((shape, REDUCTIONS[i % 3], True, 0.1) for i, shape in enumerate(SHAPES)),
        *[
            ((0, 3), "mean", False, 0.1),
            ((0, 3), "sum", False, 0.1),
            ((2, 3, 0), "mean", False, 0.1),
        ],
    ]:
        options: dict[str, Any] = {"weight": class_weight(shape, weighted), "reduction": reduction}
        x, probs = numbers(*shape), numbers(*shape, low=0, high=1, seed=1)
        yield loss_case(CE, x, constants=[classes_of(shape)], label_smoothing=smoothing, **options)
        yield loss_case(CE, x, probs, label_smoothing=smoothing, **options)
        if smoothing == 0.1:
            yield loss_case(NLL, x, constants=[classes_of(shape)], **options)
    inputs = numbers(4, 3), numbers(4, 3, low=0, high=1, seed=1), numbers(3, low=0.1, seed=2)
    yield Case(losses.cross_entropy, F.cross_entropy, inputs)  # and its gradient in the weight


IMAGE = np.array([[[0, 7], [2, 1]], [[7, 7], [1, 0]]])


def list_ignored():
    """Some rows, all of them, one alone, pixels of an image; weights of 0, whose mean is nan."""
    for (name, options), reduction in itertools.product(
        [(CE, {}), (CE, {"label_smoothing": 0.1}), (NLL, {})], REDUCTIONS
    ):
        options = options | {"reduction": reduction, "ignore_index": 7}
        some, weight = np.array([0, 7, 2, 7]), class_weight((4, 3))
        empty = (np.array([7] * 4), np.array(7)) if reduction == "mean" else ()
        for targets in (some, IMAGE, *empty):
            x = numbers(*targets.shape[:1], 3, *targets.shape[1:])
            yield loss_case(name, x, constants=[targets], **options)
        yield loss_case(name, numbers(4, 3), constants=[some], weight=weight, **options)
        zero = [classes_of((4, 3)), floats(0, 0, 0)]
        yield loss_case(name, numbers(4, 3), constants=zero, **options)


EDGE_ROWS = floats(
    *[[1e9, 0, -1e9], [1e9, 1e9, 1e9], [1e9, 1e9 - 64, 0], [3e38, -3e38, 0], [0, 0, 0]],
    *[[-INF, 0, 0], [-INF, -INF, 0], [-INF] * 3, [INF, 0, 0], [NAN, 0, 0], [100, 0, -100]],
)


def list_class_edges():
    """Logits of any size; of log-probabilities one of each row counts, whatever the others are."""
    logits, targets = np.concatenate([EDGE_ROWS] * 4), np.repeat([0, 1, 2, -100], len(EDGE_ROWS))
    probs = np.eye(3, dtype=np.float32)[targets % 3]
    for weight, smoothing in [(None, 0.0), (None, 1.0), (floats(1, 0, 2), 0.1)]:
        options: dict[str, Any] = {"weight": weight, "reduction": "none"}
        yield loss_case(NLL, logits, constants=[targets], **options)
        yield loss_case(CE, logits, constants=[targets], label_smoothing=smoothing, **options)
        yield loss_case(CE, logits, probs, label_smoothing=smoothing, **options)
    yield loss_case(NLL, floats([NAN, INF, 2], [NAN] * 3), constants=[np.array([2, -100])])
    many, some = 1e4 * numbers(200, 3), np.random.default_rng(1).choice([0, 1, 2, -100], 200)
    options = {"weight": floats(0.5, 1, 2), "label_smoothing": 0.1}
    yield loss_case(CE, many, constants=[some], **options)
    for name in (CE, NLL):  # -100 wraps to 156 in 8 bits
        yield loss_case(name, numbers(2, 200), constants=[np.array([156, 3], np.uint8)])


# The difference is 0, of either sign, `beta` or next to it, too large to square, or no number.
EDGES = floats(
    *[0, -0.0, 0.5, -0.5, 1, -1, 2, -2, 1 + 2**-23, 1 - 2**-24, 1e-30, 1e20, -1e20, 3e38],
    *[INF, -INF, NAN],
)
BETAS = (1.0, 0.5, 2, 0.0, 0, 1e-6, 1e30, INF)


def list_regression():
    """Every reduction, weights and their gradients, differences of any size."""
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss"):
        for shape, reduction in SHAPES_OF_ELEMENTS:
            yield loss_case(name, numbers(*shape), numbers(*shape, seed=1), reduction=reduction)
    for name, reduction in itertools.product(("mse_loss", "l1_loss"), REDUCTIONS):
        case = loss_case(name, numbers(2, 3), numbers(2, 3, seed=1), reduction=reduction)
        own, other = (
            lambda x, y, weight, call=call: call(x, y, weight=weight) for call in case[:2]
        )
        yield Case(own, other, [*case.inputs, numbers(2, 3, low=0.1, seed=2)])
        for weight in (np.array([2, 0, 1]), floats(0, 0, 0), floats(1, -1, 0)):
            pair = numbers(3), numbers(3, seed=1)
            yield loss_case(name, *pair, weight=weight, reduction=reduction)
    pairs = grid(EDGES, EDGES)
    weight = np.resize(floats(0, 1, 2, NAN), pairs[0].shape)
    for name, option, values in [
        *[("mse_loss", "weight", [None, weight]), ("l1_loss", "weight", [None, weight])],
        ("smooth_l1_loss", "beta", BETAS),
    ]:
        for value in values:
            yield loss_case(name, *pairs, reduction="none", **{option: value})


TABLES = (
    *(list_binary, list_binary_edges, list_classes, list_ignored, list_class_edges),
    list_regression,
)


@pytest.mark.parametrize("table", TABLES)
def test_values_and_gradients(table):
    assert_same_functions(dict(enumerate(table())))


def test_infinite_slope_of_still_targets_stays_out_of_forward_mode():
    probs, targets = jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0])
    loss = partial(losses.binary_cross_entropy, target=targets, reduction="none")
    _, tangent = jax.jit(lambda x: jax.jvp(loss, (x,), (jnp.ones(2),)))(probs)
    np.testing.assert_allclose(tangent, [-1e12, 0])


def test_subnormal_probabilities_count_as_zero():
    """The one value that differs from torch: XLA flushes subnormal numbers, torch does not."""
    tiny, one = floats(1e-40), floats(1)
    assert losses.binary_cross_entropy(tiny, one) == 100
    assert 92 < F.binary_cross_entropy(torch.tensor(tiny), torch.tensor(one)) < 93


def test_gradient_in_logits_is_exact_in_the_tail():
    """Relative error: an absolute bound would let a gradient of 0 pass for 9e-14."""
    logits = floats(-30, -60, -85)
    gradient = jax.grad(lambda x: losses.binary_cross_entropy_with_logits(x, x * 0, None, "sum"))
    expected = np.exp(np.float64(logits))
    np.testing.assert_allclose(jax.jit(gradient)(logits), expected, rtol=ELEMENTWISE.rtol)


@each_row("name, key", [(BCE, "weight"), (LOGITS, "weight"), (LOGITS, "pos_weight")])
def test_gradient_in_a_weight_follows_from_the_loss(name, key):
    """Torch has none. A loss is linear in a weight, so that its slope is a difference."""
    probs, targets = numbers(4, low=0.01, high=0.99), numbers(4, low=0, high=1, seed=1)
    loss = jax.jit(lambda weight: getattr(losses, name)(probs, targets, **{key: weight}))
    slope = loss(floats(1, 2, 1, 1)) - loss(floats(1, 1, 1, 1))
    assert_close(jax.grad(loss)(jnp.ones(4))[1], slope, REDUCTION)
