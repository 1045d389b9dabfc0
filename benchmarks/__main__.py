"""Each experiment of the lecture on torch and on jaxnet, in one process, round by round."""

import json
import statistics
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
from jaxnet.lecture import EXPERIMENTS, run
from torchref.recorder import Recorder


def compare(name: str, rounds: int, root: Path | None) -> dict[str, Any]:
    """Run one experiment `rounds` times on each side, in turn: how far apart, and how fast.

    Seconds are training with its reports, without imports, data and compilation; the ratio is the
    median of the rounds' own ratios.
    """
    pairs = []
    for _ in range(rounds):
        recorder = Recorder()
        result_torch = torchref.lecture.run(name, root=root, watch=recorder)
        pairs.append((result_torch.record, run(EXPERIMENTS[name], root=root), recorder.losses))
    record_torch, result_jax, losses_torch = pairs[0]
    gap = np.abs(result_jax.history.losses / np.array(losses_torch) - 1)
    seconds_torch = [record["run_seconds"] for record, _, _ in pairs]
    seconds_jax = [result.record["run_seconds"] for _, result, _ in pairs]
    return {
        "experiment": name,
        "rounds": rounds,
        "loss_gap": float(gap.max()),
        "accuracy_torch": _accuracies(record_torch),
        "accuracy_jax": _accuracies(result_jax.record),
        "seconds_torch": seconds_torch,
        "seconds_jax": seconds_jax,
        "compile_seconds": result_jax.record["compile_seconds"],  # of the first round
        "ratio": statistics.median(t / j for t, j in zip(seconds_torch, seconds_jax, strict=True)),
    }


def _accuracies(record: dict[str, Any]) -> list[float]:
    reports = [report["accuracy"] for report in record["reports"]]
    return [*reports, record["test_accuracy"]]


def tabulate(rows: list[dict[str, Any]]) -> Table:
    """A row for each experiment."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("experiment", no_wrap=True)
    headings = ("loss gap", "accuracies", "torch s", "jaxnet s", "compile s", "torch/jaxnet")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        pairs = list(zip(row["accuracy_torch"], row["accuracy_jax"], strict=True))
        same = sum(first == second for first, second in pairs)
        table.add_row(
            row["experiment"],
            f"{row['loss_gap']:.1e}",
            f"{same}/{len(pairs)} equal",
            f"{statistics.median(row['seconds_torch']):.3f}",
            f"{statistics.median(row['seconds_jax']):.3f}",
            f"{row['compile_seconds']:.2f}",
            f"{row['ratio']:.1f}x",
        )
    return table


@click.command()
@click.option("--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Repeatable.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(only: tuple[str, ...], rounds: int, root: Path | None, json_path: Path | None) -> None:
    """Time each experiment of the lecture on torch and on jaxnet, side by side."""
    console = Console()
    chosen = list(dict.fromkeys(only or EXPERIMENTS))
    progress = track(chosen, "torch, then jaxnet", console=Console(stderr=True), transient=True)
    rows = [compare(name, rounds, root) for name in progress]
    console.print(
        f"torch {torch.__version__} on {torch.get_num_threads()} threads, "
        f"jax {jax.__version__} on {jax.devices()[0]}; medians of {rounds} interleaved rounds. "
        "Loss gap: the largest relative difference of a step's loss. Accuracies: how many of the "
        "reports' and the final test's are the same count of rows."
    )
    console.print(tabulate(rows))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
