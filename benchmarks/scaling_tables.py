"""What `benchmarks.scaling` measured and says, as tables and sentences for docs/scaling.md."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.scaling import (
    ACCELERATORS,
    ALONE,
    LECTURE,
    MANY,
    PLAIN,
    WIDE,
    Model,
    find_batch,
    fit_model,
    middle,
    predict_row,
    reduce_seconds,
    select,
    step_far,
)
from benchmarks.tables import _make_table

CAPTIONS = {
    "scaling": "Microseconds of a training step: median, min-max, what the model says, the "
    "measured time as a multiple of that, and how many times as fast as on one device.",
    "communication": "What a training program sends, read from the compiled program: collectives "
    "of a step, their operands on each device, and all of an epoch.",
    "all_reduce": "Microseconds of an all-reduce alone, measured, and what the model says.",
    "accelerators": "What the model says of accelerators: microseconds of a step.",
    "pays": "The smallest power of two of rows in a batch from which so many accelerators are a "
    "tenth faster than one / half as many times as fast as there are of them.",
    "assumed": "What is assumed of accelerators.",
}
STRONG = (
    (LECTURE, 16),
    (LECTURE, 65_536),
    (PLAIN, 16),
    (PLAIN, 65_536),
    (WIDE, 1024),
    (WIDE, 65_536),
)
WEAK = ((LECTURE, 1024), (PLAIN, 1024), (WIDE, 1024))
CLOSE = (1.25, 1.5, 2.0)


def list_scaling(results: dict[str, Any]) -> dict[str, Table]:
    """The tables, by the names of their places in the page; none where nothing was measured."""
    rows = results.get("scaling")
    if not rows:
        return {}
    model = fit_model(rows)
    return {
        "communication": tabulate_communication(rows),
        "all_reduce": tabulate_reductions(rows, model),
        "scaling": tabulate_steps(rows, model),
        "assumed": tabulate_assumed(),
        "accelerators": tabulate_accelerators(),
        "pays": tabulate_gains(),
    }


def say_scaling(results: dict[str, Any]) -> dict[str, str]:
    """The sentences, by the names of their places in the page; none where nothing was measured."""
    rows = results.get("scaling")
    if not rows:
        return {}
    model = fit_model(rows)
    return {
        "fitted": say_fitted(model),
        "agreement": say_agreement(rows, model),
        "gained": say_gained(rows),
    }


def tabulate_communication(rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each case on the most devices; where weights are spread, on each number of them."""
    table = _make_table(
        ("net", "weights"),
        (
            "batch",
            "devices",
            "a step",
            "tensors",
            "KB",
            "steps of\nan epoch",
            "its\nsends",
            "its\nMB",
        ),
    )
    found = [row for row in rows if row["kind"] == "communication"]
    most = max(row["devices"] for row in found)
    for row in found:
        if row["devices"] < most and not row["spread"]:
            continue
        lead = (row["net"], "spread" if row["spread"] else "whole", f"{row['batch']:,}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items()) or "nothing"
        sent = [kinds, f"{row['tensors']}", f"{row['bytes'] / 1e3:,.1f}", f"{row['steps']}"]
        sent += [f"{row['epoch_runs']}", f"{row['epoch_bytes'] / 1e6:.1f}"]
        table.add_row(*lead, str(row["devices"]), *(sent if row["agree"] else ["DIFFER"]))
    return table


def tabulate_reductions(rows: Sequence[dict[str, Any]], model: Model) -> Table:
    """A row for each set of vectors, two columns for each set of devices."""
    found = [row for row in rows if row["kind"] == "all_reduce"]
    places = list(dict.fromkeys((row["devices"], row["place"]) for row in found))
    heads = [(f"{count} {place}\nus", "model\nus") for count, place in places]
    table = _make_table((), ("tensors", "bytes", *(head for pair in heads for head in pair)))
    for vectors in dict.fromkeys((row["tensors"], row["bytes"]) for row in found):
        cells = []
        for place in places:
            (row,) = (
                row
                for row in found
                if (row["tensors"], row["bytes"]) == vectors
                and (row["devices"], row["place"]) == place
            )
            model_seconds = reduce_seconds(model.links[row["place"]], *vectors, row["devices"])
            measured = _micro(middle(row)) if row["agree"] else "DIFFER"
            cells += [measured, _micro(model_seconds)]
        table.add_row(str(vectors[0]), f"{vectors[1]:,}", *cells)
    return table


def tabulate_steps(rows: Sequence[dict[str, Any]], model: Model) -> Table:
    """A row for each case on each set of devices."""
    table = _make_table(
        ("net", "weights"),
        (
            "batch",
            "on",
            "n",
            "us",
            "min-max",
            "model\nus",
            "measured\n/ model",
            "times as\nfast as 1",
        ),
    )
    table.add_column("loss\ngap", justify="right", no_wrap=True)
    for row in rows:
        if row["kind"] != "step":
            continue
        lead = (row["net"], "spread" if row["spread"] else "whole", f"{row['batch']:,}")
        times = ["DIFFER", "", "", "", ""]
        if row["agree"]:
            seconds, model_seconds = row["seconds"], predict_row(model, row)
            times = [_micro(middle(row)), f"{_micro(min(seconds))}-{_micro(max(seconds))}"]
            times += ["", ""]
            if model_seconds is not None:
                times[2:] = [_micro(model_seconds), f"{middle(row) / model_seconds:.2f}"]
            gain = find_gain(rows, row)
            times.append("" if gain is None else f"{gain:.2f}")
        table.add_row(
            *lead, _say_place(row), str(len(row["seconds"])), *times, f"{row['loss_gap']:.0e}"
        )
    return table


def find_gain(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> float | None:
    """How many times as fast as the same batch on one device; None of one device itself."""
    if row["devices"] == 1:
        return None
    same = [one for one in select(rows, "step") if one["devices"] == 1]
    alone = [one for one in same if all(one[name] == row[name] for name in ("net", "batch"))]
    return middle(alone[0]) / middle(row) if alone else None


def tabulate_assumed() -> Table:
    """A row for each accelerator."""
    table = _make_table(
        ("", "others are"),
        ("TFLOP/s", "TB/s", "reached", "tile\nrows", "op\nus", "start\nus"),
    )
    for heading in ("hop\nus", "GB/s", "node\nus", "node\nGB/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in ACCELERATORS:
        (near, width), (far, far_width) = one.near, one.far
        links = [f"{1e6 * near:.1f}", f"{width / 1e9:.0f}"]
        links += [f"{1e6 * far:.1f}", f"{far_width / 1e9:.0f}"] if one.group else ["", ""]
        table.add_row(
            one.name,
            f"in nodes of {one.group}" if one.group else "a torus of all",
            f"{one.peak / 1e12:.1f}",
            f"{one.memory / 1e12:.2f}",
            f"{one.share:.0%}",
            str(one.tile),
            f"{1e6 * one.launch:.0f}",
            f"{1e6 * one.start:.1f}",
            *links,
        )
    return table


def tabulate_accelerators() -> Table:
    """A row for each net and batch on each accelerator, a column for each number of them."""
    table = _make_table(("on", "net", "rows of a batch"), [f"{count:,}" for count in MANY])
    for device in ACCELERATORS:
        for net, batch in STRONG:
            steps = [_micro(step_far(device, net, batch, count)) for count in MANY]
            table.add_row(device.name, net.name, f"{batch:,} in all", *steps)
        for net, batch in WEAK:
            steps = [_micro(step_far(device, net, batch * count, count)) for count in MANY]
            table.add_row(device.name, net.name, f"{batch:,} on each", *steps)
    return table


def tabulate_gains() -> Table:
    """A row for each net on each accelerator."""
    counts = MANY[1:]
    table = _make_table(("on", "net"), [f"{count:,}" for count in counts])
    for device in ACCELERATORS:
        for net in (LECTURE, PLAIN, WIDE):
            cells = []
            for count in counts:
                batches = [find_batch(device, net, count, gain) for gain in (1.1, count / 2)]
                cells.append(" / ".join("never" if one is None else f"{one:,}" for one in batches))
            table.add_row(device.name, net.name, *cells)
    return table


def say_fitted(model: Model) -> str:
    """The numbers that were fitted."""
    shared, ring = model.links["devices"], model.links["processes"]
    works = "; ".join(
        f"the {net.name} net {1e6 * model.work[net.name].fixed:,.0f} us and "
        f"{1e6 * model.work[net.name].each:,.2f} us a row"
        for net in ALONE
    )
    return (
        f"Devices of one process: {1e6 * shared.latency:.1f} us for each tensor and device, "
        f"{_gigabytes(shared.bandwidth)} through their memory. Two processes over Gloo: "
        f"{1e6 * ring.latency:,.0f} us for each tensor and turn, {_gigabytes(ring.bandwidth)}. "
        f"A step on one core: {works}. A number of a mask: {1e9 * model.draw:.2f} ns. "
        f"Cores: {model.cores}."
    )


def say_agreement(rows: Sequence[dict[str, Any]], model: Model) -> str:
    """How far the model is from the measured steps."""
    ratios = {}
    for row in select(rows, "step"):
        seconds = predict_row(model, row)
        if seconds is not None:
            name = f"{row['net']} net, {row['batch']:,} rows, {_say_place(row)}"
            ratios[name] = middle(row) / seconds
    apart = [max(ratio, 1 / ratio) for ratio in ratios.values()]
    within = ", ".join(
        f"{sum(one <= bound for one in apart)} within a factor of {bound}" for bound in CLOSE
    )
    off = {name: ratio for name, ratio in ratios.items() if max(ratio, 1 / ratio) > CLOSE[1]}
    names = "; ".join(f"{name}: {ratio:.2f}" for name, ratio in off.items()) or "none"
    return (
        f"Of {len(ratios)} steps that the model predicts, {within}. Measured over predicted where "
        f"that is off by more than a factor of {CLOSE[1]}: {names}."
    )


def say_gained(rows: Sequence[dict[str, Any]]) -> str:
    """Where several devices were faster than one, on the measured machine."""
    gains = {}
    for row in select(rows, "step"):
        gain = find_gain(rows, row)
        if gain is not None:
            spread = ", weights spread" if row["spread"] else ""
            name = f"{row['net']} net, {row['batch']:,} rows{spread}, {_say_place(row)}"
            gains[name] = gain
    faster = {name: gain for name, gain in gains.items() if gain > 1.1}
    names = "; ".join(f"{name}: {gain:.2f} times" for name, gain in faster.items()) or "none"
    return (
        f"Of {len(gains)} measured, those that were faster than one device by more than a tenth: "
        f"{names}. The slowest: {min(gains, key=gains.__getitem__)}, "
        f"{1 / min(gains.values()):.0f} times as long as one device."
    )


def _say_place(row: dict[str, Any]) -> str:
    if row["place"] == "processes":
        return f"{row['devices']} processes"
    return "1 device" if row["devices"] == 1 else f"{row['devices']} devices"


def _micro(seconds: float) -> str:
    micro = 1e6 * seconds
    return f"{micro:,.1f}" if micro < 100 else f"{micro:,.0f}"


def _gigabytes(bandwidth: float) -> str:
    return f"{bandwidth / 1e9:.2f} GB/s"
