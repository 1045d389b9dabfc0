"""How a call's arguments and results are nested: templates, "*" for each leaf."""

from collections.abc import Iterator, Mapping
from typing import Any

LEAF = "*"


def flatten(tree: Any, value: Any, path: str = "") -> list[Any]:
    """The leaves of a value that is nested like the template.

    Raises:
      ValueError: it is not; the message names the place.

    >>> flatten((LEAF, {"mask": LEAF}), (1, {"mask": 2}))
    [1, 2]
    """
    if tree == LEAF:
        return [value]
    where = path or "the call"
    if isinstance(tree, dict):
        if not isinstance(value, Mapping) or set(value) != set(tree):
            found = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"{where} must have the keys {sorted(tree)}, not {found}")
        parts = [(key, below, value[key]) for key, below in tree.items()]
    else:
        if not isinstance(value, tuple | list) or len(value) != len(tree):
            found = len(value) if isinstance(value, tuple | list) else type(value).__name__
            raise ValueError(f"{where} must have {len(tree)} parts, not {found}")
        parts = [(i, *pair) for i, pair in enumerate(zip(tree, value, strict=True))]
    return [leaf for key, t, v in parts for leaf in flatten(t, v, f"{path}.{key}".lstrip("."))]


def unflatten(tree: Any, leaves: Iterator[Any]) -> Any:
    """Leaves nested like the template.

    >>> unflatten([LEAF, {"mask": LEAF}], iter([1, 2]))
    [1, {'mask': 2}]
    """
    if tree == LEAF:
        return next(leaves)
    if isinstance(tree, dict):
        return {key: unflatten(below, leaves) for key, below in tree.items()}
    return type(tree)(unflatten(below, leaves) for below in tree)
