"""What torch computed, in float64, and how far the rounding of its numbers alone may move it.

A `Reference` listens to torch's own step, as it runs: each operation, forward, backward and in the
optimizer, is computed again from the same arguments in float64. That is the exact number, along the
way that torch's numbers took: where a ReLU, a pool or a comparison chooses, it chooses as torch has
chosen. Beside it run a few draws, in which each operation's result is rounded to the type that
torch had there, by a hash of its value: equal numbers stay equal, zeros stay zeros. And each number
has a size, the sum of the absolute values of the terms that make it, which is what rounding works
on. The numbers of a storage are kept by storage, so that views, hooks and changes in place are seen
by all who read it. Nothing of the caller's net or optimizer is copied or changed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from jaxnet.certificate.bounds import SUM, View
from torchref.reference import operations
from torchref.reference.operations import Call, is_float, outputs
from torchref.reference.shadows import Shadows, write
from torchref.reference.sizes import measure

SPACING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
"""The distance from 1 to the next number."""

_NEAR = 2.0**-30
"""Of the distance from a kink, what is kept by a number that is moved to the other side."""


class Reference(TorchDispatchMode):
    """While this lasts, every operation of torch's is computed in float64 as well.

    Args:
      draws: how many times it is rounded at random.
    """

    def __init__(self, draws: int = 0) -> None:
        super().__init__()
        self._shadows = Shadows(draws)
        # By storage, what was added to a parameter, and the size of that.
        self._steps: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def draws(self) -> int:
        """How many times every operation is rounded at random; to be changed between steps."""
        return self._shadows.draws

    @draws.setter
    def draws(self, draws: int) -> None:
        self._shadows.draws = draws

    def look(self, tensor: torch.Tensor) -> View:
        """What is known of a tensor now; of one that no operation gave, its own numbers."""
        draws = range(1 + self.draws)
        with _disable_current_modes():  # a hook may ask in the middle of a step
            exact, *drawn = (self._shadows.value(tensor, draw).numpy() for draw in draws)
            size = self._shadows.size(tensor).numpy()
        with np.errstate(invalid="ignore"):  # of a mask's -inf
            spread = np.abs(np.stack(drawn) - exact).max(0) if drawn else None
        return View(exact.copy(), spread, size.copy())

    def forget(self, keep: Sequence[torch.Tensor] = ()) -> None:
        """Begin anew from torch's own numbers, but for some tensors."""
        self._steps = {}
        self._shadows.forget(keep)

    def watch_steps(self, parameters: Sequence[torch.Tensor]) -> None:
        """From here to the next `forget`, note what is added to parameters: see `look_step`."""
        for parameter in parameters:
            self._shadows.own(parameter)
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
        if not tensors or operations.is_real(call):
            return self._take_real(call)
        if name in operations.COMPOSITE and function in decomposition_table:
            return self._take_apart(call)
        self._shadows.wide_already = all(tensor.dtype == torch.float64 for tensor in tensors)
        self._align(call)
        if function._schema.is_mutable:
            return self._change(call)
        for tensor in tensors:
            self._shadows.find(tensor)  # before anything changes them
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
                self._shadows.drop(tensor)
        return result

    def _take_apart(self, call: Call) -> Any:
        """An operation as the simpler ones that make it; the result is still torch's."""
        with self:
            # Running statistics are changed by torch's operation, and once.
            copies = {id(tensor): tensor.clone() for tensor in call.changed()}
            args = tuple(copies.get(id(a), a) for a in call.args)
            self._shadows.apart += 1
            try:
                made = decomposition_table[call.function](*args, **call.keywords)
            finally:
                self._shadows.apart -= 1
        result = call.function(*call.args, **call.keywords)
        pairs = list(zip(outputs(result), outputs(made), strict=False))
        pairs += [(tensor, copies[id(tensor)]) for tensor in call.changed()]
        for tensor, part in pairs:
            if is_float(tensor) and is_float(part):
                values = [
                    self._shadows.value(part, d).reshape(tensor.shape)
                    for d in range(1 + self.draws)
                ]
                self._shadows.set(tensor, values, self._shadows.size(part).reshape(tensor.shape))
        return result

    def _note(self, call: Call, result: Any) -> None:
        """The numbers of what an operation has given."""
        results = [outputs(self._compute(call, result, d)) for d in range(1 + self.draws)]
        sizes = outputs(measure(self._shadows, call, results[0]))
        for place, tensor in enumerate(outputs(result)):
            if is_float(tensor):
                size = sizes[place].abs()
                exact, size = _fit(results[0][place], size, tensor)
                values = [exact]
                for draw in range(1, 1 + self.draws):
                    values.append(_round(call, tensor, results[draw][place], size, draw))
                self._shadows.set(tensor, values, size)

    def _change(self, call: Call) -> Any:
        """An operation that changes tensors in place."""
        changed = call.changed()
        for tensor in changed:
            self._shadows.own(tensor)
        for tensor in call.tensors():
            self._shadows.find(tensor)
        before = [
            self._shadows.value(tensor, 0).clone() if self._is_watched(tensor) else None
            for tensor in changed
        ]
        added = self._add(call, changed)
        more_size = None if added is None else measure(self._shadows, call, None, beside=changed[0])
        sizes = outputs(measure(self._shadows, call, None))[0] if len(changed) == 1 else None
        for draw in range(1 + self.draws):
            made = outputs(self._compute(call, None, draw))
            for tensor, value in zip(changed, made, strict=False):
                if is_float(value):  # it is the tensor's own already, where it was computed there
                    write(self._shadows.value(tensor, draw), value)
        result = call.function(*call.args, **call.keywords)
        for tensor, old in zip(changed, before, strict=True):
            if old is not None:
                more = self._shadows.value(tensor, 0) - old if added is None else added
                self._note_step(tensor, more, more.abs() if more_size is None else more_size)
            else:
                self._note_change(call, tensor, sizes)
        return result

    def _note_step(self, parameter: torch.Tensor, added: torch.Tensor, size: Any) -> None:
        step = self._steps[parameter.untyped_storage()._cdata]
        step[0].add_(added)
        step[1].add_(size)
        write(self._shadows.size(parameter), self._shadows.value(parameter, 0).abs())

    def _note_change(self, call: Call, tensor: torch.Tensor, sizes: Any) -> None:
        exact = self._shadows.value(tensor, 0)
        size = exact.abs() if sizes is None else sizes.abs().expand(tensor.shape)
        kept, size = _fit(exact, size, tensor)
        write(exact, kept)
        write(self._shadows.size(tensor), size.clone())
        for draw in range(1, 1 + self.draws):
            value = self._shadows.value(tensor, draw)
            write(value, _round(call, tensor, value.clone(), self._shadows.size(tensor), draw))

    def _is_watched(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._steps

    def _add(self, call: Call, changed: list[torch.Tensor]) -> torch.Tensor | None:
        """What an operation adds to a watched parameter: beside a large weight a small step of it
        would be lost in float64 too."""
        if call.base not in ("add", "sub", "addcmul", "addcdiv") or len(changed) != 1:
            return None
        if not self._is_watched(changed[0]):
            return None
        zeros = torch.zeros(changed[0].shape, dtype=torch.float64)
        return call.run(lambda a: zeros if a is changed[0] else self._shadows.exactly(a))

    def _compute(self, call: Call, real: Any, draw: int) -> Any:
        """The operation on the numbers of one draw."""
        chosen = operations.select(call, real, lambda t: self._shadows.value(t, draw))
        if chosen is not None:
            return chosen
        return call.run(
            lambda a: self._shadows.value(a, draw) if is_float(a) else self._shadows.wide(a)
        )

    def _align(self, call: Call) -> None:
        """Numbers that are on another side of a kink than torch's become torch's."""
        for edge in operations.edges(call):
            real = call.args[0].detach()
            for draw in range(1 + self.draws):
                value = self._shadows.value(real, draw)
                other = torch.sign(value - edge) != torch.sign(real - edge)
                other &= ~torch.isnan(real)  # as terms that left float32 have made it
                if other.any():
                    self._shadows.own(real)
                    value = self._shadows.value(real, draw)
                    # As near to the kink as it was found to be.
                    write(value, torch.where(other, edge + _NEAR * (real.double() - edge), value))


def _fit(
    exact: torch.Tensor, size: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact numbers and their sizes where the numbers' type cannot hold them.

    Near its smallest they lose digits, and are torch's own, of no size; where torch's are not
    finite and the exact ones are, the size is infinite.
    """
    if real.dtype not in SPACING:
        return exact, size
    beyond = ~torch.isfinite(real)
    if beyond.any():
        size = torch.where(beyond & torch.isfinite(exact), torch.inf, size)
    lost = (exact.abs() < torch.finfo(real.dtype).tiny) & (exact != 0)
    if not lost.any():
        return exact, size
    # What has become 0 in torch is 0 in every library; of the rest XLA makes 0.
    unknown = torch.where(real == 0, size, torch.nan)
    return torch.where(lost, real.double(), exact), torch.where(lost, unknown, size)


def _round(
    call: Call, real: torch.Tensor, value: torch.Tensor, size: torch.Tensor, draw: int
) -> torch.Tensor:
    """A result as its type has it, up or down as a hash of the number decides."""
    spacing = SPACING.get(real.dtype)
    if spacing is None:
        return value
    if call.base in operations.PRODUCTS or call.base in operations.SUMS:
        terms = operations.count_terms(call, real)
        reach = spacing * (0.25 + SUM * terms**0.5) * size if terms > 1 else 0.0
    else:
        reach = 0.25 * spacing * value.abs()
    # Knuth's and Steele's multipliers; wrapping around is meant.
    mixed = value.contiguous().view(torch.int64) * (-7046029254386353131 + 2 * draw)
    mixed = (mixed ^ (mixed >> 31)) * -4658895280553007687
    share = (mixed ^ (mixed >> 29)).double() * 2.0**-63
    rounded = (value + share * reach).to(real.dtype).double()
    return torch.where(torch.isfinite(value), rounded, value)  # a mask's -inf stays what it is
