"""How every picture looks: drawn without a screen, told apart by the color-blind too."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxnet._utils.files import as_path, write_whole
from jaxnet._utils.validation import check_number

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#777777"
"""Okabe and Ito's: jaxnet is orange and torch blue wherever both are shown."""

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.dpi": 120,
}


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, in the house's style, written to `path` at the end."""
    check_picture(path)
    for name, inches in (("width", width), ("height", height)):
        if not check_number(name, inches) > 0:
            raise ValueError(f"{name} must be a positive number of inches, not {inches}")
    path = as_path(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:].lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())


def check_picture(path: str | os.PathLike) -> None:
    """Reject a file name that does not end as a picture's does.

    >>> check_picture("digits.png")
    """
    kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
    if as_path(path).suffix[1:].lower() not in kinds:
        endings = ", ".join(f".{kind}" for kind in kinds)
        raise ValueError(f"the path of a picture must end in one of {endings}, not {path}")
