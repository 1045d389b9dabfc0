"""torch's types: what an operation of several values gives, and the types it computes in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def as_dtype(name: str | None, default: Any = None) -> Any:
    """The dtype of a name, as wide as JAX is set to have it; `default` for None."""
    return default if name is None else jax.dtypes.canonicalize_dtype(jnp.dtype(name))


def as_integers(x: Any) -> Array:
    """Booleans and integers in the widest integer type, which torch counts and adds them in."""
    x = jnp.asarray(x)
    return x if is_floating(x) else x.astype(as_dtype("int64"))


def cast(x: Any, dtype: str | None) -> Array:
    """x in the dtype of a name, or as it is for None."""
    return jnp.asarray(x).astype(as_dtype(dtype, x.dtype))


def is_floating(x: Any) -> bool:
    """Whether it has a gradient: floating-point or complex."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _kind(dtype: Any) -> int:
    return next(i for i, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind))


def result_type(*values: Any) -> Any:
    """The dtype that torch gives several values: arrays with axes decide, then arrays without,
    then Python's numbers, each only where they are of a higher kind than those before."""
    result = None
    for group in (
        [x.dtype for x in values if hasattr(x, "dtype") and x.ndim],
        [x.dtype for x in values if hasattr(x, "dtype") and not x.ndim],
        [_type_of_number(x) for x in values if not hasattr(x, "dtype")],
    ):
        if not group:
            continue
        here = jnp.result_type(*group)
        if result is None:
            result = here
        elif _kind(here) > _kind(result):
            result = jnp.promote_types(result, here)
    return result


def _type_of_number(number: Any) -> Any:
    # torch's default type, also where JAX would take 64 bits.
    kinds = {bool: "bool", int: "int64", complex: "complex64"}
    return as_dtype(kinds.get(type(number), "float32"))


def promote(*values: Any, floating: bool = False) -> list[Array]:
    """Arrays of one shape and of torch's type for them; a float type where `floating`."""
    dtype = result_type(*values)
    if floating and not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.dtype(jnp.float32)
    return broadcast(*(jnp.asarray(value).astype(dtype) for value in values))


def broadcast(*arrays: Any) -> list[Array]:
    """Arrays of one shape, which none of them needs to have."""
    shape = np.broadcast_shapes(*(np.shape(array) for array in arrays))
    return [jnp.broadcast_to(array, shape) for array in arrays]
