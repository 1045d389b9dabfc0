"""The pools against torch's: every option, ties, edge windows."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxnet import nn
from jaxnet.certificate.bounds import FLOAT64, REDUCTION, Tolerance
from tests.helpers import Case, assert_close, assert_same_functions, each_row, examples
from tests.layers import layer_case, rows

# Each example compiles two programs.
few = examples(3, derandomize=True)


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


def test_pools():
    """Of one image too; of equal elements the first gets the gradient."""
    cases = {name: layer_case(build, rows(2, 3, 9, 7)) for name, build in POOLS.items()}
    for name in ("max_ceil", "avg_ceil", "adaptive"):
        cases[f"{name} of one image"] = layer_case(POOLS[name], rows(3, 9, 7, seed=1))
    for name in (name for name in POOLS if name.startswith("max")):
        cases[f"{name} of equal elements"] = layer_case(POOLS[name], make_equal_elements())
    assert_same_functions(cases)


def make_equal_elements() -> np.ndarray:
    """Integers, ReLU's zeros, images of one number, -inf beside padding that is -inf too, nan."""
    x = np.random.default_rng(5).integers(-2, 2, (14, 1, 9, 7)).astype(np.float32)
    x[1] = np.maximum(x[1], 0.0)
    for i, fill in enumerate([0.0, -0.0, -1.0, -np.inf, np.inf, np.nan]):
        x[2 + 2 * i] = fill
        x[3 + 2 * i, :, 3:] = fill
    x[0, 0, [1, 1, 2, 5], [1, 2, 1, 4]] = np.nan
    return x


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
    case = layer_case(lambda n: n.MaxPool2d(kernel, stride, padding, **options), x)
    assert_same_functions({"drawn": case})


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
    case = layer_case(
        lambda n: n.AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad, divisor),
        rows(1, 2, *shape),
    )
    assert_same_functions({"drawn": case})


def test_windows_of_every_size_and_infinities_stay_in_theirs():
    x, edges, cases = rows(1, 12, 12), rows(1, 1, 6, 6), {}
    edges[0, 0, 0, 0], edges[0, 0, 3, 3] = np.inf, np.nan
    pools = {size: lambda n, s=size: n.AdaptiveAvgPool2d((s, 1)) for size in (5, 7, 8, 11, 12)}
    pools |= {name: POOLS[name] for name in ("avg", "avg_ceil", "adaptive", "adaptive_pair")}
    for name, build in pools.items():
        layer, constants = build(nn), [x if isinstance(name, int) else edges]
        call = functools.partial(layer.apply, {})
        cases[name] = Case(call, build(torch.nn), (), constants, REDUCTION)
    assert_same_functions(cases)


@each_row(
    "name, dtype", itertools.product(["max_ceil", "avg_ceil", "adaptive"], ["float16", "bfloat16"])
)
def test_pools_keep_the_half_types(name, dtype):
    x_torch = torch.tensor(rows(2, 3, 9, 7)).to(getattr(torch, dtype))
    layer = POOLS[name](nn)
    y = jax.jit(lambda x: layer.apply({}, x))(jnp.asarray(x_torch.float().numpy(), dtype))
    assert y.dtype == dtype
    rounding = Tolerance(rtol=float(jnp.finfo(dtype).eps), atol=1e-6)
    expected = POOLS[name](torch.nn)(x_torch).float()
    assert_close(y.astype(jnp.float32), expected, rounding)


@each_row("name", ["max_ceil", "avg_ceil", "adaptive"])
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
