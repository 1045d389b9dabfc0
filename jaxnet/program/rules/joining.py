"""Several arrays of one, and one of several."""

import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import result_type
from jaxnet.program.rules.shapes import select, slice_axis


@aten("split.Tensor split_copy.Tensor unsafe_split.Tensor")
def split(x, split_size, dim=0):
    """Parts of `split_size`, the last of what is left."""
    size = x.shape[dim]
    starts = range(0, size, split_size) if split_size else (0,)
    return tuple(slice_axis(x, dim, start, start + split_size) for start in starts or (0,))


@aten("split_with_sizes split.sizes split_with_sizes_copy unsafe_split_with_sizes")
def split_with_sizes(x, split_sizes, dim=0):
    ends = np.cumsum(split_sizes).tolist()
    pairs = zip(ends, split_sizes, strict=True)
    return tuple(slice_axis(x, dim, end - size, end) for end, size in pairs)


@aten("cat concat concatenate")
def cat(tensors, dim=0):
    """One after the other; an empty array of one axis is left out, whatever the others' shape."""
    dtype = result_type(*tensors)
    joined = [x.astype(dtype) for x in tensors if x.shape != (0,)] or [tensors[0].astype(dtype)]
    return jnp.concatenate(joined, dim)


@aten("stack")
def stack(tensors, dim=0):
    dtype = result_type(*tensors)
    return jnp.stack([x.astype(dtype) for x in tensors], dim)


@aten("meshgrid meshgrid.indexing")
def meshgrid(tensors, indexing="ij"):
    return tuple(jnp.meshgrid(*[x.reshape(-1) for x in tensors], indexing=indexing))


tabulate({
    "chunk unsafe_chunk": lambda x, chunks, dim=0: split(x, -(-x.shape[dim] // chunks), dim),
    "tensor_split.sections": lambda x, sections, dim=0: tuple(jnp.array_split(x, sections, dim)),
    "tensor_split.indices": lambda x, indices, dim=0: tuple(jnp.split(x, list(indices), dim)),
    "unbind.int unbind_copy.int": lambda x, dim=0: (
        tuple(select(x, dim, i) for i in range(x.shape[dim]))
    ),
    "hstack": lambda tensors: jnp.hstack(tensors),
    "vstack row_stack": lambda tensors: jnp.vstack(tensors),
    "dstack": lambda tensors: jnp.dstack(tensors),
    "column_stack": lambda tensors: jnp.column_stack(tensors),
    "broadcast_tensors": lambda tensors: tuple(jnp.broadcast_arrays(*tensors)),
})  # fmt: skip
