"""The interpreter: a program's nodes in turn, each computed by its rule."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.nn.draws import Draw
from jaxnet.program._inputs import bind_sizes
from jaxnet.program._sizes import evaluate
from jaxnet.program._trees import unflatten
from jaxnet.program.data import Node, Program, Ref, Spec, Tensor
from jaxnet.program.draws import Listing
from jaxnet.program.registry import RULES

Drawer = Callable[[Draw], Any]
"""Gives what a net draws, in order."""

Watcher = Callable[[str, Any], Any]
"""Sees every value, by its name."""

_SYMBOLIC: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem,
    **{
        name: getattr(operator, name)
        for name in "add sub mul floordiv truediv mod pow neg eq ne lt le gt ge and_ or_".split()
    },
    **{name: getattr(math, name) for name in ("trunc", "ceil", "floor")},
    "round": round,
    "sym_max": max,
    "sym_min": min,
    "sym_not": operator.not_,
    "sym_float": float,
    "sym_int": int,
    "sym_ite": lambda condition, yes, no: yes if condition else no,
    "sym_size": lambda x, axis: x.shape[axis],
}
"""What is computed of sizes and tuples, while a program is traced."""


def is_symbolic(op: str) -> bool:
    """Whether an operation is one on sizes or tuples."""
    return op.startswith("sym.") and op[4:] in _SYMBOLIC


def list_missing(program: Program) -> list[Node]:
    """The nodes that no rule computes."""
    return [node for node in program.nodes if not is_symbolic(node.op) and node.op not in RULES]


def canonical(dtype: str) -> Any:
    """The dtype of that name, as wide as JAX is set to have it."""
    return jax.dtypes.canonicalize_dtype(jnp.dtype(dtype))


def run(
    program: Program,
    tensors: Mapping[str, Any],
    inputs: Sequence[Any],
    *,
    draws: Drawer | None = None,
    watch: Watcher | None = None,
    faults: list[tuple[Node, str]] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The program's outputs, and the buffers that it changes.

    Args:
      program: what to run.
      tensors: parameters and buffers under torch's names, shared ones under the first.
      inputs: the leaves of the call's arguments, as `read_inputs` gives them.
      draws: gives what nodes draw at random.
      watch: is called with the name of every value, and the value.
      faults: where given, takes the nodes whose rules are not implemented for their arguments,
        and what they say; zeros take the place of what they give.

    Raises:
      ValueError: the program draws and `draws` is None, or a size is not what torch's was.
      Exception: whatever a rule raises, with a note of where in torch's program it stands.
    """
    sizes = bind_sizes(program, inputs)
    values: dict[str, Any] = {}
    given = iter(inputs)
    for each in program.inputs:
        if each.kind == "user":
            values[each.name] = next(given)
        else:
            source = tensors if each.kind == "tensor" else program.constants
            values[each.name] = jnp.asarray(source[str(each.target)])
    names = _Names(draws)
    # Rules promote as torch does, whatever is set for all of JAX.
    with jax.numpy_rank_promotion("allow"):
        for node in program.nodes:
            try:
                values[node.name] = _compute(node, values, sizes, names)
            except NotImplementedError as error:
                if faults is None:
                    raise
                faults.append((node, str(error).partition("\n")[0]))
                values[node.name] = _map_specs(node.result, lambda spec: _make_zeros(spec, sizes))
            if watch is not None:
                watch(node.name, values[node.name])
    found = [_get(output.value, values) for output in program.outputs]
    pairs = list(zip(program.outputs, found, strict=True))
    changed = {str(output.target): value for output, value in pairs if output.target is not None}
    users = iter([value for output, value in pairs if output.target is None])
    return unflatten(program.out_tree, users), changed


def trace_draws(
    program: Program,
    tensors: Iterable[Tensor],
    leaves: Sequence[Any],
    faults: list[tuple[Node, str]] | None = None,
) -> list[tuple[str, Draw]]:
    """What a run draws, each with the name of its node; nothing is computed.

    Args:
      program, faults: as `run` takes them.
      tensors: what it reads.
      leaves: those of the call, arrays as `jax.ShapeDtypeStruct`.
    """
    listing, found = Listing(), []
    own = {t.name: jax.ShapeDtypeStruct(t.spec.shape, canonical(t.spec.dtype)) for t in tensors}
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]

    def watch(name, _):
        found.extend((name, draw) for draw in listing.draws[len(found) :])

    def forward(tensors, given):
        rest = iter(given)
        inputs = [next(rest) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves]
        return run(program, tensors, inputs, draws=listing, watch=watch, faults=faults)[1]

    jax.eval_shape(forward, own, arrays)
    return found


class _Names:
    """The names of draws: their module's, and a number where it has drawn before."""

    def __init__(self, draws: Drawer | None):
        self.draws = draws
        self._taken: set[str] = set()

    def take(self, module: str) -> str:
        number, name = 0, module
        while name in self._taken:
            number += 1
            name = f"{module}#{number}"
        self._taken.add(name)
        return name


def _get(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, tuple | list):
        return [_get(part, values) for part in value]
    return value


def _compute(node: Node, values: Mapping[str, Any], sizes: Mapping[str, int], names: _Names) -> Any:
    args = [_get(arg, values) for arg in node.args]
    if is_symbolic(node.op):
        return _SYMBOLIC[node.op[4:]](*args)
    rule, keywords = RULES[node.op], {key: _get(arg, values) for key, arg in node.kwargs}
    wide = any(_is_wide(leaf) for leaf in jax.tree.leaves((args, keywords)))
    try:
        if rule.draws:
            keywords["draw"] = _make_draw(node, sizes, names)
        if rule.wants_result:
            keywords["result"] = _map_specs(node.result, lambda spec: _to_struct(spec, sizes))
        found = rule.function(*args, **keywords)
        return _finish(node.result, found, wide, sizes)
    except Exception as error:
        error.add_note(f"in {node.op}, {node.name} of {node.place}")
        raise


def _is_wide(value: Any) -> bool:
    return getattr(value, "dtype", None) == np.float64


def _map_specs(result: Any, function: Callable[[Spec], Any]) -> Any:
    if isinstance(result, tuple):
        return tuple(_map_specs(part, function) for part in result)
    return None if result is None else function(result)


def _to_struct(spec: Spec, sizes: Mapping[str, int]) -> jax.ShapeDtypeStruct:
    shape = [evaluate(size, sizes) for size in spec.shape]
    return jax.ShapeDtypeStruct([-1 if n is None else n for n in shape], canonical(spec.dtype))


def _make_zeros(spec: Spec, sizes: Mapping[str, int]) -> Any:
    struct = _to_struct(spec, sizes)
    return jnp.zeros(struct.shape, struct.dtype)


def _finish(result: Any, value: Any, wide: bool, sizes: Mapping[str, int]) -> Any:
    """A value in torch's type, its shape held against torch's."""
    if isinstance(result, tuple):
        parts = value if isinstance(value, tuple | list) else (value,)
        parts = [*parts, *[None] * (len(result) - len(parts))]
        pairs = zip(result, parts, strict=True)
        return tuple(_finish(spec, part, wide, sizes) for spec, part in pairs)
    if result is None or value is None:
        return value
    value, dtype = jnp.asarray(value), canonical(result.dtype)
    # A net in float64, where torch's was in float32, stays there.
    if value.dtype != dtype and not (wide and _is_wide(value) and dtype == np.float32):
        value = value.astype(dtype)
    expected = tuple(evaluate(size, sizes) for size in result.shape)
    fits = len(expected) == value.ndim and all(
        n in (None, m) for n, m in zip(expected, value.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"a rule gave shape {value.shape}, torch's is {expected}")
    return value


def _make_draw(node: Node, sizes: Mapping[str, int], names: _Names) -> Callable[..., Any]:
    first = node.result[0] if isinstance(node.result, tuple) else node.result
    dtype = first.dtype if first is not None and first.dtype.startswith(("float", "bf")) else None
    count = 0

    def draw(kind: str, parameter: Any, shape: Sequence[int], like_input: bool = False) -> Any:
        nonlocal count
        order = _find_order(node, count, sizes) if like_input else None
        count += 1
        if names.draws is None:
            raise ValueError(
                "draws must be given: in training this net draws random numbers. Pass draws=, as "
                'jaxnet.nn.draw(net, generator, x) gives them, or rngs={"dropout": key}'
            )
        path = (names.take(node.module),)
        return names.draws(Draw(path, kind, parameter, tuple(shape), dtype or "float32", order))

    return draw


def _find_order(node: Node, number: int, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """The axes of a draw as they lie in memory."""
    order = node.orders[number] if number < len(node.orders) else None
    if order is None or not isinstance(order[0], tuple):
        return order
    known = {tuple(key): axes for key, axes in order}
    here = tuple(sorted(sizes.items()))
    if here not in known:
        seen = "; ".join(", ".join(f"{name}={n}" for name, n in key) for key in known)
        raise ValueError(
            f"inputs have sizes {dict(here)}, but how torch lays out what it drops depends on "
            f"them and was recorded for {seen}: call from_torch with inputs of these sizes"
        )
    return known[here]
