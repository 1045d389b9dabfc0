"""What a sweep found: the table, and whether a figure was luck."""

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnet._utils.files import write_whole
from jaxnet._utils.validation import check_number, nearest
from jaxnet.sweep._programs import Outcome
from jaxnet.sweep.lanes import Lane
from jaxnet.train.state import TrainState

RARE = 0.05
"""Luck begins where fewer seeds than this share do as well."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: a row, losses, reports and the last state of every lane."""

    table: list[Row]
    """A row for each lane: "lane", "seed", the grid's keys, "loss" (of the last step, before its
    update), and "train_NAME" and "test_NAME" for each metric, after the last update."""
    losses: np.ndarray
    """Loss of every step before its update, shape (lanes, steps)."""
    reports: dict[str, np.ndarray]
    """Epochs done at each report under "epoch", (reports,); "loss" and each metric, (lanes,
    reports)."""
    states: list[TrainState]
    """The last state of every lane, in NumPy arrays."""
    compile_seconds: float
    """Tracing and compiling the programs, and finding how many lanes fit in memory."""
    run_seconds: float
    """Drawing weights, training and reports of the lanes that were not in the folder before."""
    group_sizes: tuple[int, ...]
    """Lanes of a group, for each compiled program."""

    def state(self, lane: int) -> TrainState:
        """A lane's last state, for `predict`, `evaluate` and `fit(..., state=...)`."""
        if not 0 <= lane < len(self.states):
            raise ValueError(f"lane must be one of 0 to {len(self.states) - 1}, not {lane!r}")
        return self.states[lane]

    def to_csv(self, path: str | os.PathLike | None = None) -> str:
        """The table as CSV, a row for each lane; written to `path`, whole, where one is given.

        Numbers are written so that reading them gives the same floats.
        """
        return write_csv(self.table, path)

    def answer(self, figure: float, column: str = "test_accuracy") -> list[str]:
        """`answer` for each point of the grid, which leads its sentence where there is one."""
        if column not in self.table[0]:
            known, meant = ", ".join(self.table[0]), nearest(column, self.table[0])
            raise ValueError(f"column must be one of {known}, not {column!r}{meant}")
        said = []
        for point, rows in group_rows(self.table).items():
            values = [row[column] for row in rows]
            where = column.split("_")[0] + " rows"
            said.append((f"{point}: " if point else "") + answer(values, figure, where))
        return said


def write_csv(table: Sequence[Row], path: str | os.PathLike | None = None) -> str:
    """Rows as CSV, and in a file where a path is given."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    if path is not None:
        write_whole(path, file.getvalue())
    return file.getvalue()


def group_rows(table: Sequence[Row]) -> dict[str, list[Row]]:
    """The table's rows by their point of the grid, in words: "lr 0.1, p 0.5"."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        keys = list(row)
        names = keys[keys.index("seed") + 1 : keys.index("loss")]
        groups.setdefault(", ".join(f"{name} {row[name]}" for name in names), []).append(row)
    return groups


def quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Quantiles of the numbers among the values, nan where there are none."""
    found = np.asarray([value for value in values if not math.isnan(value)], float)
    return np.quantile(found, shares).tolist() if len(found) else [math.nan] * len(shares)


def answer(values: Sequence[float], figure: float, where: str = "test rows") -> str:
    """Whether a figure was luck: how many seeds reach it, and a word.

    A value reaches the figure where it does to four places. Yes where fewer than one seed in
    twenty reach it, of twenty at least; where fewer than one in twenty stay at it or below, it was
    bad luck; no where neither is so. A lane that ended in nan reaches nothing.

    >>> print(answer([0.97, 0.99, 0.99, 0.98], 0.98))
    Was .9800 luck? 3 of 4 seeds reach .9800 or better on the test rows (median .9850, 5% to 95%: .9715 to .9900): no.
    """  # noqa: E501
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"values must be a list of numbers, not {values!r}")
    count = len(values)
    if not count:
        raise ValueError("values must hold at least one number; it is empty")
    figure = check_number("figure", figure)
    rounded = [round(value, 4) for value in values]
    reach = sum(value >= round(figure, 4) for value in rounded)
    below = sum(not value > round(figure, 4) for value in rounded)
    low, middle, high = quantiles(values, [0.05, 0.5, 0.95])
    verdict = "no"
    if reach < RARE * count:
        verdict = "yes" if count * RARE >= 1 else f"{count} are too few to tell"
    elif below < RARE * count and count * RARE >= 1:
        verdict = "no, rather bad luck"
    shown = short(figure)
    lost = sum(math.isnan(value) for value in values)
    nan = f"; {lost} ended in nan" if lost else ""
    return (
        f"Was {shown} luck? {reach} of {count} seeds reach {shown} or better on the {where} "
        f"(median {short(middle)}, 5% to 95%: {short(low)} to {short(high)}{nan}): {verdict}."
    )


def short(value: float) -> str:
    """A share as the lecture prints it.

    >>> short(0.9986), short(1.0)
    ('.9986', '1.0000')
    """
    return f"{value:.4f}".removeprefix("0") if value >= 0 else f"{value:.4f}"


def make_row(lane: Lane, outcome: Outcome, rows: tuple[int, int]) -> Row:
    """A lane's row of the table. A metric that counted rows is divided by how many there are."""
    row: Row = {"lane": lane.number, "seed": lane.seed, **lane.point}
    row["loss"] = float(outcome.losses[-1])
    for part, count in zip(("train", "test"), rows, strict=True):
        values = getattr(outcome, part)
        row |= {f"{part}_{name}": _share(value, count).item() for name, value in values.items()}
    return row


def collect(
    lanes: Sequence[Lane],
    outcomes: dict[int, Outcome],
    rows: tuple[int, int],
    report_every: int | None,
    seconds: tuple[float, float],
    sizes: tuple[int, ...],
) -> Sweep:
    """The sweep of all lanes' outcomes, in the lanes' order."""
    ordered = [outcomes[lane.number] for lane in lanes]
    losses = np.stack([outcome.losses for outcome in ordered])
    reports = {
        name: np.stack([_share(outcome.reports[name], rows[0]) for outcome in ordered])
        for name in ordered[0].reports
    }
    count = len(next(iter(ordered[0].reports.values()), ()))
    epochs = np.arange(1, count + 1) * (report_every or 0)
    table = [make_row(lane, outcomes[lane.number], rows) for lane in lanes]
    states = [outcome.state for outcome in ordered]
    return Sweep(table, losses, {"epoch": epochs, **reports}, states, *seconds, sizes)


def take(outcome: Outcome, place: int) -> Outcome:
    """The outcome of one lane, from that of many."""
    return jax.tree.map(lambda values: values[place], outcome)


def _share(values: Any, count: int) -> Any:
    """Counts in integers as shares in float64, as `evaluate` gives them; means as they are."""
    counted = np.issubdtype(np.asarray(values).dtype, np.integer)
    return np.asarray(values) / count if counted else np.asarray(values)
