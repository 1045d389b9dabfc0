"""Arguments that several layers take, checked once: sizes, and pairs for height and width."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.validation import INT32, check_real
from jaxnet.random._arguments import as_integer

Pair = int | Sequence[int]


def check_array(x: Any) -> None:
    """Reject an input that is not an array, such as a list."""
    if not isinstance(x, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"x must be an array, not {type(x).__name__}")


def check_input(x: Any) -> None:
    """Reject an input that is not an array of real numbers."""
    check_array(x)
    check_real(x=x)


def check_floats(x: Any) -> None:
    """Reject an input that is not an array of floats, as a product with weights needs.

    >>> check_floats(np.ones(2, np.uint8))
    Traceback (most recent call last):
    TypeError: x must be floating-point, not uint8: divide pixels by 255, or use x.astype("float32")
    """
    check_input(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"x must be floating-point, not {x.dtype}: divide pixels by 255, "
            'or use x.astype("float32")'
        )


def as_size(name: str, value: Any, least: int = 1) -> int:
    """An integer of at least `least`, of int32 as all indices are."""
    size = as_integer(name, value)
    if size < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if size > INT32:
        raise ValueError(f"{name} must be at most {INT32}, not {value}")
    return size


def as_pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """Height and width; one integer stands for both, as in torch."""
    if isinstance(value, Sequence) and len(value) != 2:
        raise ValueError(f"{name} must be an integer or a pair, not {value!r}")
    first, second = value if isinstance(value, Sequence) else (value, value)
    return as_size(name, first, least), as_size(name, second, least)


def as_axis(name: str, value: Any, count: int, of: str = "an axis of x") -> int:
    """One of `count` axes, counted from the front; negative ones count from the end."""
    axis = as_integer(name, value)
    if not -count <= axis < count:
        raise ValueError(f"{name} must be {of}, -{count} to {count - 1}, not {value}")
    return axis % count
