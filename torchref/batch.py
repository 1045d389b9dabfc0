"""What a step takes: the net's inputs, by place or by keyword, and the loss's targets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import torch

from jaxnet._utils.validation import check_real
from torchref.names import label, name_parts
from torchref.steps import Named, copy_array


class Batch(NamedTuple):
    """A step's data: `net(*args, **keywords)`, and y for the loss. Also that of all rows."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    y: Any
    """An array, or a tuple or dictionary of arrays; None without targets."""

    @property
    def num_examples(self) -> int:
        """How many rows there are."""
        return len(jax.tree.leaves(self)[0])

    @property
    def names(self) -> list[str]:
        """As `name_batch` has them, in the order of `jax.tree.leaves`."""
        return list(name_batch(*self))

    @property
    def x(self) -> Any:
        """The inputs as one value: a single one, a tuple, or a dictionary by keyword."""
        if self.keywords:
            return self.keywords
        return self.args[0] if len(self.args) == 1 else self.args

    def like(self, named: Named) -> "Batch":
        """These arrays in the same form."""
        structure = jax.tree.structure(self)
        return jax.tree.unflatten(structure, [named[name] for name in self.names])


def name_batch(args: Any, keywords: Mapping[str, Any], y: Any) -> dict[str, Any]:
    """Its arrays by name: "input" and "target", or of several "input[0]", "input[ids]".

    >>> import numpy as np
    >>> list(name_batch((np.ones(2), np.ones(2)), {"mask": np.ones(2)}, np.ones(2)))
    ['input[0]', 'input[1]', 'input[mask]', 'target']
    """
    inputs = name_parts(dict(enumerate(args)) | dict(keywords))
    named = {label("input", part): tensor for part, tensor in inputs.items()}
    return named | {label("target", part): tensor for part, tensor in name_parts(y).items()}


def make_batch(data: Any) -> Batch:
    """The data of `certify`, checked, as tensors that share nothing with it.

    Raises:
      TypeError: it is not a pair, or holds something other than real numbers.
      ValueError: its arrays differ in their number of rows, or have none.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be (X, y), not {type(data).__name__}")
    x, y = data
    args = () if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    args = tuple(_as_tensor(label("X", str(n)), part) for n, part in enumerate(args))
    keywords = _as_tensors("X", x) if isinstance(x, Mapping) else {}
    if isinstance(y, Mapping):
        y = _as_tensors("y", y)
    elif isinstance(y, tuple):
        y = tuple(_as_tensors("y", dict(enumerate(y))).values())
    elif y is not None:
        y = _as_tensor("y", y)
    batch = Batch(args, keywords, y)
    shapes = [tuple(tensor.shape) for tensor in jax.tree.leaves(batch)]
    rows = {shape[:1] for shape in shapes}
    if not (args or keywords) or len(rows) != 1 or rows & {(), (0,)}:
        raise ValueError(
            "data must be (X, y) with the same number of rows, at least one; "
            f"their shapes are {' and '.join(map(str, shapes))}"
        )
    return batch


def _as_tensors(name: str, parts: Mapping[Any, Any]) -> dict[Any, torch.Tensor]:
    """In the order in which `jax.tree` takes them."""
    return {key: _as_tensor(label(name, str(key)), parts[key]) for key in sorted(parts)}


def _as_tensor(name: str, values: Any) -> torch.Tensor:
    check_real(**{name: values})
    return torch.from_numpy(copy_array(values))
