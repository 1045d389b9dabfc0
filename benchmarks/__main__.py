"""How fast, beside torch and the others: what is asked for, measured in one process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.compiling import compare_compiling
from benchmarks.contest import NAMES, compare_peers, make_task
from benchmarks.experiments import compare
from benchmarks.gpu_check import check_card
from benchmarks.growth import compare_growth
from benchmarks.lanes import compare_lanes
from benchmarks.memory import compare_memory
from benchmarks.peers.floor import measure_peaks
from benchmarks.processes import compare_processes
from benchmarks.saving import compare_saving, measure_bar
from benchmarks.scaling import compare_scaling
from benchmarks.scaling_tables import CAPTIONS as SCALING
from benchmarks.scaling_tables import list_scaling, say_scaling
from benchmarks.streams import compare_masks, compare_random_steps
from benchmarks.tables import CAPTIONS, WIDTH, list_tables, say_machine
from benchmarks.task import Missing
from benchmarks.timing import describe_machine
from jaxnet._utils.files import write_whole
from jaxnet.callbacks.progress import count
from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture.cli.options import QUIET
from jaxnet.lecture.experiments import EXPERIMENTS

PARTS = ("peers", "processes", "growth", "memory", "saving", "bar", "sweep", "masks", "steps")
PARTS += ("scaling", "streaming", "compiling")
QUICK = ("peers", "minibatch", "logits", "growth", "sweep")
QUICK_PEERS = ("torch, DataLoader", "torch, sliced by hand", "NumPy, backward by hand", NAMES[-1])
STREAM_ROUNDS = 10  # to each round of an experiment: these take milliseconds


@click.command()
@click.option(
    "--only",
    type=click.Choice([*EXPERIMENTS, *PARTS]),
    multiple=True,
    help="An experiment whole; peers: its steps against every other way; processes: from the "
    "shell; growth: time against sizes; memory; saving, bar: what checkpoints and "
    "the bar cost; sweep: many seeds at once; masks, steps: random numbers; scaling: 1 to 8 "
    "devices; streaming: rows that are read as they are needed; compiling: a second fit. "
    "Repeatable.",
)
@click.option("--peers", type=click.Choice(NAMES), multiple=True, help="Of the peers these alone.")
@click.option("--quick", is_flag=True, help="Under a minute: few parts, peers, rounds.")
@click.option("--rounds", type=click.IntRange(min=1), help="Of each part.  [default: 3, quick: 2]")
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), help="Draw them there."
)
@click.option(
    "--gpu-check", is_flag=True, help="This alone, on an NVIDIA card: masks, certificates, speed."
)
@QUIET
def main(
    only: tuple[str, ...],
    peers: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    root: Path | None,
    json_path: Path | None,
    figures: Path | None,
    gpu_check: bool,
    quiet: bool,
) -> None:
    """Measure jaxnet beside torch and others; every row shows first that it computes the same.

    All of it takes about thirteen minutes on two cores, `--quick` under one. Exit status 1 says
    that two sides disagree.

    \b
    Examples:
      python -m benchmarks --quick
      python -m benchmarks --only peers --figures figures
      python -m benchmarks --only minibatch --rounds 5 --json results.json
    """
    for folder in (json_path and json_path.parent, figures):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if gpu_check:
        if only or peers or quick or rounds or root or figures:
            raise click.UsageError("--gpu-check goes with --json and --quiet alone")
        sys.exit(check_card(json_path, console, quiet=quiet))
    rounds = rounds or (2 if quick else 3)
    chosen = list(only or (["peers"] if peers else QUICK if quick else [*PARTS, *EXPERIMENTS]))
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "rounds": rounds,
        "peaks": _find_peaks(),
    }
    names = list(peers or (QUICK_PEERS if quick else NAMES))
    chosen = list(dict.fromkeys(chosen))
    with count("benchmarks", len(chosen), quiet=quiet) as tell:
        for done, name in enumerate(chosen):
            tell(done, name)
            part, rows = _measure(name, rounds, names, quick, root)
            results.setdefault(part, []).extend(rows)
            if json_path is not None:  # after each part: a later one that breaks loses none
                write_whole(json_path, json.dumps(results, indent=1) + "\n")
        tell(len(chosen), "measured")
    _show(results, console)
    if figures is not None:
        from benchmarks.figures import draw_results

        for path in draw_results(results, figures):
            console.print(f"drew {path}", highlight=False, soft_wrap=True)
    if not all(row["agree"] is not False for rows in _list_rows(results) for row in rows):
        sys.exit(1)


def _measure(
    name: str, rounds: int, peers: list[str], quick: bool, root: Path | None
) -> tuple[str, list[dict[str, Any]]]:
    """A part's name in the results, and its rows."""
    train, test = load_mnist((0, 1), root)
    task = make_task(train)
    measures: dict[str, tuple[str, Callable[[], list[dict[str, Any]]]]] = {
        "peers": ("peers", lambda: compare_peers(task, rounds + 2, peers)),
        "processes": ("processes", lambda: compare_processes(rounds, root)),
        "growth": ("growth", lambda: compare_growth(task.x, task.y, rounds + 2, quick=quick)),
        "memory": ("memory", lambda: compare_memory(task)),
        "saving": ("saving", lambda: compare_saving(train, rounds)),
        "bar": ("bar", lambda: measure_bar(rounds)),
        "masks": ("streams", lambda: compare_masks(STREAM_ROUNDS * rounds)),
        "steps": ("streams", lambda: compare_random_steps(train, STREAM_ROUNDS * rounds)),
        "sweep": ("sweep", lambda: compare_lanes((train, test), rounds)),
        "scaling": ("scaling", lambda: compare_scaling(rounds + 2)),
        "compiling": ("compiling", lambda: compare_compiling(rounds)),
        "streaming": ("streaming", lambda: compare_streaming(train, rounds + 2)),
    }
    if name in measures:
        part, measure = measures[name]
        return part, measure()
    return "experiments", [compare(name, rounds, root)]


def compare_streaming(train: Dataset, rounds: int) -> list[dict[str, Any]]:
    """`benchmarks.streaming`'s, imported when it is asked for: it alone needs Grain."""
    from benchmarks.streaming import compare_streaming

    return compare_streaming(train, rounds)


def _find_peaks() -> dict[str, Any] | None:
    try:
        return measure_peaks()._asdict()
    except Missing:
        return None


def _list_rows(results: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [value for value in results.values() if isinstance(value, list)]


def _show(results: dict[str, Any], console: Console) -> None:
    console.print(say_machine(results), highlight=False)
    captions = {**CAPTIONS, **SCALING}
    for part, table in {**list_tables(results), **list_scaling(results)}.items():
        console.print(f"\n{captions[part]}", highlight=False)
        console.print(table)
    for sentence in say_scaling(results).values():
        console.print(f"\n{sentence}", highlight=False)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
