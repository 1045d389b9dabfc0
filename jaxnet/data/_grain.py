"""A Grain `MapDataset` of pairs, read example by example."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxnet._utils.validation import check_real
from jaxnet.data._blocks import split_range

_READERS = 4
"""Threads that read a data set: where an example is waited for, four are."""


def is_map_dataset(data: Any) -> bool:
    """Whether it is a Grain `MapDataset`; where Grain was not imported, nothing is."""
    kind = getattr(sys.modules.get("grain"), "MapDataset", None)
    return kind is not None and isinstance(data, kind)


def open_elements(data: Any) -> tuple[int, Callable[[np.ndarray], Any]]:
    """How many examples a `MapDataset` has, and how to read them."""
    count = len(data)
    if count == sys.maxsize:
        raise ValueError("data must be a MapDataset that ends: epochs repeat it")
    if count == 0:
        raise ValueError("data must have at least one row; the MapDataset is empty")
    first = _read_element(data, 0)
    check_real(x=first[0], y=first[1])

    def read(indices: np.ndarray) -> Any:
        x, y = (np.empty((len(indices), *v.shape), v.dtype) for v in first)

        def fill(part: range) -> None:
            for at in part:
                element = _read_element(data, int(indices[at]))
                _check_alike(element, first, int(indices[at]))
                x[at], y[at] = element

        with ThreadPoolExecutor(_READERS) as pool:
            for _ in pool.map(fill, split_range(len(indices), -(-len(indices) // _READERS))):
                pass  # an error, if there is one
        return x, y

    return count, read


def _check_alike(element: Any, first: Any, index: int) -> None:
    for side, values, like in zip("xy", element, first, strict=True):
        if values.shape != like.shape or values.dtype != like.dtype:
            raise ValueError(
                f"data must have rows of one shape and type, but {side} of element {index} is "
                f"{values.dtype} {values.shape}, not {like.dtype} {like.shape} as in element 0"
            )


def _read_element(data: Any, index: int) -> Any:
    element = data[index]
    if not isinstance(element, tuple | list) or len(element) != 2:
        what = f"a {type(element).__name__}"
        advice = "data.map(lambda element: (element[...], element[...])) makes pairs"
        if element is None:
            what, advice = "missing", "filter the rows before they become a MapDataset"
        elif isinstance(element, tuple | list):
            what += f" of {len(element)}"
        raise TypeError(
            f"data must be a MapDataset of pairs (x, y), but its element {index} is {what}: "
            f"{advice}"
        )
    x, y = element
    try:
        return np.asarray(x), np.asarray(y)
    except ValueError as error:
        raise TypeError(f"data must hold real numbers; element {index}: {error}") from error
