"""What torch computed, in float64, and how far the rounding of its numbers alone may move it.

A `Reference` listens to torch's own step, as it runs: each operation, forward, backward and in the
optimizer, is computed again from the same arguments in float64. That is the exact number, along the
way that torch's numbers took: where a ReLU, a pool or a comparison chooses, it chooses as torch has
chosen. Beside it run a few draws, in which each operation's result is rounded to the type that
torch had there, by a hash of its value: equal numbers stay equal, zeros stay zeros. And each number
has a size, the sum of the absolute values of the terms that make it, which is what rounding works
on. The numbers of a storage are kept by storage, so that views, hooks and changes in place are seen
by all who look at it. Nothing of the caller's net or optimizer is copied or changed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from jaxnet.certificate.bounds import View
from torchref import operations
from torchref.operations import Call, is_float, outputs

SPACING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
"""The distance from 1 to the next number."""

_SUM = 0.1
"""What each of n terms of a sum is rounded by, as a share of `SPACING` times sqrt(n) times the size
of the sum: partial sums grow with the number of terms. Of float32's own sums, torch's and XLA's, up
to a million terms: see `tests/test_reference.py`."""

_NEAR = 2.0**-30

_LEFT = 2.0**-13
"""The share of its terms below which a sum may be what rounding left of them."""

_PURGED = 2**28
"""Bytes after which storages that are gone are forgotten."""


class _Entry(NamedTuple):
    """The numbers of one storage, each flat: exact, drawn, and sizes, nan where not known."""

    alive: Any
    values: list[torch.Tensor]
    size: torch.Tensor
    plain: bool = False
    """Whether they are torch's own numbers, whose size is their absolute value."""


class Reference(TorchDispatchMode):
    """While this lasts, every operation of torch's is computed in float64 as well.

    Args:
      draws: how many times it is rounded at random.
    """

    def __init__(self, draws: int = 0) -> None:
        super().__init__()
        self.draws = draws
        self._table: dict[int, _Entry] = {}
        self._apart = 0  # how many operations are being taken apart
        # By storage, what was added to a parameter, and the size of that.
        self._steps: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._bytes = 0

    def look(self, tensor: torch.Tensor) -> View:
        """What is known of a tensor now; of one that no operation gave, its own numbers."""
        exact, *drawn = (self._value(tensor, draw) for draw in range(1 + self.draws))
        spread = None
        if drawn:
            spread = torch.stack([(value - exact).abs() for value in drawn]).amax(0).numpy()
        return View(exact.numpy().copy(), spread, self._size(tensor).numpy().copy())

    def forget(self, keep: Sequence[torch.Tensor] = ()) -> None:
        """Begin anew from torch's own numbers, but for some tensors."""
        self._steps = {}
        kept = {tensor.untyped_storage()._cdata for tensor in keep}
        self._table = {key: entry for key, entry in self._table.items() if key in kept}

    def watch_steps(self, parameters: Sequence[torch.Tensor]) -> None:
        """From here to the next `forget`, note what is added to parameters: see `look_step`."""
        for parameter in parameters:
            self._own(parameter)
            added = torch.zeros(parameter.shape, dtype=torch.float64)
            self._steps[parameter.untyped_storage()._cdata] = added, added.clone()

    def look_step(self, parameter: torch.Tensor) -> View:
        """What was added to a watched parameter, and the size of that."""
        added, size = self._steps[parameter.untyped_storage()._cdata]
        return View(added.numpy().copy(), None, size.numpy().copy())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: D105
        namespace, _, name = function._schema.name.partition("::")
        if name in operations.VIEWS:
            return function(*args, **(kwargs or {}))
        call = Call(function, name, args, kwargs or {})
        tensors = call.tensors() if namespace != "profiler" else []
        if not tensors or name in operations.RANDOM:
            return self._take_real(call)
        if name in operations.COMPOSITE and function in decomposition_table:
            return self._take_apart(call)
        self._align(call)
        if function._schema.is_mutable:
            return self._change(call)
        for tensor in tensors:
            self._find(tensor)  # before anything changes them
        result = function(*call.args, **call.keywords)
        made = [o for o in outputs(result) if is_float(o)]
        inside = {tensor.untyped_storage()._cdata for tensor in tensors}
        if any(o.untyped_storage()._cdata not in inside for o in made):
            self._note(call, result)
        return result

    def _take_real(self, call: Call) -> Any:
        """Numbers that are torch's own on every side."""
        result = call.function(*call.args, **call.keywords)
        for tensor in outputs(result):
            if isinstance(tensor, torch.Tensor):
                self._table.pop(tensor.untyped_storage()._cdata, None)
        return result

    def _take_apart(self, call: Call) -> Any:
        """An operation as the simpler ones that make it; the result is still torch's."""
        with self:
            # Running statistics are changed by torch's operation, and once.
            copies = {id(tensor): tensor.clone() for tensor in call.changed()}
            args = tuple(copies.get(id(a), a) for a in call.args)
            self._apart += 1
            try:
                made = decomposition_table[call.function](*args, **call.keywords)
            finally:
                self._apart -= 1
        result = call.function(*call.args, **call.keywords)
        pairs = list(zip(outputs(result), outputs(made), strict=False))
        pairs += [(tensor, copies[id(tensor)]) for tensor in call.changed()]
        for tensor, part in pairs:
            if is_float(tensor) and is_float(part):
                values = [self._value(part, d).reshape(tensor.shape) for d in range(1 + self.draws)]
                self._set(tensor, values, self._size(part).reshape(tensor.shape))
        return result

    def _note(self, call: Call, result: Any) -> None:
        """The numbers of what an operation has given."""
        results = [outputs(self._compute(call, result, d)) for d in range(1 + self.draws)]
        sizes = outputs(self._measure(call, results[0]))
        for place, tensor in enumerate(outputs(result)):
            if is_float(tensor):
                size = sizes[place].abs()
                exact, size = _underflow(results[0][place], size, tensor)
                values = [exact]
                for draw in range(1, 1 + self.draws):
                    values.append(_round(call, tensor, results[draw][place], size, draw))
                self._set(tensor, values, size)

    def _change(self, call: Call) -> Any:
        """An operation that changes tensors in place."""
        changed = call.changed()
        for tensor in changed:
            self._own(tensor)
        for tensor in call.tensors():
            self._find(tensor)
        before = [self._value(tensor, 0).clone() for tensor in changed]
        added = self._add(call, changed)
        more_size = None if added is None else self._measure(call, None, beside=changed[0])
        sizes = outputs(self._measure(call, None))[0] if len(changed) == 1 else None
        for draw in range(1 + self.draws):
            made = outputs(self._compute(call, None, draw))
            for tensor, value in zip(changed, made, strict=False):
                if is_float(value):  # it is the tensor's own already, where it was computed there
                    _write(self._value(tensor, draw), value)
        result = call.function(*call.args, **call.keywords)
        for tensor, old in zip(changed, before, strict=True):
            exact, step = self._value(tensor, 0), self._steps.get(tensor.untyped_storage()._cdata)
            size = exact.abs() if sizes is None else sizes.abs().expand(tensor.shape)
            if step is not None:
                more = exact - old if added is None else added
                step[0].add_(more)
                step[1].add_(more.abs() if more_size is None else more_size)
                size = exact.abs()
            if step is None:
                kept, size = _underflow(exact, size, tensor)
                _write(exact, kept)
            _write(self._size(tensor), size.clone())
            for draw in range(1, 1 + self.draws) if step is None else ():
                value = self._value(tensor, draw)
                _write(value, _round(call, tensor, value.clone(), self._size(tensor), draw))
        return result

    def _add(self, call: Call, changed: list[torch.Tensor]) -> torch.Tensor | None:
        """What an operation adds to a watched parameter: beside a large weight a small step of it
        would be lost in float64 too."""
        if call.base not in ("add", "sub", "addcmul", "addcdiv") or len(changed) != 1:
            return None
        if changed[0].untyped_storage()._cdata not in self._steps:
            return None
        zeros = torch.zeros(changed[0].shape, dtype=torch.float64)
        return call.run(lambda a: zeros if a is changed[0] else self._exactly(a))

    def _compute(self, call: Call, real: Any, draw: int) -> Any:
        """The operation on the numbers of one draw."""
        chosen = operations.select(call, real, lambda t: self._value(t, draw))
        if chosen is not None:
            return chosen
        return call.run(lambda a: self._value(a, draw) if is_float(a) else self._wide(a))

    def _measure(self, call: Call, exact: Any, beside: Any = None) -> Any:
        """The sums of the absolute values of the terms, `beside` one that is not counted."""
        base, args = call.base, call.args
        value = call.keywords.get("value", 1)

        def magnitude(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return self._value(value, 0).abs() if is_float(value) else value.double().abs()
            return abs(value)

        def size(value: Any) -> Any:
            if value is beside and beside is not None:
                return 0.0
            return self._sum_size(value) if is_float(value) else magnitude(value)

        def lost(*values: Any) -> Any:
            """nan where a factor has lost digits, else 0."""
            nan = [torch.isnan(self._size(v)) for v in values if is_float(v)]
            return sum(torch.where(where, torch.nan, 0.0) for where in nan)

        if base in ("add", "sub", "rsub"):
            return size(args[0]) + abs(call.keywords.get("alpha", 1)) * size(args[1])
        if base == "mul":
            one, other = magnitude(args[0]), magnitude(args[1])
            found = size(args[0]) * other + one * size(args[1]) - one * other
            return found + lost(*args[:2])
        if base == "div":
            return size(args[0]) / magnitude(args[1]) + lost(*args[:2])
        if base == "lerp":
            weight = magnitude(args[2])
            return size(args[0]) * abs(1 - weight) + size(args[1]) * weight
        if base == "addcmul":
            more = abs(value) * size(args[1]) * magnitude(args[2]) + lost(*args[1:3])
            return size(args[0]) + more
        if base == "addcdiv":
            more = abs(value) * size(args[1]) / magnitude(args[2]) + lost(*args[1:3])
            return size(args[0]) + more
        return self._measure_linear(call, exact)

    def _measure_linear(self, call: Call, exact: Any) -> Any:
        if call.base in operations.PRODUCTS:
            return call.run(lambda a: self._weigh(a) if is_float(a) else self._wide(a))
        first = call.args[0]
        if call.base in operations.SUMS or call.name in operations.LINEAR:
            return call.run(lambda a: self._sum_size(a) if a is first else self._exactly(a))
        if call.name in operations.MERGES:
            return call.run(lambda a: self._size(a) if is_float(a) else self._wide(a))
        tensors = call.tensors()
        if len(tensors) != 1 or len(call.changed()) > 1:
            return None if exact is None else [e.abs() if is_float(e) else e for e in exact]
        return self._measure_function(call, tensors[0], exact)

    def _measure_function(self, call: Call, tensor: torch.Tensor, exact: Any) -> Any:
        """What a function of one tensor, by element, makes of terms that cancelled in it."""
        x = self._value(tensor, 0).clone()
        more = self._size(tensor) - x.abs()
        cancelled = bool((more > 1e-9 * x.abs()).any())
        if exact is None:
            exact = outputs(call.run(lambda a: x.clone() if a is tensor else self._wide(a)))
        if len(exact) != 1 or exact[0].shape != x.shape:
            return [e.abs() if is_float(e) else e for e in exact]
        size = exact[0].abs()
        if cancelled:  # the slope, from a difference that is small beside the terms
            near = torch.nan_to_num(x + _NEAR * more)
            there = outputs(call.run(lambda a: near if a is tensor else self._wide(a)))[0]
            size = size + torch.nan_to_num((there - exact[0]).abs() / _NEAR)
        return [torch.where(torch.isnan(more), torch.nan, size)]

    def _weigh(self, tensor: torch.Tensor) -> torch.Tensor:
        """What a number counts for in a product: itself, or, where it is what rounding left of
        terms that cancelled, these."""
        if self._find(tensor).plain:
            return self._size(tensor)
        value, size = self._value(tensor, 0).abs(), self._sum_size(tensor)
        return torch.where(value > _LEFT * size, value, size)

    def _sum_size(self, tensor: torch.Tensor) -> torch.Tensor:
        """The size of a term: one that has lost digits is too small to matter in a sum."""
        size = self._size(tensor)
        if self._find(tensor).plain:
            return size
        return torch.where(torch.isnan(size), self._value(tensor, 0).abs(), size)

    def _wide(self, value: Any) -> Any:
        """What an operation in float64 takes in place of this."""
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return torch.float64
        # torch's kernels take a number of Python's in float32, as they take the tensors.
        if isinstance(value, float) and not self._apart:
            return float(np.float32(value))
        return value

    def _exactly(self, value: Any) -> Any:
        return self._value(value, 0) if is_float(value) else self._wide(value)

    def _align(self, call: Call) -> None:
        """Numbers that lie on another side of a kink than torch's become torch's."""
        for edge in operations.edges(call):
            real = call.args[0].detach()
            for draw in range(1 + self.draws):
                value = self._value(real, draw)
                other = torch.sign(value - edge) != torch.sign(real - edge)
                if other.any():
                    self._own(real)
                    value = self._value(real, draw)
                    # As near to the kink as it was found to be.
                    _write(value, torch.where(other, edge + _NEAR * (real.double() - edge), value))

    def _find(self, tensor: torch.Tensor) -> _Entry:
        storage = tensor.untyped_storage()
        entry = self._table.get(storage._cdata)
        if entry is None:
            flat = torch.as_strided(tensor.detach(), (_length(tensor),), (1,), 0).double()
            values = [flat] * (1 + self.draws)
            entry = _Entry(StorageWeakRef(storage), values, flat.abs(), True)
            self._table[storage._cdata] = entry
        return entry

    def _own(self, tensor: torch.Tensor) -> None:
        """Give each draw numbers of its own, which may be changed."""
        entry = self._find(tensor)
        self._table[tensor.untyped_storage()._cdata] = entry._replace(plain=False)
        values = entry.values
        values += values[:1] * (1 + self.draws - len(values))
        values[1:] = [v.clone() if v is values[0] else v for v in values[1:]]

    def _value(self, tensor: torch.Tensor, draw: int) -> torch.Tensor:
        values = self._find(tensor).values  # what was kept may be of fewer draws
        return _lay(values[draw] if draw < len(values) else values[0], tensor)

    def _size(self, tensor: torch.Tensor) -> torch.Tensor:
        return _lay(self._find(tensor).size, tensor)

    def _set(self, tensor: torch.Tensor, values: list[torch.Tensor], size: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        flats = [_flatten(value, tensor) for value in values]
        self._bytes += 8 * flats[0].numel() * (1 + len(flats))
        if self._bytes > _PURGED:
            self._bytes = 0
            for key in [key for key, entry in self._table.items() if entry.alive.expired()]:
                del self._table[key]
        self._table[storage._cdata] = _Entry(StorageWeakRef(storage), flats, _flatten(size, tensor))


def _underflow(
    exact: torch.Tensor, size: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers that lose digits in their type, near its smallest, are torch's own, of no size."""
    if real.dtype not in SPACING:
        return exact, size
    lost = (exact.abs() < torch.finfo(real.dtype).tiny) & (exact != 0)
    if not lost.any():
        return exact, size
    # What has become 0 in torch is 0 in every library; of the rest XLA makes 0.
    unknown = torch.where(real == 0, size, torch.nan)
    return torch.where(lost, real.double(), exact), torch.where(lost, unknown, size)


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
    _write(_lay(flat, tensor), value)
    return flat


def _write(target: torch.Tensor, value: torch.Tensor) -> None:
    """Of an axis along which a tensor repeats itself its storage has one."""
    axes = zip(target.shape, target.stride(), strict=True)
    once = tuple(slice(1 if stride == 0 else n) for n, stride in axes)
    target[once].copy_(value.expand(target.shape)[once])


def _round(
    call: Call, real: torch.Tensor, value: torch.Tensor, size: torch.Tensor, draw: int
) -> torch.Tensor:
    """A result as its type has it, up or down as a hash of the number decides."""
    spacing = SPACING.get(real.dtype)
    if spacing is None:
        return value
    if call.base in operations.PRODUCTS or call.base in operations.SUMS:
        terms = operations.count_terms(call, real)
        reach = spacing * (0.25 + _SUM * terms**0.5) * size if terms > 1 else 0.0
    else:
        reach = 0.25 * spacing * value.abs()
    # Knuth's and Steele's multipliers; wrapping around is meant.
    mixed = value.contiguous().view(torch.int64) * (-7046029254386353131 + 2 * draw)
    mixed = (mixed ^ (mixed >> 31)) * -4658895280553007687
    share = (mixed ^ (mixed >> 29)).double() * 2.0**-63
    return (value + share * reach).to(real.dtype).double()
