"""A port that somebody wrote, compared with a torch net: its outputs, and where they come from."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxnet.certificate.causes import FORMULAS, Diverged
from jaxnet.certificate.comparison import Held
from torchref.batch import Batch
from torchref.candidate import Seen
from torchref.causes import Causes, list_net_outputs
from torchref.comparison import Comparison
from torchref.names import name_arrays
from torchref.plan import Plan
from torchref.reference.float64 import Reference
from torchref.reference.updates import find_share
from torchref.replay import replaying
from torchref.sighting import align, find_place, make_depends
from torchref.steps import Drawn, Named, Step
from torchref.user_port import UserPort
from torchref.user_update import SCALES, UserUpdate, bias_variance
from torchref.whole_run import WholeRun

_SIGHTED = 1e-3
"""The largest gap, as a share of a layer's output, at which a value is followed on."""

_DOUBTFUL, _TRIES = 0.3, 3
"""The share of a layer's bound from which known mistakes are tried, and of how many layers."""


class UserComparison(Comparison):
    """Runs a plan in torch and compares a user's port with it.

    The port takes torch's rows and draws. Its outputs decide; what it computes on the way is looked
    for among its values, to say where a divergence begins.

    Args:
      plan, port, progress: as for `Comparison`.
      known: names of differences that are granted.
    """

    port: UserPort

    def __init__(
        self,
        plan: Plan,
        port: UserPort,
        *,
        known: Collection[str] = (),
        progress: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__(plan, port, progress=progress)
        self.update = UserUpdate(plan, port, self.comparator, self.reference, known)
        self._known = frozenset(known)
        self._causes = Causes(plan, self.recorder, port)
        self._proven: tuple[str, ...] = ()
        """What a layer does otherwise whose difference the net's outputs do not show."""
        self._taken: list[tuple[np.ndarray, tuple[Drawn, ...]]] = []
        self.matches = {**port.weights.how, **port.buffers.how}
        self.whole = WholeRun(plan, port, self.comparator, self._run_alone, self._is_known)

    def compare_initial(self, weights: Named, buffers: Named) -> None:
        """The port's weights are torch's; it is told where it has others of its own."""
        try:
            super().compare_initial(weights, buffers)
        except Diverged as diverged:
            if all("by name alone" in how for how in self.port.weights.how.values()):
                own = "the port has initial weights of its own"
                raise diverged.because(f"{own}: load torch's, or give port_from_torch") from None
            raise

    def check_rows(self, epoch: int, rows: np.ndarray) -> None:
        """The port takes torch's rows."""
        self._rows = rows

    def give_draws(self, step: Step, batch: Batch) -> tuple[Drawn, ...]:
        """The port takes torch's draws."""
        self._taken.append((self._rows, step.draws))
        return step.draws

    def compare_step(self, step: Step) -> None:
        """Compare one step; a divergence is given the causes that explain it."""
        try:
            super().compare_step(step)
        except Diverged as diverged:
            causes = self._proven or self._causes.find(step, diverged.divergence, self.views)
            raise diverged.because(*causes) from None

    def observe(self, step: Step, arguments: Sequence[Any]) -> Seen:
        """The port's step, and in it the outputs of torch's layers; they are looked for once."""
        self.port.sizes |= {output.size for output in step.outputs.values() if output.size > 2}
        seen = self.port.step(*arguments)
        if self.comparator.step == 1:
            best = self.port.sight(step.outputs)
            self.port.sighted = {n: each for n, (each, _) in best.items() if each.gap <= _SIGHTED}
            seen = seen._replace(inner={name: best[name][1] for name in self.port.sighted})
        shapes = {name: step.outputs[name].shape for name in seen.inner if name in step.outputs}
        inner = {
            name: self.port.sighted[name].turn(seen.inner[name], shape)
            for name, shape in shapes.items()
            if seen.inner[name].size == np.prod(shape)
        }
        return seen._replace(inner=inner)

    def compare_outputs(self, step: Step, seen: Seen, arguments: Sequence[Any]) -> None:
        """The net's outputs; those of layers that are found in the port; buffers."""
        ours = name_arrays(seen.outputs)
        self._causes.note(arguments, ours, seen)
        for key, name in list_net_outputs(step):
            self._compare_output(step, key, name, ours)
        self._compare_inner(step, seen.inner)
        if self.comparator.step == 1:
            found = {name for stage, name in self.comparator.tensors if stage == "outputs"}
            self.unseen = [name for name in step.outputs if name and name not in found]
        for name, buffer in self.port.name_buffers(seen.model_state).items():
            self._compare_buffer(step, name, buffer)

    def _compare_inner(self, step: Step, inner: Named) -> None:
        """Layers that are found in the port: those that agree count.

        One that does not may be computed with larger rounding, or be no layer of the port's at all.
        It is a fault only if a known mistake makes torch's numbers its own. So is one that is off
        by more than rounding does to most, whose mistake its bound hides.
        """
        tries = _TRIES if self.comparator.step == 1 else 0
        for name in [name for name in step.outputs if name in inner]:
            array, theirs, view = inner[name], step.outputs[name], self.views["outputs", name]
            held, wanted = self.look_at("outputs", name, array, theirs), {("outputs", name): array}
            if tries and held.share > _DOUBTFUL:
                tries -= 1
                self._proven = self._causes.explain(step, "outputs", wanted, self.views)
            if self._proven:
                held = held._replace(bound=_DOUBTFUL * held.bound)
            if held.agrees or self._proven:
                self.comparator.accept("outputs", name, array, theirs, view, held)

    def _compare_output(self, step: Step, key: str, name: str, ours: Named) -> None:
        theirs, shown = step.outputs[key], key if key and key[0] != "[" else f"(net){key}"
        if name not in ours:
            self.comparator.missing("outputs", shown, "an output that the port has not")
        array = align(ours[name], theirs.shape)
        if ("outputs", key) not in self.views:
            return self.comparator.exactly("outputs", shown, array, theirs)
        if array.shape == theirs.shape:
            held = self.look_at("outputs", key, array, theirs)
            if not held.agrees:
                self._diverge(step, key, array, held, shown)
        self.hold("outputs", key, array, theirs, shown=shown)

    def _diverge(self, step: Step, key: str, ours: Any, held: Held, shown: str) -> None:
        """Report the first layer that the port has not, with its numbers that are nearest."""
        best = self.port.sight(step.outputs)

        def agrees(name: str) -> bool:
            if name not in best or ("outputs", name) not in self.views:
                return False
            return self.look_at("outputs", name, best[name][1], step.outputs[name]).agrees

        nodes: dict[str, Any] = {}
        with replaying(self.plan, self.recorder, step) as replay:
            replay(Reference(), lambda name, output: nodes.setdefault(name, output.grad_fn))
        order = [name for name in step.outputs if name in nodes and name != key]
        place = find_place([*order, key], agrees, make_depends(nodes))
        if place in best and place != key:
            array, view = best[place][1], self.views["outputs", place]
            near = self.look_at("outputs", place, array, step.outputs[place])
            self.comparator.accept("outputs", place, array, step.outputs[place], view, near)
        name = shown if place in (None, key) else place
        self.comparator.accept(
            "outputs", str(name), ours, step.outputs[key], self.views["outputs", key], held
        )

    def _compare_buffer(self, step: Step, name: str, ours: np.ndarray) -> None:
        theirs, key = step.buffers[name], ("buffers", name)
        if key in self.views and "batchnorm-variance" in self._known:
            view = self.views[key]
            biased = bias_variance(self.plan.net, name, step, view)
            own = self.comparator.hold("buffers", name, ours, theirs, view)
            if biased is not None and not own.agrees:
                held = self.comparator.hold("buffers", name, ours, theirs, biased)
                if held.agrees:
                    self.comparator.accept("buffers", name, ours, theirs, biased, held)
                    share = find_share(biased.exact, view.exact)
                    self.update.grant({"batchnorm-variance": share})
                    return
        self.hold("buffers", name, ours, theirs)

    def time_port(self, batch: Batch) -> Callable[[int], float]:
        """Of the port's forward, its gradient and its optimizer in one compiled function."""
        return self.port.start(batch, self._taken[0][1])

    def compare_whole_run(self, begin: Named, stream: torch.Tensor) -> None:
        """The port by itself, unless its steps have been granted another size."""
        if SCALES & self.update.granted.keys():
            self.comparator.count("whole run", "losses", 0, 1)
            self.comparator.why["whole run", "losses"] = "its steps are granted another size"
        else:
            super().compare_whole_run(begin, stream)

    def _is_known(self, name: str) -> bool:
        """Whether a granted difference decides a tensor at the end of the whole run."""
        other = name.rpartition(".")[2] == "running_var" or name.startswith("(outputs)")
        return other and bool(FORMULAS.keys() & self.update.granted.keys())

    def _run_alone(
        self, params: Any, model_state: Any, opt_state: Any, still: Any
    ) -> tuple[np.ndarray, Any, Any]:
        """The port's steps, each from its own weights."""
        losses, data = [], self.whole.data()
        for rows, draws in self._taken:
            batch = jax.tree.map(lambda array, rows=rows: jax.device_put(array[rows]), data)
            seen = self.port.step(params, model_state, batch[:2], batch.y, draws)
            _, opt_state, after = self.port.update(seen.grads, opt_state, params)
            params = jax.tree.map(jnp.where, still, params, after)
            model_state = seen.model_state
            losses.append(float(seen.loss))
        return np.array(losses), params, model_state
