"""Where a run's arrays lie on a mesh of devices: rows spread over it, weights whole or in parts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnet.checks import nearest
from jaxnet.state import TrainState

AXIS = "data"
"""The axis of a mesh that the rows of a batch, and the lanes of a sweep, are spread over."""


@dataclass(frozen=True)
class Layout:
    """A mesh, and how each array of a `TrainState` lies on it, in the order of its leaves."""

    mesh: Mesh
    specs: tuple[PartitionSpec, ...] = ()

    def shard_rows(self, tree: Any, rows: int, axis: int = 0) -> Any:
        """Inside jit: arrays of so many rows spread over the devices, whole where that is uneven.

        What has another number of rows there is left as it is.
        """

        def constrain(values):
            if values.ndim <= axis or values.shape[axis] != rows:
                return values
            return lax.with_sharding_constraint(values, self.rows(rows, axis))

        return jax.tree.map(constrain, tree)

    def keep_whole(self, tree: Any) -> Any:
        """Inside jit: every device computes these as one would, whatever becomes of them."""
        return jax.tree.map(lambda a: lax.with_sharding_constraint(a, self.whole), tree)

    def keep_state(self, state: TrainState) -> TrainState:
        """Inside jit: a state that lies as the first one did."""
        return jax.tree.map(lax.with_sharding_constraint, state, self.shardings(state))

    def shardings(self, state: TrainState) -> TrainState:
        """The sharding of each of the state's arrays."""
        leaves = [NamedSharding(self.mesh, spec) for spec in self.specs]
        return jax.tree.unflatten(jax.tree.structure(state), leaves)

    @property
    def whole(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows(self, rows: int, axis: int = 0) -> NamedSharding:
        """The sharding of so many rows: spread where every device gets as many, else whole.

        >>> tuple(Layout(as_mesh(jax.make_mesh((1,), ("data",)))).rows(16).spec)
        ('data',)
        """
        parts = self.mesh.shape.get(AXIS, 1)
        spread = AXIS in self.mesh.shape and rows % parts == 0
        spec = PartitionSpec(*[None] * axis, AXIS) if spread else PartitionSpec()
        return NamedSharding(self.mesh, spec)


def as_mesh(mesh: Any, specs: Any = None) -> Mesh:
    """A mesh whose arrays XLA may place as it needs; refuse what is none, or shards nothing.

    `jax.make_mesh` gives axes of explicit sharding, for which every operation of a net would have
    to say where its result lies.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f'mesh must be a jax.sharding.Mesh, jax.make_mesh((8,), ("data",)) for example, '
            f"not {mesh!r:.60}"
        )
    if AXIS not in mesh.axis_names and specs is None:
        raise ValueError(
            f"mesh must have an axis {AXIS!r}, which rows are spread over, or specs that spread "
            f"the weights over its axes {mesh.axis_names}"
        )
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


@contextmanager
def on_host() -> Iterator[None]:
    """Arrays that are made in here are the host's: no one device need hold what is to be spread."""
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names accelerators alone
        yield
        return
    with jax.default_device(host):
        yield


def put(values: Any, sharding: Any) -> jax.Array:
    """An array where a sharding says, of which each process has all or, if it is a `jax.Array`,
    its own part.
    """
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        words = put(jax.random.key_data(values), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(values))
    elsewhere = isinstance(values, jax.Array) and not values.is_fully_addressable
    if elsewhere or sharding.is_fully_addressable:
        return jax.device_put(values, sharding)
    host = np.asarray(values)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def place_state(
    state: TrainState, optimizer: Any, mesh: Mesh, specs: Any
) -> tuple[TrainState, Layout]:
    """A state laid out on a mesh: its weights by their specs, the optimizer's moments as these.

    Everything else is whole on every device.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if specs is None:
        leaves = jax.tree.leaves(state)
        placed = jax.tree.map(lambda leaf: put(leaf, whole), state)
        return placed, Layout(mesh, (PartitionSpec(),) * len(leaves))
    shardings = jax.tree.leaves(spread_specs(specs, state.params, mesh))
    shardings = jax.tree.unflatten(jax.tree.structure(state.params), shardings)
    params = jax.tree.map(put, state.params, shardings)
    like = optimizer.init(params)

    def follow(leaf, like):
        placed = getattr(like, "sharding", whole)
        return put(leaf, placed if getattr(placed, "mesh", None) == mesh else whole)

    rest = state._replace(params=(), opt_state=())
    placed = jax.tree.map(lambda leaf: put(leaf, whole), rest)._replace(
        params=params, opt_state=jax.tree.map(follow, state.opt_state, like)
    )
    return placed, Layout(mesh, tuple(leaf.sharding.spec for leaf in jax.tree.leaves(placed)))


def spread_specs(specs: Any, params: Any, mesh: Mesh) -> Any:
    """A sharding for each of the weights, from one spec for all, or a nested mapping of some.

    A spec in the mapping holds for the tensor of that name, or for all tensors below it; a tensor
    that is not named is whole on every device.

    Raises:
      ValueError: a name is none of the weights', or a spec does not fit its tensor: an axis that
        the mesh has not, more axes than the tensor has, a size that does not divide.
    """
    return _spread(specs, params, mesh, ())


def _spread(specs: Any, params: Any, mesh: Mesh, path: tuple[str, ...]) -> Any:
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
        name: _spread(specs.get(name, PartitionSpec()), below, mesh, (*path, name))
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
                f"specs: {spec} cuts {name}, whose shape is {shape}, into {parts} parts of "
                f"{size}, which do not come out even"
            )
    return NamedSharding(mesh, spec)


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that a tree's arrays lie on, None where they lie on one device or nowhere yet."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and not isinstance(leaf, jax.core.Tracer):
            mesh = sharding.mesh
            return mesh if isinstance(mesh, Mesh) else None
    return None
