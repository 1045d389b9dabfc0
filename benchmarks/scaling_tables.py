"""What `benchmarks.scaling` measured, as tables and a sentence for docs/scaling.md."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.scaling import find_gain, middle, select
from benchmarks.tables import make_table

CAPTIONS = {
    "communication": "What a training program sends, read from the compiled program: collectives "
    "of a step, their operands on each device, and all of an epoch.",
    "scaling": "Microseconds of a training step: median, min-max, and how many times as fast as on "
    "one device.",
}


def list_scaling(results: dict[str, Any]) -> dict[str, Table]:
    """The tables, by the names of their places in the page; none where nothing was measured."""
    rows = results.get("scaling")
    if not rows:
        return {}
    return {"communication": tabulate_communication(rows), "scaling": tabulate_steps(rows)}


def say_scaling(results: dict[str, Any]) -> dict[str, str]:
    """The sentence, by the name of its place in the page; none where nothing was measured."""
    rows = results.get("scaling")
    return {"gained": say_gained(rows)} if rows else {}


def tabulate_communication(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each case on the most devices, of sharded weights on each number of devices."""
    table = make_table(
        ("net", "weights"),
        (
            "batch",
            "devices",
            "a step",
            "tensors",
            "KB",
            "epoch\nsteps",
            "epoch\nsends",
            "epoch\nMB",
        ),
    )
    found = [row for row in rows if row["kind"] == "communication"]
    most = max((row["devices"] for row in found), default=0)
    for row in found:
        if row["devices"] < most and not row["sharded"]:
            continue
        lead = (row["net"], _say_weights(row), f"{row['batch']:,}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items()) or "nothing"
        sent = [kinds, f"{row['tensors']}", f"{row['bytes'] / 1e3:,.1f}", f"{row['steps']}"]
        sent += [f"{row['epoch_runs']}", f"{row['epoch_bytes'] / 1e6:.1f}"]
        table.add_row(*lead, str(row["devices"]), *(sent if row["agree"] else ["DIFFER"]))
    return table


def tabulate_steps(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each case on each number of devices."""
    table = make_table(
        ("net", "weights"),
        ("batch", "devices", "n", "us", "min-max", "times as\nfast as 1", "loss\ngap"),
    )
    for row in rows:
        if row["kind"] != "step":
            continue
        lead = (row["net"], _say_weights(row), f"{row['batch']:,}", str(row["devices"]))
        times = ["DIFFER", "", ""]
        if row["agree"]:
            seconds, gain = row["seconds"], find_gain(rows, row)
            times = [_micro(middle(row)), f"{_micro(min(seconds))}-{_micro(max(seconds))}"]
            times.append("" if gain is None else f"{gain:.2f}")
        table.add_row(*lead, str(len(row["seconds"])), *times, f"{row['loss_gap']:.0e}")
    return table


def say_gained(rows: Sequence[dict[str, Any]]) -> str:
    """Where several devices were faster than one, on the measured machine."""
    gains = {}
    for row in select(rows, "step"):
        gain = find_gain(rows, row)
        if gain is not None:
            sharded = ", weights sharded" if row["sharded"] else ""
            gains[f"{row['net']} net, {row['batch']:,} rows{sharded}, {row['devices']} devices"] = (
                gain
            )
    if not gains:
        return "Nothing was measured on several devices."
    faster = {name: gain for name, gain in gains.items() if gain > 1.1}
    names = "; ".join(f"{name}: {gain:.2f} times" for name, gain in faster.items()) or "none"
    return (
        f"Of {len(gains)} measured, those that were faster than one device by more than a tenth: "
        f"{names}. The slowest: {min(gains, key=gains.__getitem__)}, "
        f"{1 / min(gains.values()):.0f} times as long as one device."
    )


def _say_weights(row: dict[str, Any]) -> str:
    return "sharded" if row["sharded"] else "replicated"


def _micro(seconds: float) -> str:
    micro = 1e6 * seconds
    return f"{micro:,.1f}" if micro < 100 else f"{micro:,.0f}"
