"""The losses against torch.nn.functional: values, gradients, edge cases and refusals."""

import inspect
import itertools
from functools import partial
from typing import Any

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
from jaxnet.certificate.bounds import (
    ELEMENTWISE,
    ELEMENTWISE_RELATIVE,
    FLOAT64,
    FLOAT64_RATIO,
    REDUCTION,
    Tolerance,
    half_precision,
)
from tests.helpers import assert_close, assert_same_function, each_row, examples

INF, NAN = float("inf"), float("nan")
REDUCTIONS = ("none", "mean", "sum")


def numbers(*shape: int, low: float = -4, high: float = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def floats(*values) -> np.ndarray:
    return np.array(values, np.float32)


def classes(*shape: int, of: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(of, size=shape)


def as_torch(options: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def bits_and_probs(*shape: int):
    return numbers(*shape, low=0.01, high=0.99), numbers(*shape, low=0, high=1, seed=1)


def assert_same_loss(
    name: str,
    *inputs: np.ndarray,
    constants=(),
    tolerance: Tolerance = ELEMENTWISE,
    jit: bool = False,
    **options,
) -> None:
    """Jaxnet's and torch's function of that name, with NumPy `options` given as arrays to each.

    `jit` differentiates the compiled function: quicker, for what other cases check op by op.
    """
    function = partial(getattr(losses, name), **options)
    function = jax.jit(function) if jit else function
    function_torch = partial(getattr(F, name), **as_torch(options))
    assert_same_function(function, function_torch, inputs, constants=constants, tolerance=tolerance)


def both(name: str, **options):
    return partial(getattr(losses, name), **options), partial(getattr(F, name), **options)


def drawn(low: float, high: float, shape: int | tuple[int, ...] = 8):
    elements = st.floats(low, high, width=32, allow_subnormal=False)
    return hnp.arrays(np.float32, shape, elements=elements)


BCE, LOGITS, CE = "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy"
NLL = "nll_loss"

# Made once, so that the random tests compile once.
BCE_NONE = both(BCE, reduction="none")
LOGITS_NONE = both(LOGITS, reduction="none")
SMOOTHED = both(CE, label_smoothing=0.1)

# binary_cross_entropy

WEIGHT_SHAPES = [None, (), (3,), (2, 1), (2, 3)]
WEIGHT_CASES = [
    *((s, "none") for s in WEIGHT_SHAPES),
    *itertools.product([None, (3,)], ["mean", "sum"]),
]


@pytest.mark.parametrize(("shape", "reduction"), WEIGHT_CASES)
def test_binary_cross_entropy(shape, reduction):
    weight = None if shape is None else numbers(*shape, seed=2)
    assert_same_loss(BCE, *bits_and_probs(2, 3), weight=weight, reduction=reduction)


@pytest.mark.parametrize(
    ("shape", "reduction"),
    [((), "none"), ((), "mean"), ((0, 3), "none"), ((0, 3), "mean"), ((2, 3, 4), "sum")],
)
@pytest.mark.parametrize("name", [BCE, LOGITS])
def test_binary_shapes(name, reduction, shape):
    probs, targets = numbers(*shape, low=0.1, high=0.9), numbers(*shape, low=0, high=1, seed=1)
    assert_same_loss(name, probs, targets, reduction=reduction, jit=True)


# 1 - 2**-24 is the largest float32 below 1; near 1e-12 the floor of torch's gradient takes over.
EDGE_PROBS = floats(0, 1, 0.5, 1 - 2**-24, 2**-24, 1e-6, 0.9e-12, 1e-12, 1.1e-12, 1e-20, 1.2e-38)


def test_binary_cross_entropy_clamps_like_torch():
    targets = floats(0, 1, 0.5, 2**-24, 1 - 2**-24)
    probs, targets = map(np.ravel, np.meshgrid(EDGE_PROBS, targets))
    assert_same_loss(BCE, probs, targets, reduction="none")
    # Here the targets do not vary: their infinite slope must not reach the gradient of input.
    assert_same_loss(BCE, probs, constants=[targets], reduction="none")
    assert_same_loss(BCE, probs, constants=[targets], weight=floats(0), jit=True)


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


def test_small_losses_keep_their_digits():
    """Relative error: an absolute bound would let a loss of 0 pass for 1e-9."""
    probs, targets = floats(1e-9, 3e-8, 1e-5), floats(0, 0, 0)
    function_jax, function_torch = BCE_NONE
    expected = function_torch(torch.tensor(probs), torch.tensor(targets))
    assert_close(function_jax(probs, targets), expected, ELEMENTWISE_RELATIVE)


@given(drawn(0, 1), drawn(0, 1))
@examples(12)
def test_binary_cross_entropy_of_any_probabilities(probs, targets):
    assert_same_function(*BCE_NONE, [probs, targets])


# binary_cross_entropy_with_logits

WEIGHT_PAIRS = [
    *((shape, None, reduction) for shape, reduction in WEIGHT_CASES),
    *((None, shape, "none") for shape in WEIGHT_SHAPES[1:]),
    *[((2, 1), (1, 3), "none"), ((3,), (2, 3), "mean"), ((), (1,), "sum")],
]


@pytest.mark.parametrize(("weight_shape", "pos_shape", "reduction"), WEIGHT_PAIRS)
def test_binary_cross_entropy_with_logits(weight_shape, pos_shape, reduction):
    logits, targets = numbers(2, 3), numbers(2, 3, low=0, high=1, seed=1)
    weight = None if weight_shape is None else numbers(*weight_shape, seed=2)
    pos_weight = None if pos_shape is None else numbers(*pos_shape, low=0, high=5, seed=3)
    weights: dict[str, Any] = {"weight": weight, "pos_weight": pos_weight}
    assert_same_loss(LOGITS, logits, targets, **weights, reduction=reduction)


# 0 is a tie of min(x, 0) and of |x|; at 17, 40 and 90 sigmoid, exp and its inverse run out.
EDGE_LOGITS = floats(0, -0.0, 17, -17, 40, -40, 90, -90, 1e9, -1e9, 3e37, -3e37, INF, -INF, NAN)


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_with_logits_of_any_size(weighted):
    grid = np.meshgrid(EDGE_LOGITS, floats(0, 1, 0.5, -1, 2, NAN), floats(0, 1, 3))
    logits, targets, pos_weight = map(np.ravel, grid)
    options: dict[str, Any] = {"pos_weight": pos_weight if weighted else None, "reduction": "none"}
    assert_same_loss(LOGITS, logits, targets, **options)
    assert_same_loss(LOGITS, logits, constants=[targets], jit=True, **options)


def test_gradient_in_logits_is_exact_in_the_tail():
    """Relative error: an absolute bound would let a gradient of 0 pass for 9e-14."""
    logits = floats(-30, -60, -85)
    gradient = jax.grad(lambda x: losses.binary_cross_entropy_with_logits(x, x * 0, None, "sum"))
    expected = np.exp(np.float64(logits))
    np.testing.assert_allclose(jax.jit(gradient)(logits), expected, rtol=ELEMENTWISE.rtol)


@given(drawn(-8, 8), drawn(0, 1))
@examples(12)
def test_binary_cross_entropy_with_any_logits(logits, targets):
    assert_same_function(*LOGITS_NONE, [logits, targets])


def test_result_has_the_dtype_of_targets():
    logits, targets = numbers(4).astype(np.float16), numbers(4, low=0, high=1, seed=1)
    function = jax.jit(losses.binary_cross_entropy_with_logits)
    loss = function(logits, targets)
    expected = F.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(targets))
    assert loss.dtype == jnp.float32 and expected.dtype == torch.float32
    swapped = F.binary_cross_entropy_with_logits(torch.tensor(targets), torch.tensor(logits))
    assert function(targets, logits).dtype == jnp.float16
    assert swapped.dtype == torch.float16


# cross_entropy

OPTIONS = list(itertools.product(REDUCTIONS, (False, True), (0.0, 0.1)))
CASES = [
    *(((4, 3), *options) for options in OPTIONS),
    *(((3,), reduction, True, 0.1) for reduction in REDUCTIONS),
    *((shape, "none", True, 0.1) for shape in [(2, 3, 4), (2, 3, 1, 2, 2)]),
    *((shape, "mean", True, 0.1) for shape in [(2, 3, 2, 2), (4, 1)]),
]


def without_classes(shape):
    return () if len(shape) == 1 else shape[:1] + shape[2:]


def class_weight(shape, weighted: bool):
    return numbers(shape[min(1, len(shape) - 1)], low=0.1, high=2, seed=3) if weighted else None


def drawn_classes(shape):
    return classes(*without_classes(shape), of=shape[min(1, len(shape) - 1)])


@pytest.mark.parametrize("of_classes", [True, False])
@pytest.mark.parametrize(("shape", "reduction", "weighted", "smoothing"), CASES)
def test_cross_entropy(shape, reduction, weighted, smoothing, of_classes):
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing}
    options |= {"weight": class_weight(shape, weighted), "jit": shape != (4, 3)}
    if of_classes:
        assert_same_loss(CE, numbers(*shape), constants=[drawn_classes(shape)], **options)
    else:
        assert_same_loss(CE, numbers(*shape), numbers(*shape, low=0, high=1, seed=1), **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "weighted", "options"),
    [(CE, False, {}), (CE, True, {"label_smoothing": 0.1}), (NLL, False, {}), (NLL, True, {})],
)
@pytest.mark.parametrize(("targets", "ignore_index"), [([0, 1, 2, 1], 1), ([-100] * 4, -100)])
def test_ignored_rows(targets, ignore_index, name, weighted, options, reduction):
    options = options | {"ignore_index": ignore_index, "reduction": reduction}
    weight, constants = class_weight((4, 3), weighted), [np.array(targets)]
    assert_same_loss(name, numbers(4, 3), constants=constants, weight=weight, **options)


@pytest.mark.parametrize("name", [CE, NLL])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_row_alone_and_in_an_image(reduction, name):
    options: dict[str, Any] = {"reduction": reduction, "jit": True}
    assert_same_loss(name, numbers(3), constants=[np.array(7)], ignore_index=7, **options)
    image = np.array([[[0, -100], [2, 1]], [[-100, -100], [1, 0]]])
    assert_same_loss(name, numbers(2, 3, 2, 2), constants=[image], **options)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, None])
def test_weights_of_zero(options):
    """The mean is 0 / 0, and unlike that of ignored rows its gradient is nan."""
    name = "nll_loss" if options is None else "cross_entropy"
    constants = [classes(4, of=3), floats(0, 0, 0)]
    assert_same_loss(name, numbers(4, 3), constants=constants, **(options or {}))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("shape", "smoothing"), [((0, 3), 0.0), ((2, 3, 0), 0.1)])
def test_empty_batches(shape, smoothing, reduction):
    options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing, "jit": True}
    empty = np.zeros(without_classes(shape), np.int64)
    assert_same_loss(CE, numbers(*shape), constants=[empty], **options)
    assert_same_loss(CE, numbers(*shape), numbers(*shape), **options)


EDGE_ROWS = floats(
    *[[1e9, 0, -1e9], [1e9, 1e9, 1e9], [1e9, 1e9 - 64, 0], [3e38, -3e38, 0], [0, 0, 0]],
    *[[-INF, 0, 0], [-INF, -INF, 0], [-INF] * 3, [INF, 0, 0], [NAN, 0, 0], [100, 0, -100]],
)


@pytest.mark.parametrize(
    ("weight", "smoothing"), [(None, 0.0), (None, 1.0), (floats(1, 0, 2), 0.1)]
)
def test_cross_entropy_of_logits_of_any_size(weight, smoothing):
    options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": "none"}
    logits = np.concatenate([EDGE_ROWS] * 4)
    targets = np.repeat([0, 1, 2, -100], len(EDGE_ROWS))
    assert_same_loss(CE, logits, constants=[targets], weight=weight, **options)
    probs = np.eye(3, dtype=np.float32)[targets % 3]
    assert_same_loss(CE, logits, probs, weight=weight, jit=True, **options)


def test_gradient_in_the_weight_of_probabilities():
    inputs = numbers(4, 3), numbers(4, 3, low=0, high=1, seed=1), numbers(3, low=0.1, seed=2)
    assert_same_function(losses.cross_entropy, F.cross_entropy, inputs)


@given(drawn(-1e4, 1e4, (4, 3)), hnp.arrays(np.int64, 4, elements=st.sampled_from([0, 1, 2, -100])))
@examples(12)
def test_cross_entropy_of_any_logits(logits, targets):
    assert_same_function(*SMOOTHED, [logits], constants=[targets, floats(0.5, 1, 2)])


# nll_loss

NLL_CASES = [
    *(((4, 3), *options) for options in itertools.product(REDUCTIONS, (False, True))),
    *(((3,), reduction, True) for reduction in REDUCTIONS),
    *[((2, 3, 4), "none", True), ((2, 3, 1, 2, 2), "mean", True), ((4, 1), "mean", False)],
]


@pytest.mark.parametrize(("shape", "reduction", "weighted"), NLL_CASES)
def test_nll_loss(shape, reduction, weighted):
    weight = class_weight(shape, weighted)
    options = {"weight": weight, "reduction": reduction, "jit": shape != (4, 3)}
    assert_same_loss(NLL, numbers(*shape), constants=[drawn_classes(shape)], **options)


SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=3)


@given(SHAPES.filter(lambda s: s[1] > 0), st.sampled_from(REDUCTIONS), st.booleans(), st.data())
@examples(12)
def test_nll_loss_of_any_shape(shape, reduction, weighted, data):
    elements = st.sampled_from([*range(shape[1]), -100])
    targets = data.draw(hnp.arrays(np.int64, without_classes(shape), elements=elements))
    options = {"weight": class_weight(shape, weighted), "reduction": reduction, "jit": True}
    assert_same_loss(NLL, numbers(*shape), constants=[targets], **options)


def test_nll_loss_takes_one_number_of_each_row():
    """The others may be anything, and an ignored row altogether."""
    targets = np.repeat([0, 1, 2, -100], len(EDGE_ROWS))
    rows = np.concatenate([EDGE_ROWS] * 4)
    for weight in (None, floats(1, 0, 2)):
        assert_same_loss(NLL, rows, constants=[targets], weight=weight, reduction="none")
    row, picked = floats([NAN, INF, 2], [NAN, NAN, NAN]), np.array([2, -100])
    assert_same_loss(NLL, row, constants=[picked])
    assert losses.nll_loss(row, picked) == -2


def test_cross_entropy_is_nll_loss_of_log_softmax():
    logits, targets, weight = numbers(4, 3), np.array([0, -100, 2, 1]), floats(1, 2, 3)
    for reduction in REDUCTIONS:
        options: dict[str, Any] = {"weight": weight, "reduction": reduction}
        expected = losses.cross_entropy(logits, targets, **options)
        loss = losses.nll_loss(jax.nn.log_softmax(logits), targets, **options)
        assert_close(loss, expected)


# all of them


LARGE = [
    ("binary_cross_entropy", bits_and_probs(12665)),
    ("binary_cross_entropy_with_logits", (numbers(12665), bits_and_probs(12665)[1])),
    ("cross_entropy", (numbers(12665, 3), classes(12665, of=3))),
    ("nll_loss", (numbers(12665, 3, high=0), classes(12665, of=3))),
    *(
        (name, (numbers(12665), numbers(12665, seed=1)))
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss")
    ),
]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_long_sums(name, arrays, reduction):
    options: dict[str, Any] = {"reduction": reduction, "tolerance": REDUCTION, "jit": True}
    assert_same_loss(name, arrays[0], constants=[arrays[1]], **options)


@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_as_near_to_float64_as_torch(name, arrays):
    """The root mean square of the elements' errors, against torch's own function in float64."""
    input, target = map(torch.tensor, arrays)
    exact_target = target.double() if target.is_floating_point() else target
    exact = getattr(F, name)(input.double(), exact_target, reduction="none").numpy()
    loss_torch = getattr(F, name)(input, target, reduction="none").numpy()
    loss_jax = np.asarray(jax.jit(partial(getattr(losses, name), reduction="none"))(*arrays))
    error_jax, error_torch = (np.sqrt(np.mean((y - exact) ** 2)) for y in (loss_jax, loss_torch))
    assert error_jax <= FLOAT64_RATIO * error_torch


@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_jit_grad_and_vmap_agree_with_the_plain_call(name, arrays):
    function = getattr(losses, name)
    batch = tuple(jnp.asarray(array[:12].reshape(3, 4, *array.shape[1:])) for array in arrays)
    rows = jnp.stack([function(*row) for row in zip(*batch, strict=True)])
    assert_close(jax.vmap(function)(*batch), rows)
    gradients = jnp.stack([jax.grad(function)(*row) for row in zip(*batch, strict=True)])
    assert_close(jax.jit(jax.vmap(jax.grad(function)))(*batch), gradients)
    # Targets that jit closes over are known, so checked, while it traces.
    closed = jax.jit(partial(function, target=batch[1][0]))
    assert_close(closed(batch[0][0]), rows[0])


@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_second_derivative(name, arrays):
    input, target = (array[:5] for array in arrays)
    function_torch = partial(getattr(F, name), target=torch.tensor(target))
    expected = torch.autograd.functional.hessian(function_torch, torch.tensor(input))
    assert_close(jax.jit(jax.hessian(getattr(losses, name)))(input, target), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_half_precision_is_kept(name, arrays, reduction, dtype):
    halves = [jnp.asarray(array[:6]) for array in arrays]
    halves = [x.astype(dtype) if x.dtype == jnp.float32 else x for x in halves]
    halves_torch = [torch.tensor(np.asarray(x, np.float32)) for x in halves]
    halves_torch = [
        x.to(getattr(torch, dtype)) if y.dtype == jnp.dtype(dtype) else x.long()
        for x, y in zip(halves_torch, halves, strict=True)
    ]
    loss = jax.jit(partial(getattr(losses, name), reduction=reduction))(*halves)
    expected = getattr(F, name)(*halves_torch, reduction=reduction)
    assert loss.dtype == jnp.dtype(dtype) and expected.dtype == getattr(torch, dtype)
    half = half_precision(float(jnp.finfo(dtype).eps))
    assert_close(loss.astype(jnp.float32), expected.float(), half)


@pytest.mark.parametrize(("name", "arrays"), LARGE)
def test_double_precision_is_kept(name, arrays):
    doubles = [x[:6].astype(np.float64 if x.dtype == np.float32 else x.dtype) for x in arrays]
    expected = getattr(F, name)(*map(torch.tensor, doubles))
    with jax.enable_x64(True):
        loss = jax.jit(getattr(losses, name))(*map(jnp.asarray, doubles))
        assert_close(loss, expected, FLOAT64)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "int64"])
@pytest.mark.parametrize("name", [CE, NLL])
def test_any_integer_dtype_holds_classes(name, dtype):
    """Torch takes int64 and uint8 alone; ignore_index need not fit into the dtype."""
    logits, targets = numbers(4, 3), classes(4, of=3)
    function, function_torch = getattr(losses, name), getattr(F, name)
    expected = function_torch(torch.tensor(logits), torch.tensor(targets))
    assert_close(function(logits, targets.astype(dtype)), expected)
    ignored = function_torch(torch.tensor(logits), torch.tensor(targets), ignore_index=2)
    assert_close(function(logits, targets.astype(dtype), ignore_index=2), ignored)
    assert_close(jax.jit(function)(logits, targets.astype(dtype)), expected)


@pytest.mark.parametrize("name", [CE, NLL])
def test_class_156_in_uint8_is_not_ignore_index(name):
    """-100 wraps to 156 in 8 bits."""
    assert_same_loss(name, numbers(2, 200), constants=[np.array([156, 3], np.uint8)])


@pytest.mark.parametrize("name", [BCE, LOGITS])
def test_integer_weights_are_cast_like_torch(name):
    probs, targets = (numbers(4, low=0, high=1, seed=seed) for seed in (0, 1))
    assert_same_loss(name, probs, constants=[targets], weight=np.array([2, 0, 1, 3]))


@pytest.mark.parametrize("name", [BCE, LOGITS])
def test_gradient_in_weight_follows_from_the_loss(name):
    """Torch refuses it. A loss is linear in either weight, so its slope is a difference."""
    probs, targets = bits_and_probs(4)
    for key in ("weight", "pos_weight")[: 1 + name.endswith("logits")]:
        loss = jax.jit(lambda w, key=key: getattr(losses, name)(probs, targets, **{key: w}))
        slope = loss(floats(1, 2, 1, 1)) - loss(floats(1, 1, 1, 1))
        assert_close(jax.grad(loss)(jnp.ones(4))[1], slope, REDUCTION)


# refusals

HALF, ROWS, CLASSES = floats(0.5, 0.5), numbers(2, 3), np.array([0, 2])
LONG_HALF, OTHER = np.array([0, 1]), {"ignore_index": -5}


Refusal = tuple[str, tuple[np.ndarray, ...], dict[str, Any], type[Exception], str]

BINARY_REFUSALS: list[Refusal] = [
    row
    for name in (BCE, LOGITS)
    for row in [
        (name, (HALF, HALF), {"reduction": "avg"}, ValueError, "reduction is 'avg'"),
        (name, (HALF, floats(0.5)), {}, ValueError, r"target has shape \(1,\)"),
        (name, (HALF, floats([0.5, 0.5])), {}, ValueError, r"target has shape \(1, 2\)"),
        (name, (HALF, LONG_HALF), {}, TypeError, "target has dtype int64"),
        (name, (HALF, LONG_HALF > 0), {}, TypeError, "target has dtype bool"),
        (name, (LONG_HALF, HALF), {}, TypeError, "input has dtype int64"),
        *(
            (name, (HALF, HALF), {"weight": numbers(*shape)}, ValueError, "weight has shape")
            for shape in [(3,), (0,), (1, 2), (2, 2)]
        ),
        (name, (HALF[0], HALF[0]), {"weight": floats(1)}, ValueError, "weight has shape"),
    ]
]
REFUSALS = BINARY_REFUSALS + [
    *(
        (BCE, (floats(0.5, bad), HALF), {}, ValueError, f"input holds {bad}")
        for bad in (-0.5, 1.5, NAN, INF)
    ),
    *(
        (BCE, (HALF, floats(0.5, bad)), {}, ValueError, f"target holds {bad}")
        for bad in (-0.5, 1.5, NAN, INF)
    ),
    (BCE, (HALF[0], floats(2)[0]), {}, ValueError, "target holds 2.0"),
    (BCE, (HALF, HALF.astype(np.float16)), {}, TypeError, "target has dtype float16"),
    *(
        (LOGITS, (HALF, HALF), {"pos_weight": numbers(*shape)}, ValueError, "pos_weight has")
        for shape in [(3,), (0,), (1, 2)]
    ),
    (CE, (ROWS, CLASSES), {"label_smoothing": 1.1}, ValueError, "label_smoothing is 1.1"),
    (CE, (ROWS, ROWS), {"label_smoothing": 1.1}, ValueError, "label_smoothing is 1.1"),
    (CE, (ROWS, ROWS), {"ignore_index": 0}, ValueError, "ignore_index is 0"),
    (CE, (ROWS, np.ones((2, 3), int)), {}, TypeError, "target has dtype int64"),
    (NLL, (ROWS, ROWS), {}, ValueError, r"target has shape \(2, 3\)"),
    *(
        (CE, (ROWS, np.array([0, bad])), options, IndexError, f"target holds class {bad},")
        for bad in (3, -1, -100, 2**32, 2**40)
        for options in (
            OTHER | {"reduction": "none"},
            OTHER | {"label_smoothing": 0.1, "weight": floats(1, 1, 1)},
        )
    ),
    (CE, (numbers(2, 3), numbers(2, 4)), {}, ValueError, "target has shape"),
    *(
        (CE, (ROWS, ROWS), {"weight": numbers(*shape)}, ValueError, "weight has shape")
        for shape in [(2,), (1, 3), (), (4,)]
    ),
]
for name in (CE, NLL):
    REFUSALS += [
        (name, (ROWS, CLASSES), {"reduction": "avg"}, ValueError, "reduction is 'avg'"),
        (name, (ROWS, HALF), {}, TypeError, "target has dtype float32"),
        (name, (ROWS, CLASSES > 0), {}, TypeError, "target has dtype bool"),
        (name, (np.ones((2, 3), int), CLASSES), {}, TypeError, "input has dtype int64"),
        *(
            (name, (ROWS, np.array([0, bad])), OTHER, IndexError, f"target holds class {bad},")
            for bad in (3, -1, -100, 2**32, 2**40)
        ),
        (name, (ROWS[0], np.array(3)), {}, IndexError, "target holds class 3"),
        *(
            (name, (numbers(*shape), np.zeros(target, int)), {}, ValueError, "target has sh")
            for shape, target in [
                *[((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((3,), (2,))],
                *[((2, 3, 4), (2, 3)), ((2, 3, 4), (4, 2))],
                *[((2, 3, 4, 5), (2, 5, 4)), ((2, 3, 4, 5, 2), (2, 4, 5))],
            ]
        ),
        (name, (numbers(), numbers()), {}, ValueError, "input has shape"),
        (name, (numbers(2, 0), CLASSES), {}, ValueError, "input has shape"),
        *(
            (name, (ROWS, CLASSES), {"weight": numbers(*shape)}, ValueError, "weight has sh")
            for shape in [(2,), (1, 3), (), (4,)]
        ),
    ]


def assert_refused(name, arrays, options, error, message, *, in_torch=(IndexError,)) -> None:
    """By jaxnet, of arrays and, but for what they hold, inside jit too; and by torch."""
    # Without beartype, whose own error would come first for a dtype.
    unchecked = partial(inspect.unwrap(getattr(losses, name)), **options)
    with pytest.raises(error, match=f"^{message}.*expected"):
        unchecked(*arrays)
    if "holds" not in message:
        with pytest.raises(error, match=f"^{message.replace('int64', 'int32')}.*expected"):
            jax.eval_shape(unchecked, *map(jnp.asarray, arrays))
    with pytest.raises((RuntimeError, ValueError, *in_torch)):
        getattr(F, name)(*map(torch.tensor, arrays), **as_torch(options))


@each_row(("name", "arrays", "options", "error", "message"), REFUSALS)
def test_refusals(name, arrays, options, error, message):
    assert_refused(name, arrays, options, error, message)


def test_values_inside_jit_give_nan_where_they_would_be_refused():
    bce = jax.jit(losses.binary_cross_entropy)
    assert np.isnan([bce(floats(bad), floats(0.5)) for bad in (-0.5, 1.5, NAN)]).all()
    weight = floats(1, 2, 3)
    for loss in map(jax.jit, (losses.cross_entropy, losses.nll_loss)):
        for bad in (-1, -3, 3, 2**20):
            assert np.isnan(loss(ROWS, np.array([0, bad])))
            assert np.isnan(loss(ROWS, np.array([0, bad]), weight))


def test_what_torch_takes_and_jaxnet_refuses():
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


@pytest.mark.parametrize("argument", ["input", "target", "weight"])
@pytest.mark.parametrize("name", [BCE, CE, "mse_loss", "l1_loss"])
def test_lists_are_refused_by_name(name, argument):
    arrays = {"input": floats(0.5), "target": floats(1), "weight": floats(1), argument: [0.5]}
    with pytest.raises(TypeError, match=f"{argument} is a list, expected an array"):
        inspect.unwrap(getattr(losses, name))(**arrays)
