"""One program for many runs: its lanes, how many of them fit in memory, and who computes them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnet import nn
from jaxnet._utils.processes import broadcast_from_primary, fetch
from jaxnet.cache import is_own, memoize
from jaxnet.data.loader import Batching, start_epoch
from jaxnet.precision import Precision, cast_array, use
from jaxnet.random import manual_seed
from jaxnet.sweep._task import Task
from jaxnet.sweep.lanes import Lane, Program
from jaxnet.train.epoch import Program as TrainProgram
from jaxnet.train.epoch import make_epochs
from jaxnet.train.evaluate import make_measure
from jaxnet.train.sharding import AXIS, MeshLayout, SingleDevice, put
from jaxnet.train.state import TrainState
from jaxnet.train.step import TrainStep, make_draws, start

SHARE = 0.5
"""Of the memory that is free, what the groups under way may take together."""
_UNKNOWN = 2**31  # bytes, where nothing says how many are free
_GROUP = 8  # lanes of a group where nothing is gained by more: results come as they are done
_GROUP_VMAPPED = 256


class Outcome(NamedTuple):
    """What a lane leaves, or many lanes stacked."""

    state: TrainState
    losses: Any
    """Of every step, (steps,)."""
    reports: dict[str, Any]
    """Of each metric at every report, (reports,)."""
    train: dict[str, Any]
    """Of each metric on the training rows at the end: the sum where it counts, else the mean."""
    test: dict[str, Any]
    """The same on the test rows."""


def make_lane(net: Any, make_optimizer: Callable, task: Task) -> Callable[..., Outcome]:
    """`lane((generator, variables, numbers), data, test)`: a whole solo run, its reports and all.

    Pure, of arrays alone: `jax.vmap` over the first argument makes many runs of it.
    """
    batching, epochs = task.batching, task.epochs
    every = epochs if task.report_every is None else min(task.report_every, epochs)
    reports = 0 if task.report_every is None else epochs // task.report_every

    def measure(state, data):
        return make_measure(net, None, task.metrics)(state.params, state.model_state, *data)

    def lane(drawn, data, test):
        generator, variables, numbers = drawn
        optimizer = make_optimizer(**numbers)
        own = jax.tree.map(jnp.asarray, task.generator)
        state = start(optimizer, variables, generator)._replace(loader_generator=own)
        # Unremembered: the optimizer holds this trace's numbers.
        step, draws = TrainStep(net, task.loss, optimizer), make_draws(net, data[0])
        train = make_epochs(TrainProgram(step, draws, SingleDevice()), batching, every)

        def chunk(state, _):
            state, losses = train(state, data, every)
            values = measure(state, data)
            if task.report_loader:
                loader = Batching(batching.num_examples, batching.batch_size)
                state = state._replace(generator=start_epoch(state.generator, loader)[0])
            return state, (losses.reshape(-1), values)

        state, (losses, values) = lax.scan(chunk, state, length=reports)
        losses = losses.reshape(-1)
        if left := epochs - reports * every:
            state, rest = train(state, data, left)
            losses = jnp.append(losses, rest[:left])
        # A report at the end has measured the training rows already.
        ended = reports > 0 and not left
        on_train = jax.tree.map(lambda v: v[-1], values) if ended else measure(state, data)
        on_test = {} if test is None else measure(state, test)
        return Outcome(state, losses, values, on_train, on_test)

    return lane


class Group(NamedTuple):
    """A compiled program of so many lanes, and what it needs."""

    size: int
    run: Callable[[Any], Outcome]
    """Of the lanes' generators, variables and numbers, stacked; the rows are its own."""
    bytes: int
    """On a device."""


def draw(lanes: Sequence[Lane], program: Program, precision: Precision) -> Any:
    """The lanes' generators, initial variables and numbers, stacked."""
    drawn = [nn.init(program.net, manual_seed(lane.seed)) for lane in lanes]
    numbers = {
        # Of the type that all lanes have room in: 1 beside 0.02 is 1.0.
        name: np.array([lane.point[name] for lane in lanes]).astype(
            np.array([lane.point[name] for lane in program.lanes]).dtype
        )
        for name in program.traced
    }
    generators, variables = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    cast = partial(jax.tree.map, partial(cast_array, name=precision))
    return generators, cast(variables), cast(numbers)


def find_group(
    program: Program,
    task: Task,
    arrays: Any,
    budget: int | None,
    mesh: Mesh | None,
) -> tuple[Group, int]:
    """A program of as many lanes as fit in memory, compiled, and how many of it run at once.

    One lane is compiled, and what XLA says that it needs is divided into the memory there is. On a
    mesh every device has as many lanes of a group, and one group is computed at a time.
    """
    budget = find_budget() if budget is None else budget
    if mesh is None:
        parts, workers = 1, _count_workers()
    else:
        parts, workers = mesh.shape[AXIS], 1
        budget = broadcast_from_primary(budget)
        if mesh.devices.flat[0].platform == "cpu":
            budget //= jax.local_device_count()  # they share it
        whole = MeshLayout(mesh).replicated
        arrays = jax.tree.map(lambda values: put(values, whole), arrays)
    one = _compile(program, task, arrays, 1, 1, mesh)
    if one.bytes > budget:
        raise ValueError(
            f"memory is {budget} bytes, but one lane needs {one.bytes}: a larger memory, fewer "
            "rows or a smaller net would do"
        )
    # Each lane is counted with the rows that all of them read: a group needs less, never more.
    workers = max(1, min(workers, budget // max(1, one.bytes)))
    width, most = _find_width()
    most = max(1, min(most, budget // max(1, one.bytes * workers)))
    count = -(-len(program.lanes) // parts)
    turns = -(-count // (most * workers))
    size = -(-count // (turns * workers))  # groups as even as can be, a core each
    if size == 1:
        return one, workers
    return _compile(program, task, arrays, size, min(width, size), mesh), workers


def _compile(
    program: Program, task: Task, arrays: Any, size: int, width: int, mesh: Mesh | None
) -> Group:
    """A group of `size` lanes, on a mesh of so many on every device."""
    lanes = size if mesh is None else size * mesh.shape[AXIS]
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(AXIS))

    def stack(values):
        return jax.ShapeDtypeStruct((lanes, *values.shape[1:]), values.dtype, sharding=sharding)

    def shape(values):
        place = values.sharding if isinstance(values, jax.Array) else None
        return jax.ShapeDtypeStruct(values.shape, values.dtype, sharding=place)

    drawn = jax.tree.map(stack, draw(program.lanes[:1], program, task.precision))
    leaves, tree = jax.tree.flatten((drawn, *jax.tree.map(shape, arrays)))
    compile_lanes: Any = _compile_lanes
    if not all(map(is_own, [task.loss, *dict(task.metrics).values()])):
        compile_lanes = compile_lanes.__wrapped__
    settings = tuple((name, repr(getattr(jax.config, name, None))) for name in jax.config.values)
    what = program.net, program.make_optimizer, task
    compiled = compile_lanes(what, size, width, mesh, tree, tuple(leaves), settings)
    needs = compiled.memory_analysis()
    total = 0
    if needs is not None:
        total = needs.temp_size_in_bytes + needs.argument_size_in_bytes
        total += needs.output_size_in_bytes - needs.alias_size_in_bytes

    def run(drawn):
        if sharding is not None:
            drawn = jax.tree.map(lambda values: put(values, sharding), drawn)
        return compiled(drawn, *arrays)

    return Group(lanes, run, total)


@memoize
def _compile_lanes(
    what: tuple[Any, Callable, Task],
    size: int,
    width: int,
    mesh: Mesh | None,
    tree: Any,
    leaves: tuple[Any, ...],
    settings: tuple[tuple[str, str], ...],
) -> Any:
    """The compiled program of `size` lanes; `settings` are JAX's, which decide what is traced."""
    del settings
    lane = make_lane(*what)

    def group(drawn, data, test):
        def one(drawn):
            return lane(drawn, data, test)

        if width >= size:
            return jax.vmap(one)(drawn)
        return lax.map(one, drawn, batch_size=width if width > 1 else None)

    if mesh is not None:
        # Each device maps over its own lanes, as it would alone.
        spread, whole = PartitionSpec(AXIS), PartitionSpec()
        specs: dict[str, Any] = {"in_specs": (spread, whole, whole), "out_specs": spread}
        group = jax.shard_map(group, mesh=mesh, check_vma=False, **specs)
    return jax.jit(group).lower(*jax.tree.unflatten(tree, leaves)).compile()


def _find_width() -> tuple[int, int]:
    """Lanes side by side (vmap), and lanes of a group, where memory sets no limit.

    On an accelerator, all. On a CPU a lane's weights stay in a core's cache, which they share with
    no other lane's: lanes follow one another, as many at a time as there are cores.
    """
    if jax.default_backend() != "cpu":
        return _GROUP_VMAPPED, _GROUP_VMAPPED
    return 1, _GROUP


def _count_workers() -> int:
    """Groups computed at once: a core each on a CPU, one on an accelerator."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_budget() -> int:
    """`SHARE` of the bytes that are free on the device: JAX's default, or the machine's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(SHARE * 1024 * int(fields["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):  # not Linux
        return _UNKNOWN


def run_groups(
    program: Program, task: Task, group: Group, workers: int, was_pressed: Callable[[], bool]
) -> Iterator[tuple[tuple[Lane, ...], Outcome]]:
    """Each group's lanes and what they left, as groups finish; after Ctrl-C no other begins."""
    lanes = program.lanes

    def compute(begin: int) -> tuple[tuple[Lane, ...], Outcome]:
        real = lanes[begin : begin + group.size]
        filled = real + real[-1:] * (group.size - len(real))
        # A thread of its own has JAX's settings of its own, and its programs run beside others'.
        with use(task.precision):
            outcome = group.run(draw(filled, program, task.precision))
            whole = jax.tree.map(fetch, jax.block_until_ready(outcome))
        return real, jax.tree.map(lambda values: values[: len(real)], whole)

    begins = iter(range(0, len(lanes), group.size))
    if jax.process_count() > 1:  # all of them compute the same in the same order: no threads
        for begin in begins:
            yield compute(begin)
            if was_pressed():
                return
        return
    pool = ThreadPoolExecutor(workers)
    try:
        under_way = {pool.submit(compute, begin) for begin in islice(begins, workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            if not was_pressed():
                under_way |= {pool.submit(compute, begin) for begin in islice(begins, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def find_shapes(programs: Sequence[Program], task: Task, arrays: Any) -> dict[int, Outcome]:
    """For each lane the shapes and types of what it leaves."""
    shapes = {}
    for program in programs:
        drawn = jax.tree.map(lambda a: a[0], draw(program.lanes[:1], program, task.precision))
        lane = make_lane(program.net, program.make_optimizer, task)
        left = jax.eval_shape(lane, drawn, *arrays)
        shapes |= {lane.number: left for lane in program.lanes}
    return shapes
