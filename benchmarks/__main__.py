"""The lecture on torch and on jaxnet, and what random numbers cost, in one process, in rounds."""

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
from benchmarks.streams import compare_masks, compare_steps
from jaxnet.data import load_mnist
from jaxnet.lecture import EXPERIMENTS, run
from torchref.tolerances import TRAJECTORY

STREAMS = ("masks", "steps")
STREAM_ROUNDS = 10  # to each round of an experiment: these take milliseconds


def compare(name: str, rounds: int, root: Path | None) -> dict[str, Any]:
    """Run one experiment on both sides: how far apart they are, and how fast.

    A first round, recorded and not timed, shows whether the two agree and warms both up; then
    `rounds` timed ones, in turn. Seconds are training with its reports, without imports, data and
    compilation; the ratio is the median of the rounds' own ratios.
    """
    experiment = EXPERIMENTS[name]
    data = load_mnist(experiment.classes, root)
    losses: list[float] = []
    first_torch = torchref.lecture.run(
        name, data, watch=lambda net, output, loss: losses.append(loss.item())
    ).record
    first_jax = run(experiment, data)
    gap = np.abs(first_jax.history.losses / np.array(losses) - 1).max()
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


def tabulate_streams(rows: list[dict[str, Any]]) -> Table:
    """A row for each comparison; one whose numbers are not torch's shows no time."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("on torch's stream", "against"):
        table.add_column(heading, no_wrap=True)
    for heading in ("jaxnet\nus", "other\nus", "ratio", "quartiles"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        mine, theirs = (
            f"{1e6 * statistics.median(row[key]):.1f}" for key in ("seconds", "seconds_other")
        )
        ratios = [b / a for a, b in zip(row["seconds"], row["seconds_other"], strict=True)]
        low, _, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        spread = [mine, theirs, f"{row['ratio']:.2f}x", f"{low:.2f}-{high:.2f}"]
        table.add_row(
            row["what"], row["against"], *(spread if row["agree"] else ["", "", "DIFFER", ""])
        )
    return table


@click.command()
@click.option(
    "--only",
    type=click.Choice([*EXPERIMENTS, *STREAMS]),
    multiple=True,
    help="An experiment, or masks or steps for the cost of random numbers. Repeatable.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def main(only: tuple[str, ...], rounds: int, root: Path | None, json_path: Path | None) -> None:
    """Time each experiment of the lecture on torch and on jaxnet, and what random numbers cost.

    Exit status 1 says that two sides disagree.
    """
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    chosen = list(dict.fromkeys(only or [*EXPERIMENTS, *STREAMS]))
    progress = track(chosen, "side by side", console=Console(stderr=True), transient=True)
    rows, stream_rows = [], []
    for name in progress:
        if name == "masks":
            stream_rows += compare_masks(STREAM_ROUNDS * rounds)
        elif name == "steps":
            stream_rows += compare_steps(load_mnist((0, 1), root)[0], STREAM_ROUNDS * rounds)
        else:
            rows.append(compare(name, rounds, root))
    console.print(
        f"torch {torch.__version__} on {torch.get_num_threads()} threads, jax {jax.__version__} "
        f"on {jax.devices()[0]}. Medians of interleaved rounds; ratio: the other's time over "
        "jaxnet's, compilation apart."
    )
    if rows:
        console.print(
            f"Seconds of training with its reports, {rounds} rounds. Loss gap: the largest "
            "relative difference of a step's loss."
        )
        console.print(tabulate(rows))
    if stream_rows:
        console.print(
            f"Microseconds inside a compiled run, {STREAM_ROUNDS * rounds} rounds; quartiles of "
            "the rounds' ratios. A mask is of the lecture's 12665 x 32 activations, a step one of "
            "`minibatch`."
        )
        console.print(tabulate_streams(stream_rows))
    if json_path is not None:
        results = {"experiments": rows, "streams": stream_rows}
        json_path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not all(row["agree"] for row in [*rows, *stream_rows]):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
