"""Conv2d against torch's: every option, first weights, precision."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxnet import nn
from jaxnet.certificate.bounds import EPS, FLOAT64, Tolerance
from tests.helpers import assert_close, assert_same_functions, examples
from tests.layers import layer_case, rows

KEY = jax.random.key(0)

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
def test_conv2d():
    cases = {"one image": layer_case(lambda n: n.Conv2d(2, 3, 3), rows(2, 7, 6))}
    for name, (arguments, options) in CONVOLUTIONS.items():
        x = rows(2, arguments[0], 7, 6)
        cases[name] = layer_case(
            lambda n, a=arguments, o=options: n.Conv2d(*a, **o), x, SUMS_OVER_IMAGES
        )
    assert_same_functions(cases | dict(draw_convolutions()))


def draw_convolutions():
    """All options together; more of them in the slow tier."""
    pick = random.Random(0)

    def pair(low, high):
        return pick.randint(low, high), pick.randint(low, high)

    for number in range(examples(3).max_examples):
        groups, mode = (
            pick.randint(1, 2),
            pick.choice(["zeros", "reflect", "replicate", "circular"]),
        )
        inputs, outputs = (groups * count for count in pair(1, 3))
        kernel, stride, dilation, padding = pair(1, 3), pair(1, 3), pair(1, 3), pair(0, 4)
        options = kernel, stride, padding, dilation, groups, pick.random() < 0.5, mode
        yield (
            number,
            layer_case(
                lambda n, own=(inputs, outputs, *options): n.Conv2d(*own),
                rows(pick.randint(1, 2), inputs, *pair(7, 9)),
                SUMS_OVER_IMAGES,
            ),
        )


def test_conv2d_of_no_image():
    layer = nn.Conv2d(2, 3, 3)
    variables = jax.jit(layer.init)(KEY, rows(2, 7, 6))
    assert jax.jit(layer.apply)(variables, rows(0, 2, 7, 6)).shape == (0, 3, 5, 4)


def test_conv2d_in_float64_and_half_types():
    layer, layer_torch = nn.Conv2d(2, 3, 3), torch.nn.Conv2d(2, 3, 3)
    params = {name: value.detach().numpy() for name, value in layer_torch.named_parameters()}
    with jax.enable_x64(True):
        x = rows(1, 2, 6, 6).astype(np.float64)
        doubles = {name: value.astype(np.float64) for name, value in params.items()}
        y = jax.jit(layer.apply)({"params": doubles}, x)
        expected = layer_torch.double()(torch.tensor(x))
        assert_close(y, expected, Tolerance(FLOAT64.rtol, FLOAT64.rtol))
        own = jax.eval_shape(layer.init, KEY, x)["params"]
        assert {leaf.dtype for leaf in jax.tree.leaves(own)} == {jnp.dtype("float32")}
    halves = {name: jnp.asarray(value, jnp.bfloat16) for name, value in params.items()}
    y = jax.jit(layer.apply)({"params": halves}, jnp.asarray(x, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16


def test_conv2d_first_weights_from_a_key_have_torchs_distribution():
    layer = nn.Conv2d(8, 400, (5, 2), groups=2)
    params = jax.jit(layer.init)(KEY, rows(8, 9, 9))["params"]
    bound = 1 / np.sqrt(4 * 5 * 2)
    for values in map(np.array, params.values()):
        assert 0.98 * bound < np.abs(values).max() <= bound
        assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)
