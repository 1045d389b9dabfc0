"""A function of arrays as a jaxpr: its values can be captured, and its random draws replaced.

Flax's own interception sees linen modules alone, and takes tracers out of the transformations that
they are in. A jaxpr has every value of any port, and is evaluated here equation by equation.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

UNROLLED = 32
"""Steps of a scan that is unrolled where something inside is asked for; a longer one is opaque."""

_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call")
_DRAWS = {"random_bits": "bits", "random_gamma": "gamma"}
_ROLES = dict.fromkeys(_CALLS, "call") | dict.fromkeys(_CUSTOM, "custom") | {"scan": "scan"}


@dataclass(frozen=True)
class Value:
    """What an equation gives."""

    index: int
    primitive: str
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class Draw:
    """What is drawn at random."""

    index: int
    kind: str
    """The function of `jax.random`, such as "bernoulli"; "bits" where it is another's."""
    value: Value

    @property
    def shape(self) -> tuple[int, ...]:
        """That of what is drawn."""
        return self.value.shape


class Traced:
    """A function of pytrees, traced for arguments of the shapes and types of `args`.

    Equations inside which nothing is asked for are bound whole: `jax.checkpoint`, `lax.scan` and
    custom derivatives stay what they are. A function with a custom derivative has none only where a
    draw inside is replaced. Draws in a `cond`, a `while` or a long scan are not listed.

    >>> traced = Traced(lambda x: jnp.sin(x) ** 2, 2.0)
    >>> [value.primitive for value in traced.values]
    ['sin', 'integer_pow']
    >>> outputs, captured = traced((0.0,), capture=[0])
    >>> print(outputs, captured[0])
    0.0 0.0
    """

    def __init__(self, function: Callable, *args: Any) -> None:
        self._closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        self._outputs = jax.tree.structure(shapes)
        self._listing = _Listing()
        self._listing.enter(self._closed)
        self.values: Sequence[Value] = self._listing.values
        """In the order of execution, those of inner functions and of steps of scans included."""
        self.draws: Sequence[Draw] = self._listing.draws
        """In the order of execution."""

    def __call__(
        self, args: tuple, draws: Sequence[Any] | None = None, capture: Collection[int] = ()
    ) -> tuple[Any, dict[int, Any]]:
        """The function's outputs, and the values of these indices; pure, as the function is.

        Args:
          args: as those that were traced.
          draws: for each draw the array that takes its place, or None where it is to be drawn.
          capture: indices of values.

        Raises:
          ValueError: an argument does not fit what was traced.
        """
        leaves = list(map(jnp.asarray, jax.tree.leaves(args)))
        for leaf, aval in zip(leaves, self._closed.in_avals, strict=True):
            if (leaf.shape, leaf.dtype) != (aval.shape, aval.dtype):
                raise ValueError(f"args must be as traced, {aval}, not {jax.typeof(leaf)}")
        given = [
            array if array is None else jnp.asarray(array, draw.value.dtype)
            for array, draw in zip(draws or [None] * len(self.draws), self.draws, strict=True)
        ]
        run = _Run(self._listing, given, frozenset(capture))
        return jax.tree.unflatten(self._outputs, run.evaluate(self._closed, leaves)), run.captured


class _Listing:
    """What a jaxpr computes, equation by equation, without computing it."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.draws: list[Draw] = []
        self.nodes: dict[int, tuple[str, int, int]] = {}
        """By equation, what becomes of it, and how many values and draws are listed inside."""
        self._orders: dict[int, list[tuple[JaxprEqn, set[Var]]]] = {}

    def order(self, jaxpr: Jaxpr) -> list[tuple[JaxprEqn, set[Var]]]:
        """The equations whose results are used, each with what is read there for the last time."""
        if id(jaxpr) not in self._orders:
            order, later = [], {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
            for eqn in reversed(jaxpr.eqns):
                if eqn.effects or not later.isdisjoint(eqn.outvars):
                    read = {atom for atom in eqn.invars if isinstance(atom, Var)}
                    order.append((eqn, read - later))
                    later |= read
            self._orders[id(jaxpr)] = order[::-1]
        return self._orders[id(jaxpr)]

    def enter(self, closed: ClosedJaxpr) -> None:
        """List what is inside."""
        for eqn, _ in self.order(closed.jaxpr):
            role = _find_role(eqn)
            values, draws = len(self.values), len(self.draws)
            if role in ("call", "custom", "scan"):
                for _ in _steps(eqn) if role == "scan" else [0]:
                    self.enter(_inner(eqn))
            inside = len(self.values) - values, len(self.draws) - draws + (role == "draw")
            self.nodes[id(eqn)] = role, *inside
            avals: list[Any] = [v.aval for v in eqn.outvars]
            for aval in avals if role not in ("call", "custom") else ():
                given = eqn.primitive.name, aval.shape, aval.dtype
                self.values.append(Value(len(self.values), *given))
            if role == "draw":
                self.draws.append(Draw(len(self.draws), _find_kind(eqn), self.values[-1]))


class _Run:
    """One evaluation, which captures the values in `wanted`."""

    def __init__(self, listing: _Listing, draws: list[Any], wanted: frozenset[int]) -> None:
        self._listing, self._draws, self._wanted = listing, draws, wanted
        self.captured: dict[int, Any] = {}
        self._value = self._draw = 0

    def evaluate(self, closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        jaxpr = closed.jaxpr
        held = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else held[atom]

        for eqn, done in self._listing.order(jaxpr):
            outputs = self._compute(eqn, [read(atom) for atom in eqn.invars])
            for var in done:
                del held[var]
            held.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _compute(self, eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
        role, values, draws = self._listing.nodes[id(eqn)]
        replaced = [d for d in self._draws[self._draw : self._draw + draws] if d is not None]
        seen = not self._wanted.isdisjoint(range(self._value, self._value + values))
        outputs, opened = replaced, role in ("call", "custom", "scan") and (seen or replaced)
        if opened:
            scan = role == "scan"
            outputs = self._unroll(eqn, inputs) if scan else self.evaluate(_inner(eqn), inputs)
        else:
            self._value, self._draw = self._value + values, self._draw + draws
        if not replaced and (role == "custom" or not opened):  # a derivative of its own is kept
            outputs = _bind(eqn, inputs)
        for array in outputs if role not in ("call", "custom") else ():
            if self._value in self._wanted:
                self.captured[self._value] = array
            self._value += 1
        return outputs

    def _unroll(self, eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
        constants, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        carry, stacks = inputs[constants : constants + carried], inputs[constants + carried :]
        rows: dict[int, list[Any]] = {}
        for step in _steps(eqn):
            sliced = [jax.lax.index_in_dim(stack, step, keepdims=False) for stack in stacks]
            outputs = self.evaluate(eqn.params["jaxpr"], [*inputs[:constants], *carry, *sliced])
            carry, rows[step] = outputs[:carried], outputs[carried:]
        return [*carry, *map(jnp.stack, zip(*(rows[step] for step in sorted(rows)), strict=True))]


def _bind(eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
    outputs = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
    return outputs if eqn.primitive.multiple_results else [outputs]


def _find_role(eqn: JaxprEqn) -> str:
    if _find_kind(eqn):
        return "draw"
    long = eqn.primitive.name == "scan" and eqn.params["length"] > UNROLLED
    return "leaf" if long else _ROLES.get(eqn.primitive.name, "leaf")


def _find_kind(eqn: JaxprEqn) -> str:
    """The kind of a draw; "" of anything else."""
    # JAX jits its functions under such names, as others may jit theirs.
    name = str(eqn.params.get("name", ""))
    own = name.startswith("_") and hasattr(jax.random, name[1:]) and len(eqn.outvars) == 1
    if own and any(map(_has_draws, _list_jaxprs(eqn))):
        return name[1:]
    return _DRAWS.get(eqn.primitive.name, "")


def _has_draws(jaxpr: Any) -> bool:
    own = any(eqn.primitive.name in _DRAWS for eqn in jaxpr.eqns)
    return own or any(_has_draws(inner) for eqn in jaxpr.eqns for inner in _list_jaxprs(eqn))


def _list_jaxprs(eqn: JaxprEqn) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves([*eqn.params.values()]) if hasattr(leaf, "eqns")]


def _inner(eqn: JaxprEqn) -> ClosedJaxpr:
    jaxpr = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _steps(eqn: JaxprEqn) -> range:
    return range(eqn.params["length"])[:: -1 if eqn.params["reverse"] else 1]
