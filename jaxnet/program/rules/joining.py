"""Several arrays of one, and one of several."""

import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import rule
from jaxnet.program.rules._types import result_type
from jaxnet.program.rules.shapes import select, slice_axis


@rule("aten.split.Tensor", "aten.split_copy.Tensor")
def split(x, split_size, dim=0):
    """Parts of `split_size`, the last of what is left."""
    size = x.shape[dim]
    starts = range(0, size, split_size) if split_size else (0,)
    return tuple(slice_axis(x, dim, start, start + split_size) for start in starts or (0,))


@rule("aten.split_with_sizes.default", "aten.split.sizes", "aten.split_with_sizes_copy.default")
def split_with_sizes(x, split_sizes, dim=0):
    ends = np.cumsum(split_sizes).tolist()
    pairs = zip(ends, split_sizes, strict=True)
    return tuple(slice_axis(x, dim, end - size, end) for end, size in pairs)


@rule("aten.chunk.default")
def chunk(x, chunks, dim=0):
    return split(x, -(-x.shape[dim] // chunks), dim)


@rule("aten.tensor_split.sections")
def tensor_split(x, sections, dim=0):
    return tuple(jnp.array_split(x, sections, dim))


@rule("aten.tensor_split.indices")
def tensor_split_indices(x, indices, dim=0):
    return tuple(jnp.split(x, list(indices), dim))


@rule("aten.unbind.int", "aten.unbind_copy.int")
def unbind(x, dim=0):
    return tuple(select(x, dim, i) for i in range(x.shape[dim]))


@rule("aten.cat.default")
def cat(tensors, dim=0):
    """One after the other; an empty array of one axis is left out, whatever the others' shape."""
    dtype = result_type(*tensors)
    joined = [x.astype(dtype) for x in tensors if x.shape != (0,)] or [tensors[0].astype(dtype)]
    return jnp.concatenate(joined, dim)


@rule("aten.stack.default")
def stack(tensors, dim=0):
    dtype = result_type(*tensors)
    return jnp.stack([x.astype(dtype) for x in tensors], dim)


for _name in ("hstack", "vstack", "dstack", "column_stack"):
    _function = getattr(jnp, _name)
    rule(f"aten.{_name}.default")(lambda tensors, f=_function: f(tensors))


@rule("aten.meshgrid.default")
def meshgrid(tensors):
    return tuple(jnp.meshgrid(*[x.reshape(-1) for x in tensors], indexing="ij"))


@rule("aten.meshgrid.indexing")
def meshgrid_indexing(tensors, indexing="ij"):
    return tuple(jnp.meshgrid(*[x.reshape(-1) for x in tensors], indexing=indexing))


@rule("aten.broadcast_tensors.default")
def broadcast_tensors(tensors):
    return tuple(jnp.broadcast_arrays(*tensors))
