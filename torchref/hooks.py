"""Functions around an optimizer's step."""

from collections.abc import Callable
from typing import Any

import torch


class StepHooks:
    """Calls a function before the optimizer's step and its own hooks, and one after them.

    The hooks of a subclass whose `step` calls its parent's run in both: the outer step counts.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        before: Callable[[], Any] = lambda: None,
        after: Callable[[], Any] = lambda: None,
    ) -> None:
        self._before, self._after = before, after
        self.restart()
        first = optimizer.register_step_pre_hook(self._enter)
        vars(optimizer)["_optimizer_step_pre_hooks"].move_to_end(first.id, last=False)
        self._handles = [first, optimizer.register_step_post_hook(self._leave)]

    def restart(self) -> None:
        """Whatever was begun is forgotten, as after an exception."""
        self._depth = 0

    def remove(self) -> None:
        """Call nothing any more."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, *_: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._before()

    def _leave(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._after()


def has_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step has hooks."""
    return any(vars(optimizer)[f"_optimizer_step_{when}_hooks"] for when in ("pre", "post"))
