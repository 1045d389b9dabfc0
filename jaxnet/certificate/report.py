"""A certificate for people: text for a terminal, one page of HTML with the gap as a picture."""

import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnet._utils.files import write_whole
from jaxnet.certificate.causes import FORMULAS

if TYPE_CHECKING:
    from jaxnet.certificate.verdict import Certificate


def write_text(certificate: "Certificate") -> str:
    """The certificate for a terminal of 80 columns."""
    lines = [headline(certificate), ""]
    if certificate.divergence is not None:
        lines += [*describe(certificate), ""]
    lines += _table(stage_rows(certificate))
    if certificate.timing is not None:
        lines += ["", *certificate.timing.lines()]
    lines += ["", *_notes(certificate), ""]
    lines += [f"{name + ':':<14}{value}" for name, value in facts(certificate)]
    return "\n".join(lines)


def headline(certificate: "Certificate") -> str:
    """The verdict in a sentence."""
    d = certificate.divergence
    if d is not None and not d.step:
        return f"DIVERGE before the first step: {d.stage} of {d.tensor}."
    if d is not None:
        return f"DIVERGE in epoch {d.epoch}, step {d.step}: {d.stage} of {d.tensor}."
    if certificate.missing:
        first, _, why = certificate.missing[0].partition(": ")
        others = len(certificate.missing) - 1
        more = f" and {others} more" if others else ""
        return f"UNDECIDED: {first}{more} could not be compared: {why}."
    stages = [name for name in certificate.stages if name not in _BESIDE]
    if certificate.chaos < certificate.steps:
        stages[-1] += f" up to step {certificate.chaos}"
    named = ", ".join(stages[:-1]) + " and " + stages[-1]
    granted = [name for name in certificate.granted if name in FORMULAS]
    known = f"granted {' and '.join(granted)}" if granted else ""
    agree = ", ".join(filter(None, ["AGREE", certificate.settings.get("scope"), known]))
    return f"{agree}: {certificate.steps} steps; {named} lie within their bounds."


def describe(certificate: "Certificate") -> list[str]:
    """The first divergence, line by line."""
    d = certificate.divergence
    assert d is not None
    place = "" if d.index is None else f"[{', '.join(map(str, d.index))}]"
    lines = [f"{d.tensor}{place}", f"  jax      {_value(d.jax)}", f"  torch    {_value(d.torch)}"]
    if d.exact is not None:
        lines.append(f"  float64  {_value(d.exact)}")
    if d.ulps is not None:
        lines.append(f"  apart by {d.ulps:.4g} ulp of float32")
    if d.error is not None and d.torch_error is not None:
        lines.append(
            f"  error against float64 {d.error:.3g}, bound {d.bound:.3g}; "
            f"torch's own largest {d.torch_error:.3g}"
        )
    elif d.error is not None:
        lines.append(f"  gap {d.error:.3g}, bound {d.bound:.3g}")
    for title, sentences in (("causes", d.causes), ("worth a look", d.hints)):
        lines += [f"  {title}:", *(f"    - {each}" for each in sentences)] if sentences else []
    return lines


def stage_rows(certificate: "Certificate") -> list[tuple[str, ...]]:
    """A row for each stage: what was compared, and its worst tensor."""
    rows = []
    for name, stage in certificate.stages.items():
        exact = stage.share == 0.0 and stage.error == 0.0 and stage.torch_error == 0.0
        figures = ("exact", "", "") if exact else (
            f"{stage.share:.2f}",
            f"{stage.error:.3g}",
            f"{stage.torch_error:.3g}" if stage.torch_error else "",
        )  # fmt: skip
        given, checked = certificate.given[name], certificate.checked[name]
        # Rounded down: 100% is all of them.
        share = f"{math.floor(1e4 * checked / given) / 100:g}%" if given else ""
        rows.append((name, f"{checked:,}", share, *figures, stage.tensor))
    return rows


HEADINGS = ("stage", "numbers", "compared", "of bound", "jax", "torch", "worst tensor")

_MOST = 8
"""Tensors that are named; a deep net has hundreds."""

_BESIDE = ("initial weights", "rows", "masks", "weights", "stream")
"""Stages that the first line does not name."""


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    cells = [HEADINGS, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
    lines = []
    for row in cells:
        middle = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *middle, row[-1]]).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _notes(certificate: "Certificate") -> list[str]:
    notes = [
        "of bound: the largest error against float64 as a share of what is allowed;",
        "jax, torch: largest errors, in 2^-23 of the tensor's largest element",
        "(whole run: the gap to torch's own run).",
    ]
    if certificate.settings.get("port") == "the caller's":
        notes.append("The port is given torch's rows and draws; a loop of your own is not run.")
    unseen = (*certificate.missing, *certificate.uncompared)
    notes += [f"Not compared at any step: {what}." for what in unseen[:_MOST]]
    if more := unseen[_MOST:]:
        notes.append(f"Not compared at any step: {len(more)} more tensors.")
    if certificate.overflowed:
        notes.append(f"From step {certificate.overflowed} on torch's loss is not finite.")
    if certificate.divergence is None and certificate.chaos < certificate.steps:
        notes.append(
            f"From step {certificate.chaos + 1} on rounding has grown to 1e-3 of torch's "
            "own losses (in its runs from\nweights and rows moved by an ulp or a few): up to there "
            "the losses of whole runs are compared."
        )
    if certificate.kinks:
        notes.append(
            f"{certificate.kinks:,} times the port chose another side of a kink than torch, within "
            "rounding:\nits gradients are compared with those of its own choice."
        )
    notes += [_granted(name, share) for name, share in certificate.granted.items()]
    if certificate.settings.get("decay"):
        notes.append(f"In float32 there is {certificate.settings['decay']}.")
    told = [match for match in certificate.matches if not match.endswith("by name")]
    notes += _listed("Leaves of the port that names alone do not tell:", told)
    notes += _listed("Layers whose outputs the port does not compute apart:", certificate.unseen)
    if certificate.noise[0]:
        most = sorted(certificate.noise_by_tensor.items(), key=lambda item: -item[1])
        named = ", ".join(f"{count:,} of {name}" for name, count in most[:2])
        named += f", and {len(most) - 2} more" if len(most) > 2 else ""
        notes.append(
            f"Rounding decides more than 1% of the steps of {certificate.noise[0]:,} of the "
            f"{certificate.noise[1]:,} elements\n({named}): both whole runs hold them still."
        )
    return notes


def _granted(name: str, share: float) -> str:
    if name in FORMULAS:
        return f"Granted, a difference of formula: {name}, {FORMULAS[name]}, by up to {share:.2g}."
    return f"Granted, a difference of float32 arithmetic: {name}, {share:.2g} of a step."


def _listed(title: str, entries: Sequence[str]) -> list[str]:
    """Some entries, one a line, and how many more there are."""
    if not entries:
        return []
    more = [f"  and {len(entries) - _MOST} more"] if len(entries) > _MOST else []
    return [title, *(f"  {entry}" for entry in entries[:_MOST]), *more]


def facts(certificate: "Certificate") -> list[tuple[str, str]]:
    """Settings, machine and digests, in the order in which they are shown."""
    settings, machine = dict(certificate.settings), dict(certificate.machine)
    kept = {k: v for k, v in settings.items() if v is not None}
    groups = [
        ("net", ("net", "layers", "parameters")),
        ("training", ("loss", "optimizer", "scheduler", "scheduler_interval", "dropout", "port")),
        ("run", ("rows", "epochs", "batch_size", "shuffle", "seed")),
    ]
    found = [
        (name, ", ".join(f"{k} {kept[k]}" for k in keys if k in kept)) for name, keys in groups
    ]
    versions = ("jaxnet", "torch", "jax", "jaxlib", "flax", "optax", "numpy", "python")
    found.append(("versions", ", ".join(f"{key} {machine[key]}" for key in versions[:4])))
    found.append(("", ", ".join(f"{key} {machine[key]}" for key in versions[4:])))
    found += [(key, machine[key]) for key in ("platform", "processor", "backend", "precision")]
    return found + [(key, value[:32]) for key, value in certificate.digests.items()]


def _value(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def draw_gap(certificate: "Certificate") -> str:
    """The gap between the losses over the steps, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for gaps, style, label in (
        (certificate.gaps, {"marker": ".", "markersize": 3}, "one step, from the same weights"),
        (
            certificate.run_gaps,
            {"marker": "o", "markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.6},
            "two whole runs, each from its own weights",
        ),
    ):
        if len(gaps):
            steps = np.arange(1, len(gaps) + 1)
            axes.plot(steps, np.maximum(gaps, 1e-9), linestyle="none", label=label, **style)
    axes.set(yscale="log", xlabel="step", ylabel="|jax - torch| / |torch|", ylim=(5e-10, None))
    axes.set_title("Gap between the losses (equal ones are at the bottom)", fontsize=10)
    axes.axhline(2.0**-23, color="0.6", linewidth=0.8, linestyle="--", label="2^-23")
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; color: #222 }
h1 { font-size: 1.5rem; padding: .6rem .9rem; border-left: .4rem solid }
.agree { border-color: #2a7d46; background: #eaf6ee }
.diverge { border-color: #b3261e; background: #fbecea }
.undecided { border-color: #8a6d00; background: #fdf6dd }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child, td:last-child, th:last-child, .facts td { text-align: left }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; white-space: pre-wrap }
svg { max-width: 100%; height: auto }
small { color: #555 }
"""


def write_html(certificate: "Certificate") -> str:
    """The certificate as one page that needs nothing else."""
    verdict = certificate.verdict.lower()
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in stage_rows(certificate)
    )
    known = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in facts(certificate)
    )
    timed = ""
    if certificate.timing is not None:
        timed = f"<pre>{html.escape(chr(10).join(certificate.timing.lines()))}</pre>"
    parted = ""
    if certificate.divergence is not None:
        parted = f"<pre>{html.escape(chr(10).join(describe(certificate)))}</pre>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Certificate: {certificate.verdict}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1 class="{verdict}">{html.escape(headline(certificate))}</h1>
{parted}
<table><tr>{head}</tr>{rows}</table>
{timed}
<p><small>{html.escape(" ".join(_notes(certificate)))}</small></p>
{draw_gap(certificate)}
<table class="facts">{known}</table>
</body></html>
"""


_WRITERS = {
    ".html": write_html,
    ".json": lambda certificate: (
        json.dumps(certificate.to_json(), indent=2, allow_nan=False) + "\n"
    ),
    ".txt": lambda certificate: write_text(certificate) + "\n",
}


def save(certificate: "Certificate", path: Path) -> Path:
    """Write a certificate under the name's ending, whole or not at all."""
    if path.suffix not in _WRITERS:
        raise ValueError(f"path must end in {', '.join(_WRITERS)}, not {path.name!r}")
    write_whole(path, _WRITERS[path.suffix](certificate))
    return path
