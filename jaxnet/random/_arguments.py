"""Arguments that several draws take, checked once: sizes, integers, seeds, probabilities."""

import math
import operator
from collections.abc import Sequence
from typing import Any

from jaxnet._utils.validation import check_number

Shape = int | Sequence[int]

_NUMBERS = 2**40  # float32 numbers of 4 TiB; well before 2**63 bytes, where NumPy's sizes end
_SEEDS = range(-(2**63), 2**64)


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple; one integer is a shape of one axis, as in torch."""
    several = isinstance(shape, Sequence) and not isinstance(shape, bytes | bytearray)
    sizes = shape if several else (shape,)
    sizes = tuple(as_integer("shape", size) for size in sizes)
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must not have negative sizes: {shape}")
    if math.prod(max(size, 1) for size in sizes) > _NUMBERS:
        raise ValueError(f"shape must hold at most {_NUMBERS} numbers, not {shape}")
    return sizes


def as_integer(name: str, value: Any) -> int:
    """An integer of any kind as Python's; a TypeError for all else."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, not {value!r}")


def check_seed(seed: Any, name: str = "seed") -> int:
    """A seed as an int, as far as `torch.manual_seed` reaches; an integer of any kind will do."""
    number = as_integer(name, seed)
    if number not in _SEEDS:
        raise ValueError(f"{name} must lie between -2**63 and 2**64 - 1, not {number}")
    return number


def as_probability(p: Any) -> float:
    """A probability in float64, as torch takes it; a ValueError outside [0, 1].

    >>> import numpy as np
    >>> 1 - as_probability(np.float32(0.1)), float(1 - np.float32(0.1))
    (0.8999999985098839, 0.8999999761581421)
    """
    try:
        p = check_number("p", p)
    except TypeError:
        raise TypeError(f"p must be a number, constant in a compiled program, not {p!r}") from None
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be a probability between 0 and 1, not {p}")
    return p
