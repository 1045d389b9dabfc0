"""What puts elements in order, or finds their place in an order."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.program.registry import aten, tabulate


@aten("median.dim")
def median(x, dim, keepdim=False):
    """The lower of the two in the middle, and its place."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    middle = (x.shape[dim] - 1) // 2
    found = (lax.slice_in_dim(v, middle, middle + 1, axis=dim % x.ndim) for v in sort(x, dim))
    return tuple(value if keepdim else jnp.squeeze(value, dim) for value in found)


@aten("sort")
def sort(x, dim=-1, descending=False):
    """Equal elements keep their order, which torch leaves open; nan comes last, or first."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    order = jnp.argsort(x, dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, dim), order


@aten("topk")
def topk(x, k, dim=-1, largest=True, sorted=True):
    if x.ndim == 0:
        return sort(x)
    return tuple(lax.slice_in_dim(v, 0, k, axis=dim % x.ndim) for v in sort(x, dim, largest))


@aten("searchsorted.Tensor")
def searchsorted(sorted_sequence, self, out_int32=False, right=False, side=None, sorter=None):
    """In one sorted row, or row by row."""
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, -1)
    find = functools.partial(jnp.searchsorted, side=side or ("right" if right else "left"))
    for _ in sorted_sequence.shape[:-1]:
        find = jax.vmap(find)
    return find(sorted_sequence, self)


@aten("diff")
def diff(x, n=1, dim=-1, prepend=None, append=None):
    parts = [part for part in (prepend, x, append) if part is not None]
    return jnp.diff(jnp.concatenate(parts, dim), n, dim)


tabulate({
    "median": lambda x: median(x.reshape(-1), 0)[0],
    "sort.stable": lambda x, stable, dim=-1, descending=False: sort(x, dim, descending),
    "argsort": lambda x, dim=-1, descending=False: sort(x, dim, descending)[1],
    "bucketize.Tensor": lambda x, boundaries, out_int32=False, right=False: (
        searchsorted(boundaries, x, right=right)
    ),
})  # fmt: skip
