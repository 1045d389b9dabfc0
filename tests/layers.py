"""One layer held against torch's of the same arguments, from its first weights on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict

import jaxnet
from jaxnet import nn
from jaxnet.certificate.bounds import REDUCTION, Tolerance
from tests.helpers import Case, assert_close, assert_same_bits, assert_same_state


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def describe_init(layer: nn.Module, x: np.ndarray):
    """Names, shapes and dtypes that Flax's own init gives, `{}` where there are no variables."""
    return describe(dict(jax.eval_shape(layer.init, jax.random.key(0), x)))


def describe(variables):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), variables)


def build_jax(build: Callable) -> nn.Module:
    """The net that `build` makes of a framework's layers and its Sequential."""
    return build(nn, lambda *layers: nn.Sequential(list(layers)))


def build_torch(build: Callable) -> torch.nn.Module:
    return build(torch.nn, torch.nn.Sequential)


def both_nets(build: Callable, seed: int = 3):
    """The same net on both sides with torch's weights of a seed, and the generator after them."""
    torch.manual_seed(seed)
    net_torch, net = build_torch(build), build_jax(build)
    generator, variables = jaxnet.init(net, jaxnet.random.manual_seed(seed))
    return net, variables, generator, net_torch


def assert_same_tensors(actual, expected, tolerance: Tolerance | None = None) -> None:
    """Those of a state_dict: the same bits, or within `tolerance`; counts are int32 in jaxnet."""
    assert sorted(actual) == sorted(expected)
    for key, value in expected.items():
        value = value.to(torch.int32) if key.endswith("num_batches_tracked") else value
        if tolerance is None or value.dtype == torch.int32:
            assert_same_bits(actual[key], value, where=key)
        else:
            assert_close(actual[key], value, tolerance, where=key)


def assert_same_weights(variables, net_torch, tolerance: Tolerance | None = None) -> None:
    """All collections against one state_dict."""
    flat = (flatten_dict(values) for values in variables.values())
    actual = {".".join(path): leaf for leaves in flat for path, leaf in leaves.items()}
    assert_same_tensors(actual, net_torch.state_dict(), tolerance)


def call_case(
    layer, layer_torch, variables, x: np.ndarray, tolerance: Tolerance, **keywords
) -> Case:
    """Values and gradients of x and of every parameter, at those of `variables`."""
    params = variables.get("params", {})

    def call_jax(x, *values):
        full = variables | {"params": dict(zip(params, values, strict=True))}
        if "batch_stats" not in variables:
            return layer.apply(full, x)
        return layer.apply(full, x, mutable=["batch_stats"], **keywords)[0]

    def call_torch(x, *values):
        return torch.func.functional_call(layer_torch, dict(zip(params, values, strict=True)), (x,))

    return Case(call_jax, call_torch, [x, *map(np.array, params.values())], (), tolerance)


def layer_case(build: Callable, x: np.ndarray, tolerance: Tolerance = REDUCTION) -> Case:
    """The same of a layer whose first weights, generator and tree are torch's."""
    layer, variables, generator, layer_torch = both_nets(lambda n, s: build(n), seed=2)
    assert_same_state(generator)
    names = [name for name, _ in layer_torch.named_parameters()]
    assert list(variables.get("params", {})) == names
    assert_same_weights(variables, layer_torch)
    assert describe_init(layer, x) == describe(variables)
    return call_case(layer, layer_torch, variables, x, tolerance)
