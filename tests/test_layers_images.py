"""Conv2d against torch's: every option, first weights, precision, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxnet import nn
from jaxnet.certificate.bounds import EPS, FLOAT64, Tolerance
from tests.helpers import assert_close, examples
from tests.layers import apply, assert_same_layer, refusals, rows

KEY = jax.random.key(0)
# Each example compiles several programs.
few = examples(5, derandomize=True)

# A weight's gradient sums up to some 700 products of numbers near 1, in another order, and may
# cancel: the gap is relative to the partial sums, near 30, not to what is left of them.
SUMS_OVER_IMAGES = Tolerance(rtol=64 * EPS, atol=128 * EPS)


CONVOLUTIONS = {
    "default": ((2, 3, 3), {}),
    "pairs": ((2, 3, (3, 2)), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "no_bias": ((2, 3, 1), {"bias": False}),
    "groups": ((4, 6, 3), {"groups": 2}),
    "depthwise": ((3, 6, (1, 3)), {"groups": 3, "padding": "same"}),
    "same_even": ((2, 3, (4, 2)), {"padding": "same"}),
    "same_dilated": ((2, 3, (2, 3)), {"padding": "same", "dilation": (3, 1)}),
    "valid": ((2, 3, 3), {"padding": "valid", "padding_mode": "reflect"}),
    "whole": ((2, 3, (7, 6)), {}),
    "reflect": ((2, 3, 3), {"padding": (6, 5), "padding_mode": "reflect"}),
    "replicate": ((2, 3, 3), {"padding": (9, 1), "padding_mode": "replicate", "stride": 2}),
    "circular": ((2, 3, 3), {"padding": (7, 6), "padding_mode": "circular"}),
    "same_circular": ((2, 3, (2, 4)), {"padding": "same", "padding_mode": "circular"}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name):
    arguments, options = CONVOLUTIONS[name]
    x = rows(2, arguments[0], 7, 6)
    assert_same_layer(lambda n: n.Conv2d(*arguments, **options), x, SUMS_OVER_IMAGES)


def test_conv2d_of_one_image_and_of_none():
    assert_same_layer(lambda n: n.Conv2d(2, 3, 3), rows(2, 7, 6))
    layer = nn.Conv2d(2, 3, 3)
    assert layer.apply(layer.init(KEY, rows(2, 7, 6)), rows(0, 2, 7, 6)).shape == (0, 3, 5, 4)


sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)


@few
@given(
    groups=st.integers(1, 2),
    channels=pairs,
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    shape=st.tuples(st.integers(1, 2), st.integers(5, 9), st.integers(5, 9)),
)
def test_conv2d_in_all_its_options(
    groups, channels, kernel, stride, dilation, padding, mode, bias, shape
):
    assume(all(d * (k - 1) < n for d, k, n in zip(dilation, kernel, shape[1:], strict=True)))
    inputs, outputs = (groups * count for count in channels)
    assert_same_layer(
        lambda n: n.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias, mode),
        rows(shape[0], inputs, *shape[1:]),
        SUMS_OVER_IMAGES,
    )


def test_conv2d_in_float64_and_half_types():
    layer, layer_torch = nn.Conv2d(2, 3, 3), torch.nn.Conv2d(2, 3, 3)
    params = {name: value.detach().numpy() for name, value in layer_torch.named_parameters()}
    with jax.enable_x64(True):
        x = rows(1, 2, 6, 6).astype(np.float64)
        doubles = {name: value.astype(np.float64) for name, value in params.items()}
        y = layer.apply({"params": doubles}, x)
        expected = layer_torch.double()(torch.tensor(x))
        assert_close(y, expected, Tolerance(FLOAT64.rtol, FLOAT64.rtol))
        own = layer.init(KEY, x)["params"]
        assert {leaf.dtype for leaf in jax.tree.leaves(own)} == {jnp.dtype("float32")}
    halves = {name: jnp.asarray(value, jnp.bfloat16) for name, value in params.items()}
    assert layer.apply({"params": halves}, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_conv2d_first_weights_from_a_key_have_torchs_distribution():
    params = nn.Conv2d(8, 400, (5, 2), groups=2).init(KEY, rows(8, 9, 9))["params"]
    bound = 1 / np.sqrt(4 * 5 * 2)
    for values in map(np.array, params.values()):
        assert 0.98 * bound < np.abs(values).max() <= bound
        assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)


def with_zero(name: str):
    sizes: dict[str, Any] = dict.fromkeys(("in_channels", "out_channels", "kernel_size"), 1)
    return lambda: nn.Conv2d(**{**sizes, name: 0})


def padded(padding, mode: Any):
    return nn.Conv2d(1, 1, 1, padding=padding, padding_mode=mode)


TOO_MUCH = " is more than padding_mode='%s' can take"
SIZES = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups")


test_refusals = refusals(
    ValueError,
    [
        *((with_zero(name), f"{name} must be at least 1, not 0") for name in SIZES),
        (lambda: nn.Conv2d(1, 1, 1, padding=-1), "padding must be at least 0, not -1"),
        (lambda: nn.Conv2d(1, 1, (1, 2, 3)), r"kernel_size must be an integer or a pair"),
        (lambda: nn.Conv2d(4, 6, 1, groups=4), "groups must divide in_channels, 4, and out_chan"),
        (lambda: nn.Conv2d(3, 4, 1, groups=2), "2 does not"),
        (lambda: nn.Conv2d(1, 1, 3, padding="full"), "padding must be sizes.* not 'full'"),
        (lambda: nn.Conv2d(1, 1, 3, 2, "same"), r'padding="same" needs stride 1, not \(2, 2\)'),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="edge"), "padding_mode must be one of zeros"),
        (
            lambda: apply(nn.Conv2d(2, 1, 3), rows(1, 3, 9, 9)),
            r"x must have shape \(N, C, H, W\) or \(C, H, W\) with C = 2, not \(1, 3, 9, 9\)",
        ),
        (lambda: apply(nn.Conv2d(2, 1, 3), rows(2, 9)), "x must have shape"),
        (lambda: apply(nn.Conv2d(1, 1, 4, padding=1), rows(1, 1, 9)), "x must be at least 4"),
        (
            lambda: apply(padded((0, 3), "reflect"), rows(1, 9, 3)),
            "padding 3" + TOO_MUCH % "reflect",
        ),
        (lambda: apply(padded(4, "circular"), rows(1, 9, 3)), "padding 4" + TOO_MUCH % "circular"),
    ],
)
