"""Calls of torch's operators, room by room, on which each rule is held against torch.

A table says, for "softmax.int" or "mm bmm", how these operators are called: arrays of float64 are
differentiated, others are not, nor is what stands in `fixed`.
"""

import importlib
import pkgutil
import zlib
from typing import Any, NamedTuple

import numpy as np


class Fixed(NamedTuple):
    """An array of floats that has no gradient."""

    values: np.ndarray


class Call(NamedTuple):
    """One call of an operator."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    values: bool = True
    """Whether values are compared: what torch calls empty holds anything."""
    double: bool = True
    """Whether it is made in float64 too: not where random numbers would be others."""


def call(*args: Any, **keywords: Any) -> Call:
    return Call(args, keywords)


def fixed(values: Any) -> Fixed:
    return Fixed(np.asarray(values, np.float64))


def _generator(shape: tuple[int, ...], seed: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr((shape, seed)).encode()))


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers."""
    return np.asarray(_generator(shape, seed).normal(size=shape))


def units(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between 0.05 and 0.95."""
    return _generator(shape, seed).uniform(0.05, 0.95, shape)


def whole(*shape: int, low: int = -2, high: int = 3, seed: int = 0) -> np.ndarray:
    """Floats that are integers, many of them equal."""
    return _generator(shape, seed).integers(low, high, shape).astype(np.float64)


def ints(*shape: int, low: int = -5, high: int = 6, seed: int = 0) -> np.ndarray:
    return _generator(shape, seed).integers(low, high, shape)


def bools(*shape: int, seed: int = 0) -> np.ndarray:
    return _generator(shape, seed).random(shape) < 0.5


def array(*values: Any) -> np.ndarray:
    return np.array(values, np.float64)


def collect() -> dict[str, list[Call]]:
    """All tables, by "aten." and the operator's name."""
    cases: dict[str, list[Call]] = {}
    for module in pkgutil.iter_modules(__path__):
        table = importlib.import_module(f"{__name__}.{module.name}").CASES
        for names, calls in table.items():
            for name in names.split():
                full = f"aten.{name}" if "." in name else f"aten.{name}.default"
                assert full not in cases, f"{full} stands in two tables"
                cases[full] = calls if isinstance(calls, list) else [calls]
    return cases
