"""The pools against torch's: every option, ties, edge windows."""

import functools
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxnet import nn
from jaxnet.certificate.bounds import FLOAT64, REDUCTION, Tolerance
from tests.helpers import Case, assert_close, assert_same_functions, each_row, examples
from tests.layers import layer_case, rows

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
    assert_same_functions(cases | dict(draw_pools()))


def draw_pools():
    """All options together; more of them in the slow tier."""
    pick = random.Random(1)

    def pair(low, high):
        return pick.randint(low, high), pick.randint(low, high)

    for number in range(examples(3).max_examples):
        kernel, stride, ceil_mode, shape = pair(1, 3), pair(1, 4), pick.random() < 0.5, pair(7, 9)
        padding = tuple(pick.randint(0, size // 2) for size in kernel)
        of_max = {"dilation": pair(1, 3), "ceil_mode": ceil_mode}
        x = np.random.default_rng(1).integers(0, 3, (2, 1, *shape)).astype(np.float32)
        yield (
            ("max", number),
            layer_case(
                lambda n, own=(kernel, stride, padding), more=of_max: n.MaxPool2d(*own, **more), x
            ),
        )
        counted, divisor = pick.random() < 0.5, pick.choice([None, None, 3])
        options = kernel, stride, padding, ceil_mode, counted, divisor
        yield (
            ("avg", number),
            layer_case(lambda n, own=options: n.AvgPool2d(*own), rows(1, 2, *shape)),
        )


def make_equal_elements() -> np.ndarray:
    """Integers, ReLU's zeros, images of one number, -inf beside padding that is -inf too, nan."""
    x = np.random.default_rng(5).integers(-2, 2, (14, 1, 9, 7)).astype(np.float32)
    x[1] = np.maximum(x[1], 0.0)
    for i, fill in enumerate([0.0, -0.0, -1.0, -np.inf, np.inf, np.nan]):
        x[2 + 2 * i] = fill
        x[3 + 2 * i, :, 3:] = fill
    x[0, 0, [1, 1, 2, 5], [1, 2, 1, 4]] = np.nan
    return x


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
