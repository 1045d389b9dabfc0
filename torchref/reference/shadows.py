"""The numbers that a `Reference` keeps beside torch's own, by storage, and their sizes."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from torchref.reference.operations import is_float

_PURGED = 2**28
"""Bytes after which storages that are gone are forgotten."""


class _Entry(NamedTuple):
    """The numbers of one storage, each flat: exact, drawn, and sizes, nan where not known."""

    alive: Any
    values: list[torch.Tensor]
    size: torch.Tensor
    plain: bool = False
    """Whether they are torch's own numbers, whose size is their absolute value."""


class Shadows:
    """What each storage holds in float64: exact, in some draws, and as sizes.

    Args:
      draws: how many there are.
    """

    def __init__(self, draws: int) -> None:
        self.draws = draws
        self.apart = 0
        """How many operations are being taken apart."""
        self.wide_already = False
        """Whether the operation computes in float64 in torch, too."""
        self._table: dict[int, _Entry] = {}
        self._bytes = 0

    def forget(self, keep: Any) -> None:
        """Begin anew from torch's own numbers, but for some tensors."""
        kept = {tensor.untyped_storage()._cdata for tensor in keep}
        self._table = {key: entry for key, entry in self._table.items() if key in kept}

    def drop(self, tensor: torch.Tensor) -> None:
        """Of this one torch's own numbers count."""
        self._table.pop(tensor.untyped_storage()._cdata, None)

    def find(self, tensor: torch.Tensor) -> _Entry:
        """What is kept for a tensor's storage; torch's own numbers, where nothing is yet."""
        storage = tensor.untyped_storage()
        entry = self._table.get(storage._cdata)
        if entry is None:
            flat = torch.as_strided(tensor.detach(), (_length(tensor),), (1,), 0)
            flat = flat.to(torch.float64, copy=True)  # a float64 tensor's numbers are not its own
            values = [flat] * (1 + self.draws)
            entry = _Entry(StorageWeakRef(storage), values, flat.abs(), True)
            self._table[storage._cdata] = entry
        return entry

    def own(self, tensor: torch.Tensor) -> None:
        """Give each draw numbers of its own, which may be changed."""
        entry = self.find(tensor)
        self._table[tensor.untyped_storage()._cdata] = entry._replace(plain=False)
        values = entry.values
        values += values[:1] * (1 + self.draws - len(values))
        values[1:] = [v.clone() if v is values[0] else v for v in values[1:]]

    def value(self, tensor: torch.Tensor, draw: int) -> torch.Tensor:
        """A tensor's numbers in a draw, the exact ones as draw 0."""
        values = self.find(tensor).values  # what was kept may be of fewer draws
        return _lay(values[draw] if draw < len(values) else values[0], tensor)

    def size(self, tensor: torch.Tensor) -> torch.Tensor:
        """Their sizes."""
        return _lay(self.find(tensor).size, tensor)

    def set(self, tensor: torch.Tensor, values: list[torch.Tensor], size: torch.Tensor) -> None:
        """Keep these for a tensor that is new."""
        storage = tensor.untyped_storage()
        flats = [_flatten(value, tensor) for value in values]
        self._bytes += 8 * flats[0].numel() * (1 + len(flats))
        if self._bytes > _PURGED:
            self._bytes = 0
            for key in [key for key, entry in self._table.items() if entry.alive.expired()]:
                del self._table[key]
        self._table[storage._cdata] = _Entry(StorageWeakRef(storage), flats, _flatten(size, tensor))

    def wide(self, value: Any) -> Any:
        """What an operation in float64 takes in place of this."""
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return torch.float64
        # torch's kernels take a number of Python's in float32, as they take the tensors.
        if isinstance(value, float) and not self.apart and not self.wide_already:
            return float(np.float32(value))
        return value

    def exactly(self, value: Any) -> Any:
        """The same, and the exact numbers in place of a tensor's."""
        return self.value(value, 0) if is_float(value) else self.wide(value)


def _length(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _lay(flat: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a storage as a tensor sees them."""
    return torch.as_strided(flat, tensor.shape, tensor.stride(), tensor.storage_offset())


def _flatten(value: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor as its storage has them."""
    length = _length(tensor)
    same = value.shape == tensor.shape and value.stride() == tensor.stride()
    if same and value.dtype == torch.float64 and not value.storage_offset():
        if _length(value) == length and not tensor.storage_offset():
            return torch.as_strided(value, (length,), (1,), 0)
    flat = torch.zeros(length, dtype=torch.float64)
    write(_lay(flat, tensor), value)
    return flat


def write(target: torch.Tensor, value: torch.Tensor) -> None:
    """Of an axis along which a tensor repeats itself its storage has one."""
    axes = zip(target.shape, target.stride(), strict=True)
    once = tuple(slice(1 if stride == 0 else n) for n, stride in axes)
    target[once].copy_(value.expand(target.shape)[once])
