"""A port that somebody wrote, of whatever library, as compiled functions of torch's own state."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from torchref.candidate import Port, Seen
from torchref.forms import Form, explain_call
from torchref.matching.linear import WeightMap
from torchref.sighting import Sighting, list_axes, sight
from torchref.steps import Drawn, Named
from torchref.traced import Draw, Traced


class UserPort(Port):
    """A port in one of the forms that `open_port` takes.

    What torch has drawn at random takes the place of the port's own draws, under torch's names
    where the port takes those, else in the order in which they are drawn.

    Args:
      form: the port.
      loss: `loss(outputs, y)`.
      maps: how its parameters and its other state hold torch's tensors.
    """

    def __init__(self, form: Form, loss: Callable, maps: tuple[WeightMap, WeightMap]) -> None:
        optimizer = optax.identity() if form.optimizer is None else form.optimizer
        super().__init__(form.params, form.state, optimizer, maps)
        self._form, self._loss = form, loss
        self.sighted: Mapping[str, Sighting] = {}
        """By torch's layer, the value of the port's that is its output."""
        self.sizes: frozenset[int] = frozenset()
        """How many numbers torch's layers give: values of as many are captured."""
        self._captured: dict[int, Any] = {}
        self._traced: dict[Any, Traced] = {}
        self._steps: dict[int, Callable] = {}
        self._predict = jax.jit(self._evaluate)

    def step(self, params: Any, state: Any, inputs: Any, y: Any, draws: Sequence[Drawn]) -> Seen:
        traced, args, given = self._prepare(params, state, inputs, draws)
        if id(traced) not in self._steps:
            self._steps[id(traced)] = self._compile(traced)
        loss, outputs, self._captured, state, grads = self._steps[id(traced)](*args, given, y)
        inner = {
            name: _on_host(self._captured[seen.place])
            for name, seen in self.sighted.items()
            if seen.place in self._captured
        }
        return Seen(outputs, inner, {}, state, loss, grads)

    def predict(self, params: Any, state: Any, inputs: Any, draws: Sequence[Drawn] = ()) -> Any:
        if not draws:
            return self._predict(params, state, inputs)
        traced, args, given = self._prepare(params, state, inputs, draws, train=False)
        return traced(args, given)[0][0]

    def sight(self, layers: Named) -> dict[str, tuple[Sighting, np.ndarray]]:
        """What is most like each of torch's layers in the last step, as torch has it."""
        return sight(layers, self._captured)

    def drops(self, batch: Any) -> bool:
        """Whether the port scales what its dropouts keep: it takes masks, or draws them."""
        if self._form.names_masks:
            return True
        args = self.params, self.model_state, batch[:2], None
        traced = Traced(partial(self._forward, True), *args)
        return any(draw.kind == "bernoulli" for draw in traced.draws)

    def start(self, batch: Any, draws: Sequence[Drawn]) -> Callable[[int], float]:
        """Training steps on a batch, compiled as their author would: gives their seconds.

        `draws` are those of a step, for a port that is given its masks; any other draws its own.
        """
        masks = _nest(draws) if self._form.names_masks else None

        def objective(params, state, batch, masks):
            outputs, state = self._forward(True, params, state, batch[:2], masks)
            return self._loss(outputs, batch.y), state

        @jax.jit
        def step(params, state, opt_state, batch, masks):
            differentiate = jax.value_and_grad(objective, has_aux=True)
            (_, state), grads = differentiate(params, state, batch, masks)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), state, opt_state

        def run(steps: int) -> float:
            carry, begin = (self.params, self.model_state, self.opt_state), time.perf_counter()
            for _ in range(steps):
                carry = step(*carry, batch, masks)
            jax.block_until_ready(carry)
            return time.perf_counter() - begin

        batch, masks = jax.tree.map(jax.numpy.asarray, (batch, masks))
        return run

    def _prepare(
        self, params: Any, state: Any, inputs: Any, draws: Sequence[Drawn], train: bool = True
    ) -> tuple[Traced, Any, list[Any]]:
        """The traced forward, its arguments, and what takes the place of its draws."""
        masks = _nest(draws) if self._form.names_masks else None
        args = params, state, inputs, masks
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(args))
        shapes = train, jax.tree.structure(args), shapes
        if shapes not in self._traced:
            try:
                self._traced[shapes] = Traced(partial(self._forward, train), *args)
            except (TypeError, ValueError, IndexError, KeyError) as error:
                raise explain_call(error, self._form, inputs) from error
        traced = self._traced[shapes]
        named = self._form.names_masks and not traced.draws
        return traced, args, [] if named else fit_draws(traced.draws, draws)

    def _forward(self, train: bool, params: Any, state: Any, inputs: Any, masks: Any) -> Any:
        args, keywords = inputs
        return self._form.apply(params, state, args, keywords, train=train, masks=masks)

    def _evaluate(self, params: Any, state: Any, inputs: Any) -> Any:
        args, keywords = inputs
        return self._form.apply(params, state, args, keywords, train=False)[0]

    def _compile(self, traced: Traced) -> Callable:
        capture = list_captured(traced, self.sizes)

        def objective(params, state, inputs, masks, given, y):
            (outputs, state), captured = traced((params, state, inputs, masks), given, capture)
            return self._loss(outputs, y), (outputs, captured, state)

        @jax.jit
        def step(*args):
            (loss, seen), grads = jax.value_and_grad(objective, has_aux=True)(*args)
            return loss, *seen, grads

        return step


_SAME = frozenset({"reshape", "transpose", "broadcast_in_dim", "squeeze", "copy", "stop_gradient"})
"""What gives the numbers that it takes."""

_CAPTURED = 2**30
"""Bytes of values that are captured in a step."""


def list_captured(traced: Traced, sizes: Collection[int]) -> list[int]:
    """The values that may be a layer's output, up to a stated memory."""
    found, used = [], 0
    for value in traced.values:
        size = int(np.prod(value.shape))
        wanted = size in sizes and jax.numpy.issubdtype(value.dtype, np.floating)
        if wanted and value.primitive not in _SAME and used + 4 * size <= _CAPTURED:
            found.append(value.index)
            used += 4 * size
    return found


def fit_draws(ours: Sequence[Draw], torchs: Sequence[Drawn]) -> list[Any]:
    """torch's draws in the shapes of the port's, in their order.

    Raises:
      ValueError: there are not as many, or one does not fit.
    """
    kinds = [draw for draw in ours if draw.kind in ("bernoulli", "normal", "uniform")]
    if not kinds:
        return [None] * len(ours)
    if len(kinds) != len(torchs):
        raise ValueError(
            f"port draws {len(kinds)} times at random in a forward, torch's net "
            f'{len(torchs)} times: dropout="off" compares them without dropout'
        )
    given: list[Any] = [None] * len(ours)
    for draw, drawn in zip(kinds, torchs, strict=True):
        axes = list(list_axes(drawn.values.shape, draw.shape))
        if draw.kind != drawn.kind or np.prod(draw.shape) != drawn.values.size:
            raise ValueError(
                f"port draws {draw.kind} numbers of shape {draw.shape} where torch's "
                f"{drawn.name} draws {drawn.kind} numbers of shape {drawn.values.shape}: "
                'dropout="off" compares them without dropout'
            )
        same = drawn.values.shape == draw.shape or len(axes) == 1
        turned = drawn.values if same else np.transpose(drawn.values, axes[1])
        given[draw.index] = turned.reshape(draw.shape)
    return given


def _nest(draws: Sequence[Drawn]) -> Any:
    """Masks nested by torch's names, as a port takes them."""
    nested: dict[str, Any] = {}
    for draw in draws:
        *path, last = draw.name.split(".")
        inside = nested
        for part in path:
            inside = inside.setdefault(part, {})
        inside[last] = draw.values
    return nested[""] if list(nested) == [""] else nested or None


def _on_host(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype.kind == "f" else array.astype(np.float32)  # bfloat16
