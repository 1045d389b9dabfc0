"""The figures of the pages, made from one file of results: `python -m benchmarks.readme`.

Between `<!-- benchmark: PART -->` and `<!-- end -->` a page shows that part's table and nothing
typed by hand; the pictures are drawn into the gallery.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.figures import draw_results
from benchmarks.tables import WIDTH, list_tables, say_machine
from jaxnet._utils.files import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
PAGES = (ROOT / "docs" / "speed.md", ROOT / "docs" / "scaling.md")
GALLERY = ROOT / "docs" / "gallery"
_PLACES = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, results: dict[str, Any]) -> str:
    """A page with the results in their places; a ValueError where a part was not measured."""
    shown = {part: f"```\n{_render(table)}\n```" for part, table in list_tables(results).items()}
    shown["machine"] = say_machine(results)

    def show(place: re.Match) -> str:
        begin, part, end = place.groups()
        if part not in shown:
            raise ValueError(f"the page shows {part!r}, which the results do not hold")
        return f"{begin}{shown[part]}\n{end}"

    return _PLACES.sub(show, text)


def _render(table: Any) -> str:
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None).print(table)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join(line for line in lines if line)


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), default=RESULTS)
def main(path: Path) -> None:
    """Fill the pages from a file that `python -m benchmarks --json` wrote."""
    results = json.loads(path.read_text(encoding="utf-8"))
    for page in PAGES:
        write_whole(page, fill(page.read_text(encoding="utf-8"), results))
    draw_results(results, GALLERY)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.readme")
