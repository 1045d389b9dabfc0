"""Why a port diverges: what is known to go wrong, tried on torch's own step."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np
import torch

from jaxnet.certificate.bounds import View
from jaxnet.certificate.causes import Divergence
from torchref.candidate import Seen
from torchref.plan import Plan
from torchref.recorder import Recorder
from torchref.reference.float64 import Reference
from torchref.replay import Replay, Views, replaying
from torchref.sighting import align
from torchref.steps import Named, Step
from torchref.user_port import UserPort
from torchref.variants import list_variants
from torchref.variants.variant import Called, Changed, Variant

_CLOSER, _CLOSE = 0.1, 1e-4
"""A variant explains a port whose numbers it comes this much closer to than torch does, and this
close, as a share of their size."""

_NEARER = 0.5
"""The same in float32, before it is computed in float64."""

_STAGES = ("outputs", "buffers", "loss", "gradients")
_MOST = 2
_SINGLE = 12
"""Calls of an operation, up to which each is changed by itself."""


Wanted = dict[tuple[str, str], np.ndarray]
"""Numbers of the port's by stage and name."""


def list_net_outputs(step: Step) -> list[tuple[str, str]]:
    """By their names among torch's recorded outputs, the port's names of the net's own."""
    own = [name for name in step.outputs if not name or name[0] == "["]
    return [(name, name) for name in own] or [(list(step.outputs)[-1], "")]


class Causes:
    """Finds what makes torch's numbers the port's.

    Args:
      plan, recorder: torch's run.
      port: the port.
    """

    def __init__(self, plan: Plan, recorder: Recorder, port: UserPort) -> None:
        self._plan, self._recorder, self._port = plan, recorder, port
        self._arguments: Sequence[Any] = ()
        self._outputs: Named = {}
        self._seen: Seen | None = None

    def note(self, arguments: Sequence[Any], outputs: Named, seen: Seen) -> None:
        """What the port has computed in the step that is being compared."""
        self._arguments, self._outputs, self._seen = arguments, outputs, seen

    def find(self, step: Step, divergence: Divergence, views: Views) -> tuple[str, ...]:
        """Causes that have been tried and fit, the best first."""
        if self._seen is None or divergence.stage not in _STAGES:
            return ()
        if self._is_deaf():
            return ("the port's outputs do not depend on the parameters it is given: no effect",)
        wanted = self._list_wanted(step, divergence, views)
        return self.explain(step, divergence.stage, wanted, views) if wanted else ()

    def explain(self, step: Step, stage: str, wanted: Wanted, views: Views) -> tuple[str, ...]:
        """What makes torch's numbers of a stage these of the port's, the best first."""
        found = []
        with replaying(self._plan, self._recorder, step) as replay:
            base, called = _gap(views, wanted), Called()
            with called:
                replay(_Plain())
            for variant in list_variants(stage):
                if called.names.isdisjoint(variant.operations):
                    continue
                gap = _try(replay, variant, wanted, base)
                if gap < _CLOSE and gap < _CLOSER * base:
                    found.append((gap, variant.words))
        return tuple(words for _, words in sorted(found)[:_MOST])

    def _list_wanted(self, step: Step, divergence: Divergence, views: Views) -> Wanted:
        """The port's numbers that a cause must make, by stage and name."""
        assert self._seen is not None
        stage, name = divergence.stage, divergence.tensor
        if stage == "outputs":
            given: Wanted = {
                ("outputs", key): align(self._outputs[ours], step.outputs[key].shape)
                for key, ours in list_net_outputs(step)
                if ours in self._outputs
            }
        elif stage == "loss":
            given = {("loss", "loss"): np.asarray(self._seen.loss)}
        elif stage == "buffers":
            given = {(stage, name): self._port.name_buffers(self._seen.model_state)[name]}
        else:
            named = self._port.weights.pull_grads(self._seen.grads)
            given = {(stage, name): named[name]} if name in named else {}
        return {
            key: array
            for key, array in given.items()
            if key in views and array.shape == views[key].exact.shape and np.isfinite(array).all()
        }

    def _is_deaf(self) -> bool:
        """Whether other parameters change nothing."""
        params, state, inputs, *_ = self._arguments
        moved = jax.tree.map(lambda leaf: np.asarray(leaf) * 1.5 + 0.25, params)
        outputs = [self._port.predict(each, state, inputs) for each in (params, moved)]
        return all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(*map(jax.tree.leaves, outputs), strict=True)
        )


class _Plain(nullcontext):
    """In place of a reference: torch's own numbers."""

    def look(self, tensor: torch.Tensor) -> View:
        array = tensor.detach().double().numpy().copy()
        return View(array, None, np.abs(array))


def _try(replay: Replay, variant: Variant, wanted: Any, base: float) -> float:
    """How close a variant comes, in all calls of its operations or in one."""
    gap, calls = _run(replay, variant, wanted, None, _Plain())
    tried: list[int | None] = [None]
    if calls > 1 and calls <= _SINGLE and gap >= _NEARER * base:
        tried += range(calls)
    for only in tried:  # in float64 only what comes nearer in float32
        gap, _ = _run(replay, variant, wanted, only, _Plain())
        if gap < _NEARER * base:
            return _run(replay, variant, wanted, only, Reference())[0]
    return np.inf


def _run(
    replay: Replay, variant: Variant, wanted: Any, only: int | None, reference: Any
) -> tuple[float, int]:
    changed = Changed(variant, only)
    try:
        with changed:
            views = replay(reference)
    except (RuntimeError, TypeError, ValueError, IndexError):  # the variant does not fit this call
        return np.inf, 0
    return (_gap(views, wanted) if changed.calls else np.inf), changed.calls


def _gap(views: Views, wanted: Mapping[Any, np.ndarray]) -> float:
    gaps = []
    for key, array in wanted.items():
        exact = views[key].exact if key in views else None
        if exact is None or exact.shape != array.shape:
            return np.inf
        if not np.isfinite(exact).all():
            return np.inf
        size = np.linalg.norm(exact) or 1.0
        gaps.append(float(np.linalg.norm(array.astype(np.float64) - exact) / size))
    return max(gaps)
