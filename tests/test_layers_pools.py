"""The pools against torch's: every option, ties, edge windows, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxnet import nn
from jaxnet.certificate.bounds import FLOAT64, REDUCTION, Tolerance
from tests.helpers import assert_close, examples
from tests.layers import apply, assert_same_layer, refusals, rows

# Each example compiles two programs.
few = examples(5, derandomize=True)


def pairs(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


POOLS = {
    "max": lambda n: n.MaxPool2d(2),
    "max_pairs": lambda n: n.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
    "max_dilated": lambda n: n.MaxPool2d(2, 1, 1, dilation=(2, 3)),
    "max_ceil": lambda n: n.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max_ceil_dropped": lambda n: n.MaxPool2d(2, 4, 1, ceil_mode=True),
    "max_gaps": lambda n: n.MaxPool2d(2, 3), "max_whole": lambda n: n.MaxPool2d((9, 7)),
    "avg": lambda n: n.AvgPool2d(2),
    "avg_pairs": lambda n: n.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
    "avg_uncounted": lambda n: n.AvgPool2d(3, 2, 1, count_include_pad=False),
    "avg_ceil": lambda n: n.AvgPool2d(4, 3, 2, ceil_mode=True),
    "avg_ceil_uncounted": lambda n: n.AvgPool2d(4, 3, 2, True, False),
    "avg_divisor": lambda n: n.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=-5),
    "adaptive": lambda n: n.AdaptiveAvgPool2d(3), "adaptive_one": lambda n: n.AdaptiveAvgPool2d(1),
    "adaptive_pair": lambda n: n.AdaptiveAvgPool2d((None, 4)),
    "adaptive_more": lambda n: n.AdaptiveAvgPool2d((11, 5)),
    "adaptive_none": lambda n: n.AdaptiveAvgPool2d((None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    assert_same_layer(POOLS[name], rows(2, 3, 9, 7))


@pytest.mark.parametrize("name", ["max_ceil", "avg_ceil", "adaptive"])
def test_pools_of_one_image(name):
    assert_same_layer(POOLS[name], rows(3, 9, 7, seed=1))


@pytest.mark.parametrize("name", [name for name in POOLS if name.startswith("max")])
def test_the_first_of_equal_elements_gets_the_gradient(name):
    """Integers, ReLU's zeros, images of one number, -inf beside padding that is -inf too, nan."""
    x = np.random.default_rng(5).integers(-2, 2, (14, 1, 9, 7)).astype(np.float32)
    x[1] = np.maximum(x[1], 0.0)
    for i, fill in enumerate([0.0, -0.0, -1.0, -np.inf, np.inf, np.nan]):
        x[2 + 2 * i] = fill
        x[3 + 2 * i, :, 3:] = fill
    x[0, 0, [1, 1, 2, 5], [1, 2, 1, 4]] = np.nan
    assert_same_layer(POOLS[name], x)


@few
@given(
    kernel=pairs(1, 3),
    stride=pairs(1, 3),
    dilation=pairs(1, 3),
    padding=pairs(0, 1),
    ceil_mode=st.booleans(),
    shape=pairs(5, 9),
)
def test_max_pool_in_all_its_options(kernel, stride, dilation, padding, ceil_mode, shape):
    spans = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
    assume(all(span <= size for span, size in zip(spans, shape, strict=True)))
    assume(all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True)))
    x = np.random.default_rng(1).integers(0, 3, (2, 1, *shape)).astype(np.float32)
    options = {"dilation": dilation, "ceil_mode": ceil_mode}
    assert_same_layer(lambda n: n.MaxPool2d(kernel, stride, padding, **options), x)


@few
@given(
    kernel=pairs(1, 5),
    stride=pairs(1, 5),
    padding=pairs(0, 2),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    divisor=st.sampled_from([None, None, 3]),
    shape=pairs(5, 9),
)
def test_avg_pool_in_all_its_options(
    kernel, stride, padding, ceil_mode, count_include_pad, divisor, shape
):
    assume(all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True)))
    assert_same_layer(
        lambda n: n.AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad, divisor),
        rows(1, 2, *shape),
    )


def test_adaptive_windows_of_every_size():
    x = rows(1, 12, 12)
    for size in (5, 7, 8, 11, 12):
        layer, layer_torch = (side.AdaptiveAvgPool2d((size, 1)) for side in (nn, torch.nn))
        pooled = jax.jit(lambda x, layer=layer: layer.apply({}, x))(x)
        assert_close(pooled, layer_torch(torch.tensor(x)), REDUCTION)


def test_infinities_stay_in_their_windows():
    x = rows(1, 1, 6, 6)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.inf, np.nan
    for name in ("avg", "avg_ceil", "adaptive", "adaptive_pair"):
        layer, layer_torch = POOLS[name](nn), POOLS[name](torch.nn)
        assert_close(layer.apply({}, x), layer_torch(torch.tensor(x)), REDUCTION)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["max_ceil", "avg_ceil", "adaptive"])
def test_pools_keep_the_half_types(name, dtype):
    x_torch = torch.tensor(rows(2, 3, 9, 7)).to(getattr(torch, dtype))
    y = POOLS[name](nn).apply({}, jnp.asarray(x_torch.float().numpy(), dtype))
    assert y.dtype == dtype
    rounding = Tolerance(rtol=float(jnp.finfo(dtype).eps), atol=1e-6)
    expected = POOLS[name](torch.nn)(x_torch).float()
    assert_close(y.astype(jnp.float32), expected, rounding)


@pytest.mark.parametrize("name", ["max_ceil", "avg_ceil", "adaptive"])
def test_pools_in_float64_under_vmap_and_twice_differentiated(name):
    layer, layer_torch = POOLS[name](nn), POOLS[name](torch.nn)
    x, tangent = (rows(2, 3, 9, 7, seed=seed).astype(np.float64) for seed in range(2))

    @jax.jit
    def twice(x, tangent):
        gradient = jax.grad(lambda x: (layer.apply({}, x) ** 2).sum())
        return jax.vmap(lambda x: layer.apply({}, x))(x), jax.jvp(gradient, (x,), (tangent,))[1]

    with jax.enable_x64(True):
        y, product = twice(x, tangent)
    expected = torch.autograd.functional.hvp(
        lambda x: (layer_torch(x) ** 2).sum(), torch.tensor(x), torch.tensor(tangent)
    )[1]
    tolerance = Tolerance(FLOAT64.rtol, FLOAT64.rtol)
    assert_close(y, layer_torch(torch.tensor(x)), tolerance)
    assert_close(product, expected, tolerance)


test_refusals = refusals(
    ValueError,
    [
        (lambda: nn.MaxPool2d(0), "kernel_size must be at least 1, not 0"),
        (lambda: nn.MaxPool2d(2, 0), "stride must be at least 1, not 0"),
        (lambda: nn.MaxPool2d(2, dilation=0), "dilation must be at least 1, not 0"),
        (
            lambda: nn.MaxPool2d(2, padding=2),
            "padding must be at most half of kernel_size, 1, not 2",
        ),
        (lambda: nn.AvgPool2d((2, 5), padding=2), "padding must be at most half"),
        (
            lambda: nn.AvgPool2d(2, divisor_override=0),
            "divisor_override must be None or an integer",
        ),
        (lambda: apply(nn.MaxPool2d(4), rows(1, 3, 9)), r"x must be at least .* \(1, 3, 9\)"),
        (lambda: apply(nn.AvgPool2d(2), rows(3, 9)), "x must have shape .* not"),
        (lambda: nn.AdaptiveAvgPool2d(0), "output_size must be at least 1, not 0"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "output_size must be a size or a pair"),
        (lambda: apply(nn.AdaptiveAvgPool2d(2), rows(3, 9)), "x must have shape"),
    ],
)
