"""How fast, beside torch and the others: what is asked for, measured in one process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.contest import NAMES, compare_peers, make_task
from benchmarks.experiments import compare
from benchmarks.gpu_check import check_card
from benchmarks.growth import compare_growth
from benchmarks.memory import compare_memory
from benchmarks.peers.floor import measure_peak
from benchmarks.processes import compare_processes
from benchmarks.runs import compare_runs
from benchmarks.scaling import compare_scaling
from benchmarks.tables import LAYOUTS, WIDTH, list_tables, say_machine
from benchmarks.task import Missing
from benchmarks.timing import as_json, describe_machine
from jaxnet._utils.files import check_file, check_folder
from jaxnet._utils.streams import prepare_streams
from jaxnet.callbacks.progress import count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli.options import FILE, FOLDER, QUIET, input_errors
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.experiments import EXPERIMENTS

QUICK = ("peers", "minibatch", "logits", "growth")
QUICK_PEERS = ("torch, DataLoader", "torch, sliced by hand", "NumPy, backward by hand", NAMES[-1])


PARTS = ("peers", "processes", "growth", "memory", "runs", "scaling", *EXPERIMENTS)


def measure(name: str, rounds: int, peers: list[str], quick: bool) -> dict[str, Any]:
    """The rows of a part, by their table."""
    train, test = load_mnist((0, 1))
    task = make_task(train)
    measures: dict[str, Callable[[], Any]] = {
        "peers": lambda: compare_peers(task, rounds + 2, peers),
        "processes": lambda: compare_processes(rounds),
        "growth": lambda: compare_growth(task.x, task.y, rounds + 2, quick=quick),
        "memory": lambda: compare_memory(task),
        "runs": lambda: compare_runs((train, test), rounds),
    }
    if name == "scaling":
        return compare_scaling(rounds + 2)
    if name in EXPERIMENTS:
        return {"experiments": [compare(name, rounds)]}
    return {name: measures[name]()}


@click.command()
@click.option(
    "--only",
    type=click.Choice(PARTS),
    multiple=True,
    help="An experiment whole; peers: its steps against every other way; processes: from the "
    "shell; growth: time against sizes; memory; runs: swept, saved, read from a file; scaling: 1 "
    "to 8 devices. Repeatable.",
)
@click.option("--peers", type=click.Choice(NAMES), multiple=True, help="Of the peers these alone.")
@click.option("--quick", is_flag=True, help="Under a minute: few parts, peers, rounds.")
@click.option("--rounds", type=click.IntRange(min=1), help="Of each part.  [default: 3, quick: 2]")
@click.option("--json", "json_path", type=FILE)
@click.option("--figures", type=FOLDER, help="Draw them there.")
@click.option(
    "--gpu-check", is_flag=True, help="This alone, on an NVIDIA card: masks, certificates, speed."
)
@QUIET
def main(
    only: tuple[str, ...],
    peers: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    json_path: Path | None,
    figures: Path | None,
    gpu_check: bool,
    quiet: bool,
) -> None:
    """Measure jaxnet beside torch and others; every row shows first that it computes the same.

    All of it takes about twenty minutes on two cores, `--quick` under one. Exit status 1 says
    that two sides disagree.

    \b
    Examples:
      python -m benchmarks --quick
      python -m benchmarks --only peers --figures figures
      python -m benchmarks --only minibatch --rounds 5 --json results.json
    """
    prepare_streams()
    with input_errors():
        check_file("--json", json_path)
        check_folder("--figures", figures)
    output = Output(80 if sys.stdout.isatty() else WIDTH)
    if gpu_check:
        if only or peers or quick or rounds or figures:
            raise click.UsageError("--gpu-check goes with --json and --quiet alone")
        sys.exit(check_card(json_path, output, quiet=quiet))
    rounds = rounds or (2 if quick else 3)
    chosen = list(dict.fromkeys(only or (["peers"] if peers else QUICK if quick else PARTS)))
    names = list(peers or (QUICK_PEERS if quick else NAMES))
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "rounds": rounds,
        "peak_gflops": _find_peak(),
    }
    with count("benchmarks", len(chosen), quiet=quiet) as tell:
        for done, name in enumerate(chosen):
            tell(done, name)
            for part, rows in measure(name, rounds, names, quick).items():
                results.setdefault(part, []).extend(rows)
            if json_path is not None:
                output.save_so_far(json_path, as_json(results))
        tell(len(chosen), "measured")
    sys.exit(conclude(output, results, json_path, figures))


def conclude(
    output: Output, results: dict[str, Any], json_path: Path | None, figures: Path | None
) -> int:
    """The tables, and all that is written at the end; gives the exit status."""
    if json_path is not None:
        output.save(json_path, as_json(results))
    output.show(say_machine(results))
    for part, table in list_tables(results).items():
        output.show(f"\n{part}")
        output.show(table)
    if figures is not None:
        from benchmarks.figures import draw_results

        if output.save(figures, lambda folder: draw_results(results, folder)):
            output.say(f"the figures are in {figures}")
    differ = any(row["agree"] is False for part in LAYOUTS for row in results.get(part, ()))
    return output.status(int(differ))


def _find_peak() -> float | None:
    try:
        return measure_peak()
    except Missing:
        return None


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
