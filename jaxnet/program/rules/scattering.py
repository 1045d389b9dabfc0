"""Elements reduced at places: scatter_reduce, bags of embeddings, running extremes."""

import operator

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules.indexing import grid_of, part_of


@aten("scatter_reduce.two")
def scatter_reduce(x, dim, index, src, reduce, include_self=True):
    """sum, mean, prod, amax or amin at each place; equal extremes share the gradient."""
    at, values = grid_of(dim, index), part_of(src, index)
    touched = jnp.zeros(x.shape, x.dtype).at[at].add(1)
    start = x if include_self else jnp.where(touched > 0, jnp.asarray(_NEUTRAL[reduce], x.dtype), x)
    if reduce == "sum":
        return start.at[at].add(values)
    if reduce == "mean":
        count = touched + 1 if include_self else jnp.maximum(touched, 1)
        return start.at[at].add(values) / lax.stop_gradient(count)
    if reduce == "prod":
        return _multiply(start, at, values)
    best = lax.stop_gradient(
        start.at[at].max(values) if reduce == "amax" else start.at[at].min(values)
    )
    own = (start == best) & (include_self | (touched == 0))
    equal = values == best[at]
    ties = own.astype(x.dtype).at[at].add(equal.astype(x.dtype))
    share = jnp.where(own, x - lax.stop_gradient(x), 0)
    share = share.at[at].add(jnp.where(equal, values - lax.stop_gradient(values), 0))
    return best + share / jnp.maximum(ties, 1)


@jax.custom_jvp
def _multiply(x, at, values):
    """x times all that comes to each place."""
    return x.at[at].multiply(values)


@_multiply.defjvp
def _multiply_jvp(primals, tangents):
    # The others' product, with no quotient of zeros: where two factors are 0, every derivative is.
    (x, at, values), (dx, _, dvalues) = primals, tangents
    zeros = (x == 0).astype(jnp.int32).at[at].add(values == 0)
    rest = _multiply(jnp.where(x == 0, 1, x), at, jnp.where(values == 0, 1, values))

    def others(own, zeros, rest):
        alone = jnp.where(own == 0, rest, rest / jnp.where(own == 0, 1, own))
        return jnp.where(zeros - (own == 0) == 0, alone, 0)

    change = others(x, zeros, rest) * dx
    change = change.at[at].add(others(values, zeros[at], rest[at]) * dvalues)
    return _multiply(x, at, values), change


_NEUTRAL = {"sum": 0, "mean": 0, "prod": 1, "amax": -jnp.inf, "amin": jnp.inf}


def _running(x, dim, better):
    """The extreme so far along an axis and its place, the last of equal ones."""
    if not x.size or not x.ndim:
        return x, jnp.zeros(x.shape, jnp.int32)
    axis = dim % x.ndim
    order = lax.broadcasted_iota(jnp.int32, x.shape, axis)

    def combine(left, right):
        (value, place), (other, elsewhere) = left, right
        taken = better(other, value) | jnp.isnan(other)
        return jnp.where(taken, other, value), jnp.where(taken, elsewhere, place)

    _, places = lax.associative_scan(combine, (lax.stop_gradient(x), order), axis=axis)
    return jnp.take_along_axis(x, places, axis), places


@aten("cross")
def cross(x, other, dim=None):
    """The vector product along an axis of 3; for None the first such."""
    return jnp.cross(x, other, axis=x.shape.index(3) if dim is None else dim)


tabulate({
    "cummax": lambda x, dim: _running(x, dim, operator.ge),
    "cummin": lambda x, dim: _running(x, dim, operator.le),
    "isin.Tensor_Tensor": lambda elements, test_elements, assume_unique=False, invert=False: (
        jnp.isin(elements, test_elements, invert=invert)
    ),
    "linalg_cross": lambda x, other, dim=-1: cross(x, other, dim),
})  # fmt: skip
