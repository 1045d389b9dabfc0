"""What torch's forward draws at random: heard as it is drawn, or, of dropouts, all kept."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from torchref.names import Calls
from torchref.steps import Drawn, copy_array

_KINDS = {
    **dict.fromkeys(("randn", "randn_like"), "normal"),
    **dict.fromkeys(("rand", "rand_like"), "uniform"),
    **dict.fromkeys(("randint", "randint_like", "random"), "integers"),
    "randperm": "permutation",
    "native_dropout": "bernoulli",
}
"""The distributions of operations that do not have their names."""

_BERNOULLI = torch.ops.aten.bernoulli_.float
"""What every dropout of torch's draws on a CPU, in place, and divides by the probability."""


class Listener(TorchDispatchMode):
    """While this lasts, every random draw of torch's is heard.

    Args:
      calls: tells which module draws.
    """

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.draws: list[Drawn] = []
        self.last: torch.Tensor | None = None
        """What holds the last draw, until it is forgotten."""
        self._calls = calls

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: D105
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in function.tags:
            return function(*args, **kwargs)
        before = torch.get_rng_state()
        result = function(*args, **kwargs)
        name = function._schema.name.partition("::")[2].rstrip("_")
        # A fused attention is marked as random, and draws nothing where its dropout is 0.
        own = kwargs.get("generator") is not None
        if function is _BERNOULLI or own or not torch.equal(before, torch.get_rng_state()):
            told = function in (_BERNOULLI, torch.ops.aten.bernoulli.p)
            p = _find_p(args) if told else float("nan")
            drawn = result[1] if isinstance(result, tuple) else result
            self.last = drawn = args[1] if name == "rrelu_with_noise" else drawn
            with _disable_current_modes():
                self._hear(_KINDS.get(name, name), p, drawn)
        return result

    def _hear(self, kind: str, p: float, tensor: torch.Tensor) -> None:
        name = self._calls.innermost
        first, _, again = name.partition("#")
        number, taken = int(again or 0), {draw.name for draw in self.draws}
        while name in taken:
            number += 1
            name = f"{first}#{number}"
        values = copy_array(tensor)
        values = values != 0 if kind == "bernoulli" else values
        self.draws.append(Drawn(name, kind, p, tensor.is_contiguous(), values))


def _find_p(args: tuple[Any, ...]) -> float:
    """A probability that is a number; torch's dispatcher leaves out a default."""
    return args[1] if len(args) > 1 else 0.5


class Keep(TorchDispatchMode):
    """While this lasts, dropouts drop nothing.

    Args:
      scaled: whether they still divide by the probability of keeping.
    """

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self._scaled = scaled
        self._kept: tuple[torch.Tensor, float] | None = None

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: D105
        if self._kept is not None and any(arg is self._kept[0] for arg in args):
            p, self._kept = self._kept[1], None
            if function is not torch.ops.aten.div_.Scalar or args[1] != p:
                raise ValueError(
                    'dropout must be "torch": the net draws Bernoulli numbers that it does not '
                    "divide by their probability, as torch.nn.AlphaDropout does"
                )
        if function is not _BERNOULLI:
            return function(*args, **(kwargs or {}))
        noise, p = args[0], _find_p(args)
        if not self._scaled:
            self._kept = noise, p
        return noise.fill_(1.0 if self._scaled else p)  # p / p is 1
