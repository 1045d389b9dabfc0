"""Each experiment of the lecture on torch and on jaxnet, in one process, round by round."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import torchref.lecture
from jaxnet.data import load_mnist
from jaxnet.lecture import EXPERIMENTS, run
from torchref.recorder import Recorder
from torchref.tolerances import TRAJECTORY


def compare(name: str, rounds: int, root: Path | None) -> dict[str, Any]:
    """Run one experiment on both sides: how far apart they are, and how fast.

    A first round, recorded and not timed, shows whether the two agree and warms both up; then
    `rounds` timed ones, in turn. Seconds are training with its reports, without imports, data and
    compilation; the ratio is the median of the rounds' own ratios.
    """
    experiment = EXPERIMENTS[name]
    data = load_mnist(experiment.classes, root)
    recorder = Recorder()
    first_torch = torchref.lecture.run(name, data, watch=recorder).record
    first_jax = run(experiment, data)
    gap = np.abs(first_jax.history.losses / np.array(recorder.losses) - 1).max()
    accuracies = [_accuracies(record) for record in (first_torch, first_jax.record)]
    pairs = [
        (torchref.lecture.run(name, data).record, run(experiment, data).record)
        for _ in range(rounds)
    ]
    seconds = [
        [record["run_seconds"] for record in records] for records in zip(*pairs, strict=True)
    ]
    return {
        "experiment": name,
        "agree": bool(gap <= TRAJECTORY.rtol and accuracies[0] == accuracies[1]),
        "loss_gap": float(gap),
        "accuracies_torch": accuracies[0],
        "accuracies_jaxnet": accuracies[1],
        "seconds_torch": seconds[0],
        "seconds_jaxnet": seconds[1],
        "compile_seconds": first_jax.record["compile_seconds"],
        "ratio": statistics.median(t / j for t, j in zip(*seconds, strict=True)),
    }


def _accuracies(record: dict[str, Any]) -> list[float]:
    """At every report, then on the training and the test rows at the end."""
    reports = [report["accuracy"] for report in record["reports"]]
    return [*reports, record["train_accuracy"], record["test_accuracy"]]


def tabulate(rows: list[dict[str, Any]]) -> Table:
    """A row for each experiment; one whose sides disagree shows no time."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("experiment", "torch\ntrain/test", "jaxnet\ntrain/test"):
        table.add_column(heading, no_wrap=True)
    for heading in ("loss\ngap", "torch\ns", "jaxnet\ns", "compile\ns", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        seconds = [statistics.median(row[f"seconds_{side}"]) for side in ("torch", "jaxnet")]
        times = [*(f"{s:.3f}" for s in seconds), f"{row['compile_seconds']:.2f}"]
        table.add_row(
            row["experiment"],
            *(_pair(row[f"accuracies_{side}"]) for side in ("torch", "jaxnet")),
            f"{row['loss_gap']:.1e}",
            *(times if row["agree"] else ["", "", ""]),
            f"{row['ratio']:.1f}x" if row["agree"] else "DIFFER",
        )
    return table


def _pair(accuracies: list[float]) -> str:
    return "/".join(f"{value:.4f}".removeprefix("0") for value in accuracies[-2:])


@click.command()
@click.option("--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Repeatable.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(only: tuple[str, ...], rounds: int, root: Path | None, json_path: Path | None) -> None:
    """Time each experiment of the lecture on torch and on jaxnet, side by side.

    Exit status 1 says that the two sides of an experiment disagree.
    """
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    chosen = list(dict.fromkeys(only or EXPERIMENTS))
    progress = track(chosen, "torch, then jaxnet", console=Console(stderr=True), transient=True)
    rows = [compare(name, rounds, root) for name in progress]
    console.print(
        f"torch {torch.__version__} on {torch.get_num_threads()} threads, jax {jax.__version__} "
        f"on {jax.devices()[0]}. Seconds: training with its reports, median of {rounds} "
        "interleaved rounds. Loss gap: the largest relative difference of a step's loss. "
        "Ratio: torch's seconds over jaxnet's, compilation apart."
    )
    console.print(tabulate(rows))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if not all(row["agree"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
