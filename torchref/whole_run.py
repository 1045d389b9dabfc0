"""The port by itself from start to end, beside torch's own run."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet
from jaxnet.cache import jit
from jaxnet.certificate import bounds
from jaxnet.certificate.comparison import Comparator
from jaxnet.data.loader import Batching, start_epoch
from jaxnet.random import Generator
from torchref.candidate import Port
from torchref.masks import Dropouts, make_draw, nest
from torchref.matching import place
from torchref.plan import Plan, Snapshot
from torchref.recorder import Named, copy_array
from torchref.reference.perturbed import (
    OUTPUTS,
    Perturbed,
    Run,
    bound_last,
    bound_losses,
    is_unsteady,
    perturb,
)
from torchref.reference.updates import hold_still

begin_epoch = jit(start_epoch, static_argnums=1)


class Steps(NamedTuple):
    """What the steps have shown of torch's run."""

    own: Run
    begin: Named
    """The tensors before the first step, and zeros for the outputs."""
    alone: np.ndarray
    """What rounding may make of each loss, from torch's own weights."""
    sizes: Mapping[str, tuple[Any, Any]]
    """By parameter, the size of all steps, and of what rounding decided of them."""
    dropouts: Sequence[Dropouts]
    granted: Collection[str]


class WholeRun:
    """A run of `jaxnet.fit`, or of a user's steps, that is compared with torch's.

    Args:
      plan, port, comparator: as for `torchref.comparison.Comparison`.
      generator: where the port's random numbers come from.
      jnet, jax_loss: the net and the loss for `jaxnet.fit`; without them the port's own steps run.
    """

    def __init__(
        self,
        plan: Plan,
        port: Port,
        comparator: Comparator,
        generator: Generator,
        jnet: Any,
        jax_loss: Any,
    ) -> None:
        self._plan, self._port, self._comparator = plan, port, comparator
        self._jnet, self._jax_loss, self._generator = jnet, jax_loss, generator
        self._first = (port.params, port.model_state, port.opt_state)
        self._draw = make_draw(jnet)
        self._steps: Any = None
        self.losses = self.own = np.zeros(0)
        """The losses: the port's, and torch's."""
        self.last: Named | None = None
        self.chaos: int | None = None
        """The steps up to which the losses are compared; None where no run was."""
        self.still: dict[str, np.ndarray] = {}
        """Elements whose steps rounding decides, which both runs hold where they begin."""

    def compare(self, steps: Steps, begun: Snapshot, stream: torch.Tensor) -> Generator:
        """Compare with torch and with torch perturbed by an ulp; gives the generator afterwards.

        Elements whose steps rounding decides are held still on both sides: else each run would go
        its own way, and so would torch's with other kernels.
        """
        self._steps, comparator = steps, self._comparator
        self.still = {
            name: decided > bounds.DECIDED * size
            for name, (size, decided) in steps.sizes.items()
            if (decided > bounds.DECIDED * size).any()
        }
        runs = perturb(self._plan, steps.own, begun, stream, self.still, steps.granted)
        bound, self.chaos = bound_losses(runs, steps.alone)
        self.losses, params, model_state, generator = self._run_alone()
        self.last, self.own = self._port.name_params(params), runs.own.losses
        self._point_at(bound)
        counted = np.arange(len(self.own)) < self.chaos
        comparator.trajectory("whole run", "loss", self.losses, self.own, bound, where=counted)
        found: Named = dict(self.last)
        for name, buffer in self._port.name_buffers(model_state).items():
            if runs.own.last[name].dtype.kind == "f":
                found[name] = buffer
            else:
                compare_bits(comparator, "whole run", name, np.asarray(buffer), runs.own.last[name])
        x = jax.device_put(copy_array(self._plan.x))
        found[OUTPUTS] = np.asarray(self._port.predict(params, model_state, x))
        # Runs that were moved by an ulp may then all have missed what may happen.
        unsteady = bool(is_unsteady(self.own, steps.alone).any())
        for name, ours in found.items():
            self._compare_last(name, ours, runs, unsteady)
        return generator

    def _compare_last(self, name: str, ours: np.ndarray, runs: Perturbed, unsteady: bool) -> None:
        begin = self._steps.begin[name]
        there = runs.own.last[name]
        limit = bound_last(name, begin, runs) + self._steps.sizes.get(name, (0.0, 0.0))[1]
        still = self.still.get(name, np.zeros(there.shape, bool))
        went = np.abs(there - begin).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            off = (np.abs(ours - there) > limit) & ~still
        if off.sum() <= max(1, bounds.FEW * off.size):
            limit = np.where(off, np.maximum(limit, bounds.LONE * went), limit)
        limit = np.where(still, 0.0, np.inf if unsteady else limit)
        # Of what does not move at all, that it stays is compared.
        counted = ((limit <= bounds.TOLD * went) | (went == 0)) & ~still
        if not counted.any():
            self._comparator.why["whole run", name] = (
                "rounding decides its steps" if still.all() else "rounding may move it as far"
            )
        self._comparator.trajectory("whole run", name, ours, there, limit, where=counted)

    def _point_at(self, bound: np.ndarray) -> None:
        """A divergence of the whole run is reported at its first step out of bounds."""
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(self.losses - self.own) <= bound) & np.isfinite(bound)
        step = int(np.argmax(off)) + 1 if off.any() else len(self.losses)
        self._comparator.step, steps = step, self._plan.batching.steps
        self._comparator.epoch = (step - 1) // steps + 1

    def _run_alone(self) -> tuple[np.ndarray, Any, Any, Generator]:
        """The port's losses, parameters, other collections and generator."""
        params, model_state, opt_state = self._first
        still = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), bool), params)
        held = {name: m for name, m in self._port.matches.items() if name in self.still}
        still = place(still, self.still, held)
        if self._jnet is None:
            return self._run_loop(still)
        optimizer = self._port.optimizer
        if self.still:
            optimizer, opt_state = hold_still(optimizer), (opt_state, still)
        state = jaxnet.train.start(optimizer, {"params": params, **model_state}, self._generator)
        state, history = jaxnet.fit(
            self._jnet,
            (copy_array(self._plan.x), copy_array(self._plan.y)),
            loss=self._jax_loss,
            optimizer=optimizer,
            epochs=self._plan.epochs,
            batch_size=self._plan.batch_size,
            shuffle=self._plan.shuffle,
            state=state._replace(opt_state=opt_state),
        )
        return history.losses, state.params, state.model_state, state.generator

    def _run_loop(self, still: Any) -> tuple[np.ndarray, Any, Any, Generator]:
        """The steps of a user's port, each from its own weights."""
        params, model_state, opt_state = self._first
        generator, losses, dropouts = self._generator, [], iter(self._steps.dropouts)
        x, y = copy_array(self._plan.x), copy_array(self._plan.y)
        for _ in range(self._plan.epochs):
            generator, order = begin_epoch(generator, self._plan.batching)
            for rows in _cut(self._plan.batching, order):
                batch = jax.device_put(x[rows]), jax.device_put(y[rows])
                generator, masks = self._draw(generator, next(dropouts), batch[0])
                seen = self._port.step(params, model_state, *batch, nest(masks))
                _, opt_state, after = self._port.update(seen.grads, opt_state, params)
                params = jax.tree.map(jnp.where, still, params, after)
                model_state = seen.model_state
                losses.append(float(seen.loss))
        return np.array(losses), params, model_state, generator


def _cut(batching: Batching, order: Any) -> Iterator[Any]:
    """The rows of each step of an epoch."""
    rows = np.arange(batching.num_examples) if order is None else np.asarray(order)
    for begin in range(0, batching.num_examples, batching.size):
        yield rows[begin : begin + batching.size]


def compare_bits(
    comparator: Comparator, stage: str, name: str, ours: np.ndarray, torchs: np.ndarray
) -> None:
    """Integers and bits; torch counts in int64, JAX in int32."""
    integer = torchs.dtype.kind == "i"
    comparator.exactly(stage, name, ours.astype(torchs.dtype) if integer else ours, torchs)
