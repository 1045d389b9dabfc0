"""Elements by their places: read, written, added to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.nn._functions import take_rows
from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import as_integers, is_floating
from jaxnet.program.rules.shapes import places


def _index(indices):
    """torch's list of indices, in which None stands for a whole axis, as NumPy's."""
    known = [index for index in indices if index is not None]
    if any(index.dtype == jnp.bool_ for index in known):
        raise NotImplementedError(
            "an index of booleans selects a number of elements that depends on data: use where"
        )
    shape = np.broadcast_shapes(*(index.shape for index in known))
    return tuple(
        slice(None) if index is None else jnp.broadcast_to(index, shape) for index in indices
    )


def overwrite(x, at, values):
    """x with other values at some places, and torch's gradient where a place comes twice."""
    values = jnp.broadcast_to(jnp.asarray(values).astype(x.dtype), x[at].shape)
    slots = tuple(isinstance(part, slice) for part in at)
    arrays = tuple(part for part in at if not isinstance(part, slice))
    return _write(x, arrays, values, slots)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _write(x, arrays, values, slots):
    return x.at[_rebuild(arrays, slots)].set(values)


@_write.defjvp
def _write_jvp(slots, primals, tangents):
    # Of values for one place the last counts, yet torch gives the gradient there to each of them.
    (x, arrays, values), (dx, _, dvalues) = primals, tangents
    y = _write(x, arrays, values, slots)
    if not is_floating(x):
        return y, dx
    at = _rebuild(arrays, slots)
    kept = jnp.ones(x.shape, bool).at[at].set(False)
    return y, jnp.where(kept, dx, 0).at[at].add(dvalues)


def _rebuild(arrays, slots):
    """The index of which only the arrays were handed on; a slice in it is a whole axis."""
    rest = iter(arrays)
    return tuple(slice(None) if whole else next(rest) for whole in slots)


@aten("index_put _unsafe_index_put")
def index_put(x, indices, values, accumulate=False):
    """Values written, or added, at places; a mask of booleans takes one value."""
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == jnp.bool_:
        return _put_where(x, indices[0], values, accumulate)
    at = _index(indices)
    if accumulate:
        return x.at[at].add(jnp.broadcast_to(values.astype(x.dtype), x[at].shape))
    return overwrite(x, at, values)


def _put_where(x, mask, values, accumulate):
    if values.size != 1:
        raise NotImplementedError("several values where a mask is True are as many as data say")
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    value = jnp.broadcast_to(values.reshape(()).astype(x.dtype), x.shape)
    return jnp.where(mask, x + value if accumulate else value, x)


def grid_of(dim, index):
    """`index` along an axis, and along the others each element's own place."""
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[dim] = index
    return tuple(jnp.broadcast_to(part, index.shape) for part in grid)


@aten("gather")
def gather(x, dim, index, sparse_grad=False):
    if not index.size:
        return jnp.zeros(index.shape, x.dtype)
    # What has no axis is given one.
    found = jnp.atleast_1d(x)[grid_of(dim, jnp.atleast_1d(index))]
    return found.reshape(index.shape)


def part_of(src, index):
    return src[tuple(slice(0, size) for size in index.shape)]


def _scatter(write, x, dim, index, src):
    index = jnp.atleast_1d(index)
    values = part_of(jnp.atleast_1d(src), index) if hasattr(src, "shape") else src
    return write(jnp.atleast_1d(x), grid_of(dim, index), values).reshape(x.shape)


def _add(x, at, values):
    return x.at[at].add(values)


@aten("take_along_dim")
def take_along_dim(x, indices, dim=None):
    if dim is None:
        return jnp.take(x.reshape(-1), indices.reshape(-1))
    return jnp.take_along_axis(x, indices, dim)


@aten("index_add")
def index_add(x, dim, index, source, alpha=1):
    if x.ndim == 0:
        return x + alpha * source.reshape(())
    return x.at[places(x, dim, index)].add(source * jnp.asarray(alpha, x.dtype))


@aten("index_copy")
def index_copy(x, dim, index, source):
    if x.ndim == 0:
        return source.reshape(())
    return overwrite(x, places(x, dim, index), source)


@aten("index_fill.int_Scalar index_fill.int_Tensor")
def index_fill(x, dim, index, value):
    """The gradient of a value is of each place once, however often it is named."""
    value = jnp.asarray(value).astype(x.dtype)
    if not x.ndim:
        return value
    axis = dim % x.ndim
    named = jnp.zeros(x.shape[axis], bool).at[index].set(True)
    named = named.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return jnp.where(jnp.broadcast_to(named, x.shape), value, x)


@aten("masked_scatter")
def masked_scatter(x, mask, source):
    """The elements of `source`, in their order, where the mask is True."""
    shape = np.broadcast_shapes(x.shape, mask.shape)
    x, mask = jnp.broadcast_to(x, shape), jnp.broadcast_to(mask, shape)
    order = jnp.cumsum(mask.reshape(-1).astype(jnp.int32)) - 1
    taken = jnp.take(source.reshape(-1), jnp.maximum(order, 0), mode="clip").reshape(shape)
    return jnp.where(mask, taken, x)


@aten("embedding")
def embedding(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    rows = take_rows(weight, indices, None if padding_idx < 0 else padding_idx)
    if not scale_grad_by_freq:
        return rows
    # The gradient of a row is divided by how often it was taken.
    times = jnp.zeros(weight.shape[0], weight.dtype).at[indices].add(1)[indices]
    still = lax.stop_gradient(rows)
    return still + (rows - still) / jnp.broadcast_to(times[..., None], rows.shape)


tabulate({
    "index.Tensor _unsafe_index.Tensor": lambda x, indices: x[_index(indices)],
    "index_select": lambda x, dim, index: jnp.take(x, index.reshape(-1), dim) if x.ndim else x,
    "take": lambda x, index: jnp.take(x.reshape(-1), index),
    "scatter.src": lambda x, dim, index, src: _scatter(overwrite, x, dim, index, src),
    "scatter.value": lambda x, dim, index, value: _scatter(overwrite, x, dim, index, value),
    "scatter_add": lambda x, dim, index, src: _scatter(_add, x, dim, index, src),
    "bincount": lambda x, weights=None, minlength=0, *, result: (
        jnp.bincount(as_integers(x), weights, minlength, length=result.shape[0])
    ),
})  # fmt: skip
