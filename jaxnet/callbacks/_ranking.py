"""Which of two reports is the better."""

import math
from typing import Any, Literal, get_args

from jaxnet._utils.validation import nearest
from jaxnet.train.state import Report

Mode = Literal["min", "max"]


def check_mode(mode: Any) -> None:
    """Reject anything but "min" and "max"."""
    if mode not in (known := get_args(Mode)):
        raise ValueError(f"mode must be 'min' or 'max', not {mode!r}{nearest(mode, known)}")


def rank(report: Report, metric: str, mode: Mode) -> float:
    """A report's value, the smaller the better; infinite for NaN."""
    values = {"loss": report.loss} | report.metrics
    if metric not in values:
        raise ValueError(
            f"metric must be one of the reports' ({', '.join(values)}), not {metric!r}"
            f"{nearest(metric, values)}"
        )
    value = values[metric] if mode == "min" else -values[metric]
    return math.inf if math.isnan(value) else value
