"""What puts elements in order, or finds their place in an order."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.program.registry import rule


@rule("aten.median.dim")
def median(x, dim, keepdim=False):
    """The lower of the two in the middle, and its place."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    order = jnp.argsort(x, dim, stable=True)
    places = lax.slice_in_dim(order, (n := (x.shape[dim] - 1) // 2), n + 1, axis=dim % x.ndim)
    values = jnp.take_along_axis(x, places, dim)
    if keepdim:
        return values, places
    return jnp.squeeze(values, dim), jnp.squeeze(places, dim)


@rule("aten.median.default")
def median_all(x):
    return median(x.reshape(-1), 0)[0]


@rule("aten.sort.default")
def sort(x, dim=-1, descending=False):
    """Equal elements keep their order, which torch leaves open; nan comes last, or first."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    order = jnp.argsort(x, dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, dim), order


@rule("aten.sort.stable")
def sort_stable(x, stable, dim=-1, descending=False):
    return sort(x, dim, descending)


@rule("aten.argsort.default")
def argsort(x, dim=-1, descending=False):
    return sort(x, dim, descending)[1]


@rule("aten.topk.default")
def topk(x, k, dim=-1, largest=True, sorted=True):
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    return tuple(lax.slice_in_dim(v, 0, k, axis=dim % x.ndim) for v in sort(x, dim, largest))


@rule("aten.searchsorted.Tensor")
def searchsorted(sorted_sequence, self, out_int32=False, right=False, side=None, sorter=None):
    """In one sorted row, or row by row."""
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, -1)
    find = functools.partial(jnp.searchsorted, side=side or ("right" if right else "left"))
    for _ in sorted_sequence.shape[:-1]:
        find = jax.vmap(find)
    return find(sorted_sequence, self)


@rule("aten.bucketize.Tensor")
def bucketize(x, boundaries, out_int32=False, right=False):
    return jnp.searchsorted(boundaries, x, side="right" if right else "left")


@rule("aten.diff.default")
def diff(x, n=1, dim=-1, prepend=None, append=None):
    parts = [part for part in (prepend, x, append) if part is not None]
    return jnp.diff(jnp.concatenate(parts, dim), n, dim)
