"""How the weights of one net are sharded, from specs that a user wrote."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnet._utils.validation import nearest


def shard_specs(specs: Any, params: Any, mesh: Mesh, path: tuple[str, ...] = ()) -> Any:
    """A sharding for each of the weights, from one spec for all, or a nested mapping of some.

    A spec in the mapping holds for the tensor of that name, or for all tensors below it; a tensor
    that is not named is replicated. A ValueError where a name is none of the weights', or a spec
    does not fit its tensor.
    """
    place = ".".join(map(str, path))
    if isinstance(specs, PartitionSpec):
        return jax.tree_util.tree_map_with_path(
            lambda key, leaf: _fit_spec(
                specs, leaf, mesh, jax.tree_util.keystr(key, simple=True, separator="."), place
            ),
            params,
        )
    if not isinstance(specs, Mapping):
        raise TypeError(
            "specs must be a PartitionSpec, or a mapping of them by the names of the weights, "
            f"not {specs!r:.60}" + (f" at {place}" if place else "")
        )
    if not isinstance(params, Mapping):
        raise ValueError(f"specs must have a PartitionSpec for {place}, which is a tensor")
    for name in specs:
        if name not in params:
            whole = f"{place}.{name}" if place else name
            raise ValueError(
                f"specs must name weights of the net, not {whole!r}; there are "
                f"{', '.join(map(str, params))}{nearest(name, params)}"
            )
    return {
        name: shard_specs(specs.get(name, PartitionSpec()), below, mesh, (*path, name))
        for name, below in params.items()
    }


def _fit_spec(spec: PartitionSpec, leaf: Any, mesh: Mesh, key: str, place: str) -> NamedSharding:
    name = ".".join(part for part in (place, key) if part)
    shape = np.shape(leaf)
    if len(spec) > len(shape):
        raise ValueError(f"specs: {spec} has more axes than {name}, whose shape is {shape}")
    for size, axes in zip(shape, spec, strict=False):
        parts = 1
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            if axis not in mesh.shape:
                raise ValueError(
                    f"specs: {spec} of {name} names the axis {axis!r}, but mesh has "
                    f"{', '.join(map(repr, mesh.axis_names))}{nearest(axis, mesh.axis_names)}"
                )
            parts *= mesh.shape[axis]
        if size % parts:
            raise ValueError(
                f"specs: {spec} shards {name}, whose shape is {shape}, into {parts} parts of "
                f"{size}, which do not come out even"
            )
    return NamedSharding(mesh, spec)
