"""Many runs at once, one for each seed and each point of a grid."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen
import jax
import optax

from jaxnet._utils.differences import check_same
from jaxnet._utils.processes import any_process, barrier, is_primary
from jaxnet._utils.validation import check_count
from jaxnet.callbacks.sigint import defer_sigint
from jaxnet.data.loader import make_loader
from jaxnet.data.sources import read_all
from jaxnet.precision import Precision, cast_array, check_precision, use
from jaxnet.sweep._folder import Folder
from jaxnet.sweep._programs import Outcome, find_group, find_shapes, run_groups
from jaxnet.sweep._task import Task, describe_sweep, make_task, read_test
from jaxnet.sweep.lanes import Grid, Lane, Program, group_lanes, list_lanes
from jaxnet.sweep.result import Row, Sweep, collect, make_row, take
from jaxnet.train.evaluate import Metrics
from jaxnet.train.sharding import as_mesh

_UNDER_WAY = "Ctrl-C: finishing the runs that are under way; a second one ends at once"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what was under way is done, and in the folder where there is one."""


class Progress(NamedTuple):
    """What a hook is shown when a group is done."""

    done: int
    """Lanes done, with those that were in the folder before."""
    lanes: int
    """Lanes asked for."""
    rows: list[Row]
    """The table's rows of the lanes that came with this group."""
    failure: str | None = None
    """Why the folder lacks some of what is done, if it does."""


def run_sweep(
    net: flax.linen.Module | Callable[..., flax.linen.Module],
    data: Any,
    *,
    loss: Callable,
    optimizer: Callable[..., optax.GradientTransformation] | optax.GradientTransformation,
    epochs: int,
    seeds: Iterable[int],
    grid: Grid | None = None,
    batch_size: int | None = None,
    shuffle: bool = False,
    report_every: int | None = None,
    report_loader: bool = False,
    metrics: Metrics | None = None,
    test: Any = None,
    precision: Precision = "parity",
    memory: int | None = None,
    directory: Any = None,
    resume: bool = False,
    hooks: Sequence[Callable[[Progress], Any]] = (),
    mesh: jax.sharding.Mesh | None = None,
) -> Sweep:
    """Train a net from every seed at every point of a grid; each run is a lane of one program.

    With $n$ seeds and the grid's points $q_0, q_1, \\dots$, lane $k$ is the run
    $\\mathrm{fit}(\\mathrm{seed} = s_{k \\bmod n},\\ q_{\\lfloor k / n \\rfloor})$: its weights,
    masks and orders are exactly that run's, and so torch's from that seed; its floats agree with
    it within rounding. Whole runs, reports and all, are one function of the seed's generator, the
    initial weights and the numbers of the grid, mapped over lanes (`jax.vmap`, or one lane after
    another where that is faster) and compiled once for each group of lanes.

    Args:
      net: as for `fit`, a net of `jaxnet.nn`; or a function `net(**hyper)` that makes one.
      data: `(x, y)` or a `DataLoader`, as for `fit`; here all rows are held in memory, those of a
        memory-mapped array or a `MapDataset` too.
      loss: `loss(outputs, y)`, a scalar.
      optimizer: a function of keywords that makes an optax optimizer, `jaxnet.optim.sgd` or your
        own; or an optimizer, where the grid does not vary it.
      epochs: passes over the rows, of at most 2**31 - 1 steps in all.
      seeds: integers as torch takes them, `range(256)`, all different, at most a million.
      grid: `{name: values}`. A name that is an argument of `optimizer` goes there, else one that
        is an argument of the function `net` there, and `p` to every Dropout in the net. A value
        that the optimizer only computes with (`lr`) is an input of the program, a float32, so that
        what is computed of it (1 - b2, say) is rounded there and not in float64 before; of any
        other (`p`, and what the optimizer checks or branches on) each value has a program of its
        own, which compiles anew.
      batch_size, shuffle, report_every, report_loader, metrics, precision: as for `fit`; metrics
        do not need reports here, as they are also taken at the end.
      test: rows `(x, y)` for the metrics at the end, beside the training rows.
      memory: bytes that the groups under way may take together; half of what is free if None.
        How many lanes fit is found from what XLA says that the compiled program needs.
      directory: a folder, new or empty, where each group is written when it is done: `lanes.csv`,
        `sweep.json` that says what sweep it is, and the states. Every file is complete. What
        cannot be written (a full disk) is a warning, and a `Progress` says so to the hooks.
      resume: resume the sweep in `directory`; its lanes are not computed again. Another
        sweep's folder is rejected: other seeds, data, names, or other computations by them.
      hooks: called with a `Progress` after each group, and once for what `directory` had.
      mesh: `jax.make_mesh((8,), ("data",))`, devices that the lanes are sharded over: each computes
        its own, and none waits for another. Many processes call `jax.distributed.initialize` first
        and all see `directory`, where process 0 writes.

    Returns:
      A `Sweep`: the table, the losses, the reports, the last states. A lane whose numbers become
      nan shows nan and disturbs no other.

    Raises:
      ValueError, TypeError: an argument is out of range, rows hold nan or an infinity, a key of the
        grid is nobody's argument, one lane needs more than `memory`, `directory` holds another
        sweep.
      FileExistsError: `directory` holds files, and `resume` is not given.
      Interrupted: Ctrl-C was pressed; no other group was begun. A second one ends at once.

    torch has nothing like it; there a loop over seeds runs one after another.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> x = jnp.array([[0.0], [1.0]])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> sweep = run_sweep(net, (x, 2 * x), loss=loss, optimizer=jaxnet.optim.sgd, epochs=200,
    ...                   seeds=range(2), grid={"lr": [0.5, 0.0]})
    >>> [(row["lane"], row["seed"], row["lr"], round(row["loss"], 3)) for row in sweep.table]
    [(0, 0, 0.5, 0.0), (1, 1, 0.5, 0.0), (2, 0, 0.0, 1.226), (3, 1, 0.0, 1.952)]
    """
    begin = time.perf_counter()
    mesh = None if mesh is None else as_mesh(mesh)
    lanes = list_lanes(seeds, grid)
    loader = make_loader(data, batch_size, shuffle)
    test = None if test is None else read_test(test)
    rows = read_all(loader.data).arrays, test
    reports = report_every, report_loader, metrics
    task = make_task(loader, rows, mesh, loss, epochs, reports, check_precision(precision))
    if memory is not None:
        check_count("memory", memory)
    if resume and directory is None:
        raise ValueError("resume=True needs directory: the folder of the sweep to resume")
    programs = group_lanes(lanes, net, optimizer)
    with use(precision), ExitStack() as ends:
        arrays = jax.tree.map(partial(cast_array, name=precision), rows)
        counts = (len(arrays[0][0]), len(arrays[1][0]) if test else 0)
        about = {}
        if directory is not None or (mesh is not None and jax.process_count() > 1):
            check_same(about := describe_sweep(task, rows, optimizer, lanes, programs))
        results = _Results(len(lanes), counts, hooks)
        if directory is not None:
            results.folder = ends.enter_context(Folder(Path(directory), about))
            results.read(lanes, find_shapes(programs, task, arrays), resume)
        sizes, ran = _run_programs(programs, task, arrays, (memory, mesh), results)
        outcomes = results.outcomes
        if len(outcomes) < len(lanes):
            raise Interrupted(f"stopped after {len(outcomes)} of {len(lanes)} runs")
    seconds = (time.perf_counter() - begin - ran, ran)
    return collect(lanes, outcomes, counts, report_every, seconds, sizes)


@dataclass
class _Results:
    """What the lanes have left, in the folder too, where there is one, and told to the hooks."""

    lanes: int
    counts: tuple[int, int]
    hooks: Any
    folder: Folder | None = None
    failure: str | None = None
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def read(self, lanes: Sequence[Lane], shapes: dict[int, Outcome], resume: bool) -> None:
        """Take what the folder has; nothing is written before all have read, and found the same."""
        assert self.folder is not None
        self.outcomes = self.folder.read(shapes, resume)
        check_same({"directory": sorted(self.outcomes)})
        barrier("jaxnet sweep")
        if self.outcomes:
            self.tell([lane for lane in lanes if lane.number in self.outcomes])

    def add(self, done: Sequence[Lane], outcome: Outcome) -> None:
        """Keep what a group has left."""
        self._save(lambda folder: folder.write(done, outcome))
        self.outcomes |= {lane.number: take(outcome, i) for i, lane in enumerate(done)}
        self.tell(done)

    def tell(self, new: Sequence[Lane]) -> None:
        """Write the rows of lanes that came, and show them."""
        rows = [make_row(lane, self.outcomes[lane.number], self.counts) for lane in new]
        if rows:
            self._save(lambda folder: folder.write_table(rows))
        for hook in self.hooks:
            hook(Progress(len(self.outcomes), self.lanes, rows, self.failure))

    def _save(self, write: Callable[[Folder], None]) -> None:
        """Write into the folder, if any. What a disk does not take is a warning: hours go on."""
        try:
            if self.folder is not None and is_primary():
                write(self.folder)
        except OSError as error:
            self.failure = f"not all of the sweep could be saved: {error}"
            warnings.warn(self.failure, stacklevel=2)


def _run_programs(
    programs: list[Program], task: Task, arrays: Any, limits: tuple, results: _Results
) -> tuple[tuple[int, ...], float]:
    """Compute the lanes that are left; the sizes of the groups, and the seconds that they ran."""
    sizes, ran = [], 0.0
    with defer_sigint(_UNDER_WAY) as pressed_here:

        def was_pressed() -> bool:
            return any_process(pressed_here())

        for program in programs:
            left = tuple(lane for lane in program.lanes if lane.number not in results.outcomes)
            if not left or was_pressed():
                continue
            program = program._replace(lanes=left)
            group, workers = find_group(program, task, arrays, *limits)
            sizes.append(group.size)
            started = time.perf_counter()
            for done, outcome in run_groups(program, task, group, workers, was_pressed):
                results.add(done, outcome)
            ran += time.perf_counter() - started
    return tuple(sizes), ran
