"""Results as tables: what the terminal shows and what docs show are the same lines.

A row whose sides disagree shows no time.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np
from rich.table import Table

from jaxnet.lecture.cli.options import make_table
from jaxnet.sweep.result import short

WIDTH = 100
"""Columns of text that every table fits in."""

Row = dict[str, Any]
Column = tuple[str, str | Callable[[Row], str]]
"""A heading, and the key of what is shown as it is, or a function of the row."""


class ImpossibleShare(click.ClickException):
    """A result is more than all of a peak, so that one of the two was measured wrongly."""


class Layout(NamedTuple):
    """A table: its columns of words and of numbers, and those of a row whose sides agree."""

    words: list[Column]
    numbers: list[Column]
    timed: list[Column]
    last: list[Column] = []
    prepare: Callable[[list[Row]], list[Row]] = list
    """The part's rows as the table's."""

    def fill(self, rows: list[Row]) -> Table:
        """The table of a part's rows; one that could not run says what it would need."""
        numbers = [*self.numbers, *self.timed, *self.last]
        table = make_table([name for name, _ in self.words], [name for name, _ in numbers])
        for row in self.prepare(rows):
            cells = _show(row, [*self.words, *self.numbers])
            if "missing" in row:
                cells += [row["missing"]]
            elif row["agree"] is False:
                cells += ["DIFFER", *[""] * (len(self.timed) - 1), *_show(row, self.last)]
            else:
                cells += _show(row, [*self.timed, *self.last])
            table.add_row(*cells)
        return table


def _show(row: Row, columns: list[Column]) -> list[str]:
    return [str(row[cell]) if isinstance(cell, str) else cell(row) for _, cell in columns]


def say(value: float) -> str:
    """A number in three digits.

    >>> say(0.05832), say(34.0), say(81646.0)
    ('0.0583', '34.0', '81,646')
    """
    return f"{value:#.3g}" if value < 99.95 else f"{value:,.0f}"


def times(heading: str, key: str = "seconds", scale: float = 1) -> list[Column]:
    """The median of a row's seconds, and the smallest and the largest of them."""
    return [
        (heading, lambda row: say(scale * statistics.median(row[key]))),
        ("min-max", lambda row: "-".join(say(scale * end(row[key])) for end in (min, max))),
    ]


def ratios(heading: str, over: str, under: str) -> list[Column]:
    """The median of the rounds' own ratios, and the quartiles."""

    def quantiles(row: Row, *shares: float) -> str:
        found = np.quantile(np.divide(row[over], row[under]), shares)
        return "-".join(f"{ratio:.2f}" for ratio in found)

    return [
        (heading, lambda row: quantiles(row, 0.5)),
        ("quartiles", lambda row: quantiles(row, 0.25, 0.75)),
    ]


def _number(key: str, form: str) -> Callable[[Row], str]:
    return lambda row: format(row[key], form) if key in row else ""


def _accuracies(row: Row) -> str:
    pairs = (row["accuracies_torch"][-2:], row["accuracies_jaxnet"][-2:])
    said = ("/".join(f"{value:.4f}".removeprefix("0") for value in pair) for pair in pairs)
    return " not ".join(dict.fromkeys(said))


def _share_of_peak(row: Row) -> str:
    """Of as many threads as XLA gives the products: one for a minibatch, else all."""
    if (peak := row["peak_gflops"]) is None:
        return ""
    threads = 1 if row["experiment"] == "minibatch" else row["threads"]
    share = row["flops"] / statistics.median(row["seconds_jaxnet"]) / (1e9 * peak * threads)
    if not share <= 1:
        raise ImpossibleShare(
            f"{row['experiment']} reaches {share:.0%} of the measured peak, {threads} x "
            f"{peak:.3g} GFLOP/s, and nothing can reach more than all of it: the probe of the peak "
            "(floor.c), the count of operations or the seconds are wrong"
        )
    return f"{share:.0%}"


_GAP: Column = ("loss\ngap", _number("loss_gap", ".0e"))
_RATIO: Column = ("ratio", _number("ratio", ".2f"))
_NUMBER: Column = ("n", lambda row: str(len(row["seconds"])))
_NET: list[Column] = [("net", "net"), ("weights", "weights")]
_DEVICES: list[Column] = [("batch", _number("batch", ",")), ("devices", "devices")]
_SIDES = [*times("torch s", "seconds_torch"), *times("jaxnet s", "seconds_jaxnet")]

LAYOUTS = {
    "peers": Layout(
        [("contestant", "name"), ("masks", "stream")],
        [("threads", "threads"), _NUMBER],
        [
            *times("us/step", "step_seconds", 1e6),
            ("compile\ns", _number("compile_seconds", ".1f")),
            _RATIO,
        ],
        [("train\nrows", lambda row: short(row["accuracy"])), _GAP],
    ),
    "experiments": Layout(
        [("experiment", "experiment"), ("train/test", _accuracies)],
        [("loss\ngap", _number("loss_gap", ".1e"))],
        [
            *_SIDES,
            ("compile\ns", _number("compile_seconds", ".2f")),
            _RATIO,
            ("of\npeak", _share_of_peak),
        ],
    ),
    "processes": Layout(
        [("process", "name"), ("train/test", lambda row: "/".join(row["accuracies"]))],
        [],
        [*times("s"), _RATIO],
    ),
    "growth": Layout(
        [("varied", "sweep")],
        [("size", "size"), ("n", lambda row: str(len(row["seconds_torch"])))],
        [
            *_SIDES,
            _RATIO,
            ("slope\ntorch", _number("slope_torch", ".2f")),
            ("slope\njaxnet", _number("slope_jaxnet", ".2f")),
        ],
        [_GAP],
    ),
    "memory": Layout(
        [("side", "side")],
        [("batch size", "batch_size")],
        [
            (heading, _number(key, ".0f"))
            for heading, key in (
                ("data", "data"),
                ("imports", "imported"),
                ("with data", "loaded"),
                ("peak", "peak"),
                ("training's own", "own"),
            )
        ],
    ),
    "runs": Layout(
        [("run", "run"), ("beside", "beside")],
        [_NUMBER],
        [
            *times("s"),
            times("other s", "seconds_other")[0],
            *ratios("ratio", "seconds", "seconds_other"),
        ],
        [_GAP],
    ),
    "communication": Layout(
        _NET,
        _DEVICES,
        [
            ("a step", lambda row: row["collectives"] or "nothing"),
            ("tensors", "tensors"),
            ("KB", lambda row: f"{row['bytes'] / 1e3:,.1f}"),
        ],
        prepare=lambda rows: [r for r in rows if r["devices"] == 8 or r["weights"] == "sharded"],
    ),
    "scaling": Layout(
        _NET,
        [*_DEVICES, _NUMBER],
        [
            *times("us", "seconds", 1e6),
            ratios("times as\nfast as 1", "seconds_other", "seconds")[0],
        ],
        [_GAP],
    ),
}
"""The table of each part that is measured."""


def list_tables(results: dict[str, Any]) -> dict[str, Table]:
    """A table for each part that was measured."""
    return {
        part: layout.fill([row | {"peak_gflops": results["peak_gflops"]} for row in results[part]])
        for part, layout in LAYOUTS.items()
        if results.get(part)
    }


def say_machine(results: dict[str, Any]) -> str:
    """What the figures were measured on, in sentences."""
    machine, peak = results["machine"], results["peak_gflops"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    said = (
        f"{machine['processor']}, {machine['cores']} cores; JAX on {machine['device']}, torch on "
        f"{machine['torch threads']} threads; Python {machine['python']}, {versions}; "
        f"{machine['date']}; rounds: {results['rounds']}."
    )
    if peak is not None:
        said += f" One core, measured: {peak:.0f} GFLOP/s of float32 multiply-adds."
    return said
