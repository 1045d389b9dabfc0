"""Arguments that several draws take, checked once: sizes, integers, probabilities."""

import operator
from collections.abc import Sequence
from typing import Any

from jaxnet._utils.validation import check_number

Shape = int | Sequence[int]


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple; one integer is a shape of one axis, as in torch."""
    sizes = shape if isinstance(shape, Sequence) else (shape,)
    sizes = tuple(as_integer("shape", size) for size in sizes)
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must not have negative sizes: {shape}")
    return sizes


def as_integer(name: str, value: Any) -> int:
    """An integer of any kind as Python's; a TypeError for all else."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, not {value!r}")


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
