"""Checks that several rooms make of what they are given."""

from typing import Any

import jax
import numpy as np


def check_rows(x: Any, y: Any) -> None:
    """Refuse data whose two arrays do not pair up row by row."""
    if np.ndim(x) == 0 or np.ndim(y) == 0 or len(x) != len(y) or len(x) == 0:
        raise ValueError(
            "data must be (x, y) with the same number of rows, at least one; "
            f"their shapes are {np.shape(x)} and {np.shape(y)}"
        )


def find_placement(**trees: Any) -> jax.sharding.Sharding | None:
    """Where the arrays were put, None if nowhere; refuse different devices, in one sentence."""
    places = {}
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array) and leaf.committed:
                places.setdefault(frozenset(leaf.devices()), (name, leaf.sharding))
    if len(places) > 1:
        (first, (name, _)), (second, (other, _)) = list(places.items())[:2]
        raise ValueError(
            f"{name} is on {_names(first)} but {other} is on {_names(second)}: move one of them, "
            f"with jax.device_put({other}, jax.devices()[...]) for example"
        )
    return next((sharding for _, sharding in places.values()), None)


def _names(devices: frozenset) -> str:
    return ", ".join(sorted(str(device) for device in devices))
