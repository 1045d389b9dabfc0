"""Paths in one spelling, whichever library wrote them."""

import re
from typing import Any

import jax

_WORDS = {
    "kernel": "weight",
    "w": "weight",
    "scale": "weight",
    "gamma": "weight",
    "embedding": "weight",
    "embeddings": "weight",
    "b": "bias",
    "offset": "bias",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "average_mean": "running_mean",
    "average_var": "running_var",
}
"""What Flax, Haiku and Keras call torch's `weight`, `bias`, `running_mean` and `running_var`."""

_NO_NAMES = {"value", "raw_value", "~", ""}
"""Parts of a path that name no layer: NNX's boxes, Haiku's methods."""


def spell(path: str) -> tuple[str, ...]:
    """A dotted path's parts, with numbers apart and torch's word for a tensor.

    >>> spell("encoder.layers_0.norm.scale"), spell("net/~/linear_1.w")
    (('encoder', 'layers', '0', 'norm', 'weight'), ('net', 'linear', '1', 'weight'))
    >>> spell("down_0_norm1.scale")
    ('down', '0', 'norm1', 'weight')
    """
    dotted = re.sub(r"(?<=[^./])_(\d+)(?=[_./]|$)", r".\1", path)
    dotted = re.sub(r"(?<=\.)(\d+)_", r"\1.", dotted)
    parts = [part for part in re.split(r"[./]", dotted) if part not in _NO_NAMES]
    if parts:
        parts[-1] = _WORDS.get(parts[-1], parts[-1])
    return tuple(parts)


def name_path(path: tuple[Any, ...]) -> str:
    """A leaf's path in its tree, dotted.

    >>> tree = {"layers": [{"kernel": 1.0}]}
    >>> [name_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    ['layers.0.kernel']
    """
    return jax.tree_util.keystr(path, simple=True, separator=".")


def parent(name: str) -> str:
    """The dotted path of the layer that holds a tensor."""
    return name.rpartition(".")[0]
