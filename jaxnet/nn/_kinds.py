"""The kinds of numbers that a net draws from torch's CPU stream."""

import math
from typing import Any

import numpy as np

from jaxnet.random import Generator, bernoulli, randint, randperm
from jaxnet.random.mt19937 import call_host, draw, draw_units, host_doubles
from jaxnet.random.normal import standard_normal


def fill(
    generator: Generator, kind: str, parameter: Any, shape: tuple[int, ...], dtype: Any, rows: bool
) -> tuple[Generator, Any]:
    """Numbers as torch fills a tensor of this shape, element by element as they lie in memory.

    Works under jit. `rows` says that the tensor is contiguous, which normal numbers ask for.

    Raises:
      ValueError: there is no such kind.
    """
    count = math.prod(shape)
    if kind == "keep":
        return bernoulli(generator, parameter, shape)
    if kind == "uniform":
        draw_them = _draw_doubles if np.dtype(dtype) == np.float64 else draw_units
        return draw_them(generator, count)
    if kind == "normal":
        return standard_normal(generator, shape, _width(dtype), in_rows=rows)
    if kind == "exponential":
        return _exponential(generator, count, _width(dtype), parameter)
    if kind == "randint":
        low, high = parameter
        return randint(generator, low, high, shape)
    if kind == "randperm":
        return randperm(generator, parameter)
    if kind == "multinomial":
        return _draw_doubles(generator, count)
    raise ValueError(f"kind must be one that is drawn here, not {kind!r}")


def _width(dtype: Any) -> Any:
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def _draw_doubles(generator: Generator, count: int) -> tuple[Generator, Any]:
    """[0, 1): the lowest 53 bits of two words; exact in compiled code of float64."""
    generator, words = draw(generator, 2 * count)
    high, low = words.reshape(count, 2).T
    unit = (high & 0x1FFFFF).astype(float) * 2.0**32 + low.astype(float)
    return generator, unit * 2.0**-53


def _exponential(
    generator: Generator, count: int, dtype: Any, rate: float
) -> tuple[Generator, Any]:
    """$-\\log(1 - u) / \\lambda$ of 53 bits, by the C library, on the host."""

    def draw_there(generator):
        generator, unit = host_doubles(generator, count)
        values = np.array([-1.0 / rate * math.log1p(-each) for each in unit.tolist()], float)
        return generator, values.astype(dtype)

    return call_host(draw_there, generator, count, dtype)
