"""How every picture looks: drawn without a screen, told apart by the color-blind too."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxnet._utils.files import as_path, write_whole

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#777777"
"""Okabe and Ito's: jaxnet is orange and torch blue wherever both are shown."""

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, GRAY]),
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.dpi": 120,
}


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, in the house's style, written to `path` at the end."""
    path = as_path(path)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix[1:].lower())
    write_whole(path, drawn.getvalue(), parents=True)
