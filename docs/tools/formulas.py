"""Formulas as pictures drawn at build time: nothing is fetched, and no script runs."""

import html
import re
from functools import cache
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.font_manager import FontProperties  # noqa: E402
from matplotlib.textpath import TextPath  # noqa: E402

_SIZE = 100
_SPAN = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)  # what pymdownx.arithmatex leaves
_NAMES = {r"\bmod": r"\ \mathrm{mod}\ ", r"\ge ": r"\geq ", r"\le ": r"\leq "}
_FUNCTIONS = r"(\\(?:cos|exp|ln|log|max|min|sin))"
_BEFORE = re.compile(rf"(?<=[\w)}}]) {_FUNCTIONS}\b")
_COMMANDS = {TextPath.MOVETO: "M", TextPath.LINETO: "L", TextPath.CURVE3: "Q", TextPath.CURVE4: "C"}
_AFTER = re.compile(rf"{_FUNCTIONS} (?=[\w\\])")


def on_page_content(content: str, **_: object) -> str:
    """Put a picture where a page has a formula."""
    return _SPAN.sub(lambda found: _place(found[1], html.unescape(found[2])), content)


def _place(tag: str, formula: str) -> str:
    formula = " ".join(formula.split())
    if tag == "div":  # on a line of its own there is room
        formula = formula.replace(r"\frac", r"\dfrac")
    return f'<{tag} class="formula">{draw(formula)}</{tag}>'


@cache
def draw(formula: str) -> str:
    """A formula as SVG in the color of the text, on its line; as words, it is its own source."""
    known = formula
    for name, other in _NAMES.items():
        known = known.replace(name, other)
    # matplotlib's mathtext leaves no room around a function's name.
    known = _AFTER.sub(r"\1\\,", _BEFORE.sub(r"\\,\1", known))
    path = TextPath((0, 0), f"${known}$", size=_SIZE, prop=FontProperties(math_fontfamily="stix"))
    box = path.get_extents()
    left, top = min(box.x0, 0) - 2, box.y1 + 2
    width, height = box.x1 + 2 - left, top - box.y0 + 2
    lines = "".join(
        "Z" if code == TextPath.CLOSEPOLY else _COMMANDS[code] + _write_points(points)
        for points, code in path.iter_segments(curves=True, simplify=False)
    )
    shown = html.escape(formula, quote=True)
    return (
        f'<svg role="img" aria-label="{shown}" viewBox="{left:.0f} {-top:.0f} {width:.0f} '
        f'{height:.0f}" style="width:{width / _SIZE:.2f}em;height:{height / _SIZE:.2f}em;'
        f'vertical-align:{(box.y0 - 2) / _SIZE:.2f}em"><title>{shown}</title>'
        f'<path d="{lines}"/></svg>'
    )


def _write_points(points: Any) -> str:
    return " ".join(f"{x:.0f} {-y:.0f}" for x, y in points.reshape(-1, 2))
