"""Where a run's arrays are placed: on one device, or sharded over a mesh of many."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxnet._utils.validation import check_devices, committed_arrays
from jaxnet.data.loader import Batching
from jaxnet.data.sources import Source
from jaxnet.train._specs import shard_specs
from jaxnet.train.state import TrainState

AXIS = "data"
"""The axis of a mesh that the examples of a batch, and the lanes of a sweep, are sharded over."""


@dataclass(frozen=True)
class SingleDevice:
    """Everything on one device: the one that an array was put on, else JAX's default.

    >>> SingleDevice().shared
    False
    """

    shared = False

    def host(self) -> Any:
        """A context in which initial weights are drawn, here none: they stay where they are."""
        return nullcontext()

    def place(
        self, state: TrainState, source: Any, batching: Batching
    ) -> tuple[TrainState, Source, Any]:
        """Everything on the one device that some of it was put on, if any, and this as the layout.

        A program is compiled for where its arguments are, and gives back arrays that were put
        there: without this the second chunk would compile again.

        Raises:
          ValueError: arrays were put on different devices.
        """
        arrays = () if source.streamed else source.arrays
        pair = arrays if isinstance(arrays, tuple) and len(arrays) == 2 else (arrays, ())
        check_devices(state=state, x=pair[0], y=pair[1])
        placed = committed_arrays((state, arrays))
        if placed and isinstance(placed[0].sharding, jax.sharding.SingleDeviceSharding):
            state, arrays = jax.device_put((state, arrays), placed[0].sharding)
        return state, source if source.streamed else source.replace(arrays), self

    def shard_batch(self, tree: Any, batch_size: int) -> Any:
        """The same."""
        return tree

    def replicate(self, tree: Any) -> Any:
        """The same."""
        return tree

    keep = gather = replicate
    """The same."""

    def find_shardings(self, state: Any) -> Callable[[int], Any]:
        """Where the state was put, if that is one device."""
        placed = [array.sharding for array in committed_arrays(state)]
        single = [s for s in placed if isinstance(s, jax.sharding.SingleDeviceSharding)]
        return lambda batch_size: single[0] if single else None


class OnMesh:
    """Everything on the devices of a mesh, of one process or of many.

    The examples of each batch are sharded over the mesh's axis "data"; a batch that does not
    divide by its size is computed in full on every device. Weights are replicated unless `specs`
    shards them. Masks and orders are drawn for the whole batch and then sharded: they do not depend
    on the mesh. Losses do, within the rounding of sums. Many processes, each of which calls
    `jax.distributed.initialize` first and passes the same arguments, train one run on a mesh over
    `jax.devices()`.

    Args:
      mesh: `jax.make_mesh((8,), ("data",))`, for example.
      specs: for weights too large for one device, a `jax.sharding.PartitionSpec` for all of them,
        or a mapping, nested as the weights are, of specs for some: `{"0": PartitionSpec("data")}`
        shards the outputs of the first layer. The optimizer's moments are placed as their weights.

    Raises:
      TypeError: `mesh` is no mesh.
      ValueError: nothing would be sharded; when a run begins, `specs` does not fit its weights.

    torch has `DistributedDataParallel` and `fully_shard`, for one process for each device.

    >>> OnMesh(jax.make_mesh((1,), ("data",))).mesh.axis_names
    ('data',)
    """

    def __init__(self, mesh: Mesh, specs: Any = None):
        self.mesh = as_mesh(mesh, specs)
        self.specs = specs

    @contextmanager
    def host(self) -> Iterator[None]:
        """A context that creates arrays in host memory: no single device need hold all of them."""
        try:
            host = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS names accelerators alone
            yield
            return
        with jax.default_device(host):
            yield

    def place(
        self, state: TrainState, source: Any, batching: Batching
    ) -> tuple[TrainState, Source, Any]:
        """The state by its specs; data sharded if every step takes all of them, else replicated.

        And the layout, which places a run's own arrays so.
        """
        shardings = _list_shardings(state, self.specs, self.mesh)
        layout = MeshLayout(self.mesh, tuple(s.spec for s in shardings))
        placed = map(put, jax.tree.leaves(state), shardings)
        state = jax.tree.unflatten(jax.tree.structure(state), placed)
        if not source.streamed:
            count = batching.num_examples
            where = layout.replicated if batching.batch_size else layout.shard(count)
            source = source.replace(jax.tree.map(lambda a: put(a, where), source.arrays))
        return state, source, layout


Placement = SingleDevice | OnMesh
"""Where a run is placed."""


@dataclass(frozen=True)
class MeshLayout:
    """A mesh, and how each array of a `TrainState` is placed on it, in the order of its leaves."""

    mesh: Mesh
    specs: tuple[PartitionSpec, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether other processes hold a part."""
        return any(d.process_index != jax.process_index() for d in self.mesh.devices.flat)

    def shard_batch(self, tree: Any, batch_size: int) -> Any:
        """Inside jit: arrays of so many examples sharded, or replicated where that is uneven."""

        def constrain(values):
            if values.ndim == 0 or len(values) != batch_size:
                return values
            return lax.with_sharding_constraint(values, self.shard(batch_size))

        return jax.tree.map(constrain, tree)

    def replicate(self, tree: Any) -> Any:
        """Inside jit: arrays that every device computes in full, as one device would."""
        return jax.tree.map(lambda a: lax.with_sharding_constraint(a, self.replicated), tree)

    def keep(self, state: TrainState) -> TrainState:
        """Inside jit: a state placed as the first one was."""
        leaves = [NamedSharding(self.mesh, spec) for spec in self.specs]
        shardings = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return jax.tree.map(lax.with_sharding_constraint, state, shardings)

    def find_shardings(self, state: Any) -> Callable[[int], Any]:
        """The examples of each step, sharded."""
        return lambda batch_size: self.shard(batch_size, axis=1)

    def gather(self, tree: Any) -> Any:
        """A batch from the host, replicated."""
        return jax.tree.map(lambda a: put(a, self.replicated), tree)

    @property
    def replicated(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def shard(self, count: int, axis: int = 0) -> NamedSharding:
        """So many examples: sharded where every device gets as many, else replicated."""
        parts = self.mesh.shape.get(AXIS, 1)
        even = AXIS in self.mesh.shape and count % parts == 0
        spec = PartitionSpec(*[None] * axis, AXIS) if even else PartitionSpec()
        return NamedSharding(self.mesh, spec)


def check_placement(placement: Any) -> Placement:
    """A placement, one device if None; reject all else."""
    if placement is None:
        return SingleDevice()
    if not isinstance(placement, Placement):
        raise TypeError(f"placement must be a jaxnet.train.OnMesh, not {placement!r:.60}")
    return placement


def as_mesh(mesh: Any, specs: Any = None) -> Mesh:
    """A mesh whose arrays XLA may place as it needs; reject all else, and one that shards nothing.

    `jax.make_mesh` gives axes of explicit sharding, for which every operation of a net would have
    to say how its result is sharded.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f'mesh must be a jax.sharding.Mesh, jax.make_mesh((8,), ("data",)) for example, '
            f"not {mesh!r:.60}"
        )
    if AXIS not in mesh.axis_names and specs is None:
        raise ValueError(
            f"mesh must have an axis {AXIS!r}, which rows are sharded over, or specs that shard "
            f"the weights over its axes {mesh.axis_names}"
        )
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)


def _list_shardings(state: TrainState, specs: Any, mesh: Mesh) -> list[NamedSharding]:
    """A sharding for each leaf: weights by specs, moments as their weights, the rest replicated.

    A moment is a leaf of the optimizer's state whose path ends like a weight's and whose shape is
    that weight's.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    if specs is None:
        return [whole] * len(jax.tree.leaves(state))
    weights = shard_specs(specs, state.params, mesh)
    shardings = jax.tree_util.tree_leaves_with_path(weights)
    shapes = map(np.shape, jax.tree.leaves(state.params))
    known = [(path, shape, s) for (path, s), shape in zip(shardings, shapes, strict=True)]
    # The longest path first: the moment of "1.0.weight" also ends as "0.weight" does.
    known.sort(key=lambda weight: -len(weight[0]))

    def find(path: Any, leaf: Any) -> NamedSharding:
        for end, shape, sharding in known:
            if path[len(path) - len(end) :] == end and np.shape(leaf) == shape:
                return sharding
        return whole

    placed = jax.tree.map(lambda leaf: whole, state)
    moments = jax.tree_util.tree_map_with_path(find, state.opt_state)
    return jax.tree.leaves(placed._replace(params=weights, opt_state=moments))


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that a tree's arrays are placed on, None where they are on one device or none."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and not isinstance(leaf, jax.core.Tracer):
            mesh = sharding.mesh
            return mesh if isinstance(mesh, Mesh) else None
    return None


def put(values: Any, sharding: Any) -> jax.Array:
    """An array where a sharding says; each process has all of it, or of a `jax.Array` its part."""
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        words = put(jax.random.key_data(values), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(values))
    elsewhere = isinstance(values, jax.Array) and not values.is_fully_addressable
    if elsewhere or sharding.is_fully_addressable:
        return jax.device_put(values, sharding)
    host = np.asarray(values)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
