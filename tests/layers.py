"""One layer held against torch's of the same arguments, from its first weights on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet
from jaxnet import nn
from jaxnet.certificate.bounds import REDUCTION, Tolerance
from tests.helpers import assert_same_bits, assert_same_function, assert_same_state


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def describe_init(layer: nn.Module, x: np.ndarray):
    """Names, shapes and dtypes that Flax's own init gives, `{}` where there are no variables."""
    return describe(dict(jax.eval_shape(layer.init, jax.random.key(0), x)))


def describe(variables):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), variables)


def assert_same_layer(build: Callable, x: np.ndarray, tolerance: Tolerance = REDUCTION) -> None:
    """First weights, generator, tree; then values and gradients of x and of every parameter."""
    torch.manual_seed(2)
    layer, layer_torch = build(nn), build(torch.nn)
    generator, variables = jaxnet.init(layer, jaxnet.random.manual_seed(2))
    assert_same_state(generator)
    params = variables.get("params", {})
    assert list(params) == [name for name, _ in layer_torch.named_parameters()]
    for name, value in layer_torch.named_parameters():
        assert_same_bits(params[name], value, where=name)
    assert describe_init(layer, x) == describe(variables)

    def call_jax(x, *values):
        return layer.apply({"params": dict(zip(params, values, strict=True))}, x)

    def call_torch(x, *values):
        return torch.func.functional_call(layer_torch, dict(zip(params, values, strict=True)), (x,))

    # Compiled: one by one, the operations of so many shapes would take minutes to compile.
    inputs = [x, *map(np.array, params.values())]
    assert_same_function(jax.jit(call_jax), call_torch, inputs, tolerance=tolerance)
