"""jaxnet's own translation of a torch net, compared with it: its rows, draws and stream too."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch
from flax.traverse_util import flatten_dict

import jaxnet
from jaxnet.cache import jit, memoize
from jaxnet.data.loader import start_epoch
from jaxnet.random import Generator
from torchref.batch import Batch
from torchref.candidate import OwnPort, Seen
from torchref.comparison import Comparison
from torchref.names import name_outputs
from torchref.plan import Plan
from torchref.reference.updates import hold_still
from torchref.steps import Step
from torchref.update import UpdateComparison
from torchref.whole_run import WholeRun

begin_epoch = jit(start_epoch, static_argnums=1)


@memoize
def _make_draw(net: Any) -> Callable[[Generator, Any], tuple[Generator, Any]]:
    """The draws of a step of a net of jaxnet's, compiled."""
    return jax.jit(lambda generator, x: jaxnet.nn.draw(net, generator, x))


class OwnComparison(Comparison):
    """Runs a plan in torch and compares jaxnet's port with it.

    Args:
      plan, port, progress: as for `Comparison`.
      generator: where the port's random numbers come from.
      net, loss: the net and the loss for `jaxnet.fit`.
    """

    def __init__(
        self,
        plan: Plan,
        port: OwnPort,
        *,
        generator: Generator,
        net: Any,
        loss: Any,
        progress: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__(plan, port, progress=progress)
        self.update = UpdateComparison(plan, port, self.comparator, self.reference, optax=False)
        self._generator = self._first = self._last = generator
        self._net, self._loss, self._draw = net, loss, _make_draw(net)
        self._epoch = self._position = 0
        self._order = np.zeros(0, int)
        self.whole = WholeRun(plan, port, self.comparator, self._run_alone)

    def check_rows(self, epoch: int, rows: np.ndarray) -> None:
        """The rows that jaxnet's loader takes are torch's."""
        batching = self.plan.batching
        if epoch != self._epoch:
            self._epoch, self._position = epoch, 0
            self._generator, order = begin_epoch(self._generator, batching)
            every = np.arange(self.plan.data.num_examples)
            self._order = every if order is None else np.asarray(order)
        ours = self._order[self._position : self._position + batching.size]
        self._position += batching.size
        self.comparator.exactly("rows", "batch", ours, rows)

    def give_draws(self, step: Step, batch: Batch) -> Any:
        """jaxnet's masks, which are torch's."""
        self._generator, drawn = self._draw(self._generator, batch.x)
        # The mask of a net that is one dropout has no name.
        named = flatten_dict(drawn, sep=".") if isinstance(drawn, dict) else {"": drawn}
        for each in step.draws:
            if each.name not in named:
                self.comparator.missing("masks", each.name, f"a {each.kind} that the port has not")
            ours = np.asarray(named[each.name])
            if each.kind == "bernoulli" and ours.dtype != bool:
                continue  # torch compares numbers with probabilities, and shows what comes of it
            self.comparator.exactly("masks", each.name, ours, each.values)
        return drawn if named else None

    def compare_outputs(self, step: Step, seen: Seen, arguments: Sequence[Any]) -> None:
        """Of each layer under its name."""
        for name, noise in seen.noise.items():
            if name in step.noise:
                self.comparator.exactly("masks", name, noise, step.noise[name])
        parts = [name_outputs(name, out) for name, out in seen.inner.items()]
        ours = {name: part for named in parts for name, part in named.items()}
        ours |= name_outputs("", seen.outputs)
        for name, output in step.outputs.items():
            if name in ours and np.shape(ours[name]) == output.shape:
                self.hold("outputs", name, ours[name], output)
        last = list(step.outputs)[-1]
        if last not in ours:
            self.hold("outputs", last, seen.outputs, step.outputs[last], shown="(net)")
        for name, buffer in self.port.name_buffers(seen.model_state).items():
            self.hold("buffers", name, buffer, step.buffers[name])

    def time_port(self, batch: Batch) -> Callable[[int], float]:
        """Of `jaxnet.train.run`, whose draws are made ahead."""
        optimizer = self.port.optimizer
        variables = {"params": self.port.params, **self.port.model_state}
        state = jaxnet.train.start(optimizer, variables, self._first)
        step = jaxnet.train.make_train_step(self._net, self._loss, optimizer)
        data, draw = (batch.x, batch.y), jaxnet.train.make_draws(self._net, batch.x)

        def run(steps: int) -> float:
            _, history = jaxnet.train.run(step, state, data, draw=draw, epochs=steps)
            return history.run_seconds

        return run

    def end_stream(self, after: torch.Tensor) -> None:
        """jaxnet's generator at the end is torch's."""
        last = self._generator if self.plan.scope else self._last
        state = jaxnet.random.get_state(last)
        self.comparator.exactly("stream", "generator", state, after.numpy())

    def _run_alone(
        self, params: Any, model_state: Any, opt_state: Any, still: Any
    ) -> tuple[np.ndarray, Any, Any]:
        """A run of jaxnet's."""
        optimizer, plan = self.port.optimizer, self.plan
        if self.whole.still:
            optimizer, opt_state = hold_still(optimizer), (opt_state, still)
        data = self.whole.data()
        state = jaxnet.train.start(optimizer, {"params": params, **model_state}, self._first)
        # What `fit` runs, but for its check of the rows: of nan torch has made what it makes.
        state, history = jaxnet.train.run(
            jaxnet.train.make_train_step(self._net, self._loss, optimizer),
            state._replace(opt_state=opt_state),
            (data.x, data.y),
            draw=jaxnet.train.make_draws(self._net, data.x),
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            shuffle=plan.shuffle,
        )
        self._last = state.generator
        return history.losses, state.params, state.model_state
