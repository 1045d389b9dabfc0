"""The arguments of a program's call: nested as in the call that was exported, and of its sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.validation import nearest
from jaxnet.program._sizes import evaluate
from jaxnet.program._trees import flatten
from jaxnet.program.data import Input, Program


def bind_sizes(program: Program, inputs: Sequence[Any]) -> dict[str, int]:
    """The sizes that may vary, read from the inputs; a ValueError where one does not fit."""
    sizes: dict[str, int] = {}
    rest = []
    for each, value in zip(program.users, inputs, strict=True):
        if each.spec is None:
            continue
        if len(each.spec.shape) != len(value.shape):
            raise ValueError(_explain(each, value))
        for expected, size in zip(each.spec.shape, value.shape, strict=True):
            if isinstance(expected, str) and expected.isidentifier():
                sizes.setdefault(expected, size)
            rest.append((each, value, expected, size))
    for each, value, expected, size in rest:
        if evaluate(expected, sizes) not in (None, size):
            raise ValueError(_explain(each, value))
    for symbol in program.symbols:
        if symbol.most is not None and sizes.get(symbol.name, 0) > symbol.most:
            raise ValueError(
                f"inputs have an axis of {sizes[symbol.name]}, but this net takes at most "
                f"{symbol.most} there ({symbol.name})"
            )
    return sizes


def _explain(each: Input, value: Any) -> str:
    return (
        f"input {each.name!r} must be {each.spec}, not {value.dtype}{list(value.shape)}: where a "
        "size is a number, the net was exported for it alone; call from_torch with such inputs"
    )


def choose(
    programs: Sequence[Program], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Program, list[Any]]:
    """The first program that takes inputs of these sizes, and the leaves of its call.

    Raises:
      ValueError, TypeError: as `read_inputs`.
    """
    for program in programs:
        leaves = read_inputs(program, args, kwargs)
        if len(programs) == 1 or fits(program, leaves):
            return program, leaves
    return programs[0], read_inputs(programs[0], args, kwargs)


def fits(program: Program, leaves: Sequence[Any]) -> bool:
    """Whether it takes inputs of these sizes."""
    try:
        bind_sizes(program, leaves)
    except ValueError:
        return False
    return True


def read_inputs(program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The leaves of a call's arguments; several inputs may come as one tuple or mapping.

    Raises:
      ValueError: they are nested otherwise than in the call that was exported, or one that is no
        tensor has another value.
      TypeError: an array is of another kind.
    """
    leaves = flatten(program.in_tree, _arrange(program.in_tree, args, dict(kwargs)))
    return [_check(each, leaf) for each, leaf in zip(program.users, leaves, strict=True)]


def _arrange(tree: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    positional, named = tree
    if len(args) == 1 and len(positional) != 1 and not kwargs:
        if isinstance(args[0], Mapping):
            args, kwargs = (), dict(args[0])
        elif isinstance(args[0], tuple | list) and len(args[0]) == len(positional):
            args = tuple(args[0])
    if len(args) != len(positional):
        raise ValueError(
            f"the call must have {len(positional)} inputs by position, as the one that was "
            f"exported, not {len(args)}"
        )
    if missing := [name for name in named if name not in kwargs]:
        raise ValueError(f"the call must have the input {missing[0]!r} by name, as was exported")
    if stray := [name for name in kwargs if name not in named]:
        raise ValueError(
            f"the call must have the inputs {list(named)} by name, as the one that was exported, "
            f"not {stray[0]!r}{nearest(stray[0], named)}"
        )
    return args, kwargs


def _check(each: Input, leaf: Any) -> Any:
    if each.spec is None:
        if leaf is not each.value and leaf != each.value:
            raise ValueError(
                f"input {each.name!r} must be {each.value!r}, as in the call that was exported, "
                f"not {leaf!r:.60}"
            )
        return leaf
    if not isinstance(leaf, jax.Array | np.ndarray):
        leaf = np.asarray(leaf)
    wanted, found = np.dtype(each.spec.dtype), leaf.dtype
    for kind in (jnp.floating, jnp.integer, jnp.bool_):
        if jnp.issubdtype(wanted, kind) != jnp.issubdtype(found, kind):
            raise TypeError(f"input {each.name!r} must be {each.spec}, not {found}")
    return jnp.asarray(leaf)
