"""Results as tables: what the terminal shows and what docs show are the same lines.

A row whose sides disagree shows no time.
"""

import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import click
import numpy as np
from rich import box
from rich.table import Table

MIB = 2**20
WIDTH = 100
"""Columns of text that every table fits in."""


class ImpossibleShare(click.ClickException):
    """A result is more than all of a peak, so that one of the two was measured wrongly."""


def make_table(words: Iterable[str], numbers: Iterable[str]) -> Table:
    """An empty table: columns of words, then columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


CAPTIONS = {
    "peers": "Training steps of `minibatch` (batches of 16, two epochs): microseconds a step, "
    "median and min-max, compilation apart (torch.compile's with what it keeps on disk). Ratio: "
    "the contestant's time over jaxnet's.",
    "experiments": "Seconds of training with its reports, compilation apart. Loss gap: the largest "
    "relative difference of a step's loss. Of peak: jaxnet's matrix products, as a share of what "
    "one core reaches in multiply-adds on registers (`minibatch`, taken to run on one) or as many "
    "as torch's threads (the others).",
    "processes": "Seconds of a whole process for `minibatch`: imports, data, compilation, run, "
    "exit. Ratio: the script's time over this one's.",
    "growth": "Seconds of training against one size at a time, the others as in a net 784-32-1 "
    "with Dropout(0.5), batches of 128, one epoch. torch's tensors are sliced by hand, on one "
    "thread or all, whichever is faster. Slope: of the logarithms, from the size before.",
    "compiling": "Milliseconds of a `fit` of 41 rows and 8 units, its preparation and compilation "
    "among them, and of the same call once more, for which all is compiled. More: the median of "
    "the processes' own differences. Nothing is kept on disk.",
    "memory": "Peak resident MiB of one process each that trains two epochs, and what of it was "
    "there before: imports, then the data.",
    "saving": "Seconds of a run of about twenty, plain and with checkpoints at the default rate. "
    "Cost: the saved run's time over the plain one's, less one. The losses are the same bits.",
    "bar": "Processor time of the bar that a terminal shows, as a share of one core.",
    "sweep": "Milliseconds of `minibatch` for each lane of a sweep, and of the same run alone, "
    "compilation apart; the share that a lane takes of it, quartiles of the rounds' ratios.",
    "streaming": "Milliseconds of an epoch of `minibatch`'s 12665 rows of 784 numbers, shuffled, "
    "compilation apart; ratio to the same run from memory, quartiles of rounds' ratios. The "
    "file is in the system's cache; the MapDataset's source holds the same rows in memory.",
    "streams": "Microseconds inside a compiled run; quartiles of the rounds' ratios. A mask is of "
    "the lecture's 12665 x 32 activations, a step one of `minibatch`.",
}


def say_machine(results: dict[str, Any]) -> str:
    """What the figures were measured on, in sentences."""
    machine, peaks = results["machine"], results["peaks"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    said = (
        f"{machine['processor']}, {machine['cores']} cores; JAX on {machine['device']}, torch on "
        f"{machine['torch threads']} threads; Python {machine['python']}, {versions}; "
        f"{machine['date']}; rounds: {results['rounds']}."
    )
    if peaks:
        said += (
            f" One core, measured: {peaks['fma_gflops']:.0f} GFLOP/s of float32 multiply-adds, "
            f"{peaks['copy_gbytes']:.0f} GB/s read and written by a copy."
        )
    return said


def list_tables(results: dict[str, Any]) -> dict[str, Table]:
    """A table for each part that was measured; `CAPTIONS` says what it shows."""
    makers = {
        "peers": tabulate_peers,
        "experiments": partial(tabulate_experiments, peaks=results.get("peaks")),
        "processes": tabulate_processes,
        "growth": tabulate_growth,
        "compiling": tabulate_compiling,
        "memory": tabulate_memory,
        "saving": tabulate_saving,
        "bar": tabulate_bar,
        "streaming": tabulate_streaming,
        "streams": tabulate_streams,
        "sweep": tabulate_sweep,
    }
    return {part: make(results[part]) for part, make in makers.items() if results.get(part)}


def tabulate_peers(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each contestant; one that cannot run says what it would need."""
    table = make_table(
        ("contestant", "masks"),
        ("threads", "n", "us/step", "min-max", "compile\ns", "ratio", "train\nrows", "loss\ngap"),
    )
    for row in rows:
        lead = (row["name"], row["stream"], str(row["threads"]), str(len(row.get("seconds", []))))
        if "missing" in row:
            table.add_row(*lead, row["missing"])
            continue
        times = ["DIFFER", "", "", ""]
        if row["agree"] and "seconds" in row:
            micro = [1e6 * seconds / row["steps"] for seconds in row["seconds"]]
            times = [
                f"{statistics.median(micro):.1f}",
                f"{min(micro):.1f}-{max(micro):.1f}",
                f"{row['compile_seconds']:.1f}",
                f"{row['ratio']:.1f}x" if row["ratio"] >= 1 else f"{row['ratio']:.2f}x",
            ]
        gap = f"{row['loss_gap']:.0e}" if "loss_gap" in row else ""
        table.add_row(*lead, *times, f"{row['accuracy']:.4f}".removeprefix("0"), gap)
    return table


def tabulate_experiments(rows: Sequence[dict[str, Any]], peaks: Any = None) -> Table:
    """A row for each experiment."""
    table = make_table(
        ("experiment", "train/test"),
        ("loss gap", "torch s", "min-max", "jaxnet s", "min-max", "compile s", "ratio", "of peak"),
    )
    for row in rows:
        pairs = [_pair(row[f"accuracies_{side}"]) for side in ("torch", "jaxnet")]
        accuracies = pairs[0] if pairs[0] == pairs[1] else " not ".join(pairs)
        lead = (row["experiment"], accuracies, f"{row['loss_gap']:.1e}")
        if not row["agree"]:
            table.add_row(*lead, *[""] * 5, "DIFFER")
            continue
        times = []
        for side in ("torch", "jaxnet"):
            seconds = row[f"seconds_{side}"]
            times += [f"{_median(row, side):.3f}", f"{min(seconds):.2f}-{max(seconds):.2f}"]
        share = _share_of_peak(row, peaks) if peaks else ""
        table.add_row(*lead, *times, f"{row['compile_seconds']:.2f}", f"{row['ratio']:.1f}x", share)
    return table


def _share_of_peak(row: dict[str, Any], peaks: dict[str, Any]) -> str:
    """Of as many threads as XLA gives the products: one for a minibatch, else all."""
    threads = 1 if row["experiment"] == "minibatch" else row["threads"]
    share = row["flops"] / _median(row, "jaxnet") / (1e9 * peaks["fma_gflops"] * threads)
    if not share <= 1:
        raise ImpossibleShare(
            f"{row['experiment']} reaches {share:.0%} of the measured peak, {threads} x "
            f"{peaks['fma_gflops']:.3g} GFLOP/s, and nothing can reach more than all of it: "
            "the probe of the peak (floor.c), the count of operations or the seconds are wrong"
        )
    return f"{share:.0%}"


def _pair(accuracies: list[float]) -> str:
    return "/".join(f"{value:.4f}".removeprefix("0") for value in accuracies[-2:])


def tabulate_processes(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each command."""
    table = make_table(("process", "train/test"), ("s", "min-max", "ratio"))
    for row in rows:
        times = ["DIFFER", "", ""]
        if row["agree"] is not False:
            seconds = row["seconds"]
            times = [
                f"{statistics.median(seconds):.2f}",
                f"{min(seconds):.2f}-{max(seconds):.2f}",
                f"{row['ratio']:.2f}x" if row["accuracies"] else "",
            ]
        table.add_row(row["name"], "/".join(row["accuracies"]), *times)
    return table


def tabulate_growth(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each size. The slope is of the logarithms, from the row before."""
    table = make_table(
        ("varied",),
        ("size", "n", "torch s", "min-max", "jaxnet s", "min-max", "ratio", "slope\ntorch")
        + ("slope\njaxnet", "loss\ngap"),
    )
    before: dict[str, Any] | None = None
    for row in rows:
        same = before is not None and before["sweep"] == row["sweep"]
        lead = ["" if same else row["sweep"], str(row["size"]), str(len(row["seconds_torch"]))]
        times = [""] * 4 + ["DIFFER", "", ""]
        if row["agree"]:
            times = []
            for side in ("torch", "jaxnet"):
                seconds = row[f"seconds_{side}"]
                times += [f"{_median(row, side):.4f}", f"{min(seconds):.3f}-{max(seconds):.3f}"]
            times.append(f"{row['ratio']:.1f}x")
            times += [_slope(row, before, side) if same else "" for side in ("torch", "jaxnet")]
        table.add_row(*lead, *times, f"{row['loss_gap']:.0e}")
        before = row
    return table


def _slope(row: dict[str, Any], before: Any, side: str) -> str:
    growth = np.log(_median(row, side) / _median(before, side))
    return f"{growth / np.log(row['size'] / before['size']):.2f}"


def _median(row: dict[str, Any], side: str) -> float:
    return statistics.median(row[f"seconds_{side}"])


def tabulate_compiling(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each `fit`."""
    table = make_table(("fit",), ("n", "ms", "min-max", "again ms", "more ms"))
    for row in rows:
        times = ["DIFFER", "", "", ""]
        if row["agree"]:
            milli, again = (1e3 * np.array(row[key]) for key in ("seconds", "alone"))
            more = np.median(milli - again)
            times = [f"{np.median(milli):.0f}", f"{milli.min():.0f}-{milli.max():.0f}"]
            times += [f"{np.median(again):.0f}", f"{more:.0f}"]
        table.add_row(row["what"], str(len(row["seconds"])), *times)
    return table


def tabulate_memory(rows: Sequence[dict[str, Any]]) -> Table:
    """Two rows, torch's and jaxnet's, for each batch size."""
    table = make_table(
        ("side",), ("batch size", "data", "imports", "with data", "peak", "training's own")
    )
    for row in rows:
        for side in ("torch", "jaxnet"):
            sizes = row[side]
            own = sizes["peak"] - sizes["loaded"]
            cells = [sizes["data"], sizes["imported"], sizes["loaded"], sizes["peak"], own]
            shown = [f"{cell / MIB:.0f}" for cell in cells]
            table.add_row(
                side, str(row["batch_size"]), *(shown if row["agree"] else ["DIFFER"] + [""] * 4)
            )
    return table


def tabulate_saving(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each experiment."""
    table = make_table(("experiment",), ("epochs", "n", "plain s", "saved s", "cost"))
    for row in rows:
        times = ["DIFFER", "", ""]
        if row["agree"]:
            times = [f"{statistics.median(row[side]):.2f}" for side in ("plain", "saved")]
            times.append(f"{row['ratio'] - 1:.1%}")
        table.add_row(row["name"], str(row["epochs"]), str(len(row["plain"])), *times)
    return table


def tabulate_bar(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for the bar."""
    table = make_table(("bar of",), ("n", "of a core", "min-max"))
    for row in rows:
        shares = row["shares"]
        low, high = min(shares), max(shares)
        spread = f"{low:.2%}-{high:.2%}"
        table.add_row(row["name"], str(len(shares)), f"{statistics.median(shares):.2%}", spread)
    return table


def tabulate_streaming(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each batch size and place of the rows; those from memory come first."""
    table = make_table(("rows from",), ("batch size", "n", "ms", "min-max", "ratio", "quartiles"))
    base: dict[str, Any] = {}
    for row in rows:
        base = row if row["rows"] == "memory" else base
        times = ["DIFFER", "", "", ""]
        if row["agree"]:
            milli = [1e3 * seconds for seconds in row["seconds"]]
            ratios = [b / a for a, b in zip(base["seconds"], row["seconds"], strict=True)]
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            times = [f"{statistics.median(milli):.1f}", f"{min(milli):.1f}-{max(milli):.1f}"]
            times += ["", ""] if row is base else [f"{middle:.2f}x", f"{low:.2f}-{high:.2f}"]
        table.add_row(row["rows"], str(row["batch_size"]), str(len(row["seconds"])), *times)
    return table


def tabulate_streams(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each comparison."""
    table = make_table(
        ("on torch's stream", "against"), ("jaxnet\nus", "other\nus", "ratio", "quartiles")
    )
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


def tabulate_sweep(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each sweep."""
    table = make_table(
        (), ("lanes", "of a group", "lane ms", "solo ms", "n", "lane / solo", "quartiles")
    )
    table.add_column("loss gap", justify="right", no_wrap=True)
    for row in rows:
        lead = (str(row["lanes"]), str(row["group"]))
        mine, theirs = (
            f"{1e3 * statistics.median(row[key]):.1f}" for key in ("seconds", "seconds_other")
        )
        shares = [a / b for a, b in zip(row["seconds"], row["seconds_other"], strict=True)]
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
        spread = [mine, theirs, str(len(shares)), f"{middle:.2f}", f"{low:.2f}-{high:.2f}"]
        shown = spread if row["agree"] else ["", "", "", "DIFFER", ""]
        table.add_row(*lead, *shown, f"{row['loss_gap']:.0e}")
    return table
