"""The table of operations, made from the registry."""

import inspect
import json
from pathlib import Path
from typing import Any

from jaxnet.program import rules
from jaxnet.program.registry import RULES

SHARES = json.loads((Path(__file__).parents[1] / "opinfo.json").read_text(encoding="utf-8"))
"""By ATen's name, torch's samples that pass and that were tried."""

MARK = "`docs/tools/operations.py` puts the table here."


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Put the table in its place on the page of that name."""
    if page.file.src_uri != "operations.md":
        return markdown
    assert MARK in markdown, "docs/operations.md has no place for its table"
    return markdown.replace(MARK, write_tables())


def write_tables() -> str:
    """A heading for each room with what it is about, and its operations, one rule a line."""
    lines = [f"There are rules for {len(RULES)} operators of torch's."]
    for room in sorted({rule.source for rule in RULES.values()}):
        module = getattr(rules, room.rpartition(".")[2])
        title = room.rpartition(".")[2].capitalize()
        lines += ["", f"## {title}", "", inspect.getdoc(module) or "", ""]
        lines += ["| operators | what the rule says of them | torch's samples |", "|---|---|---|"]
        lines += [
            f"| {', '.join(f'`{name}`' for name in names)} | {said} | {_count(names)} |"
            for names, said in _list_rules(room)
        ]
    return "\n".join(lines)


def _count(names: list[str]) -> str:
    """How many of torch's samples of these operators pass; nothing where it has none."""
    counts = [SHARES[base] for base in {name.partition(".")[0] for name in names} if base in SHARES]
    passed, made = map(sum, zip(*counts, strict=True)) if counts else (0, 0)
    return f"{passed} of {made}" if made else ""


def _list_rules(room: str) -> list[tuple[list[str], str]]:
    """The operators of each function, and the first paragraph of its docstring."""
    functions: dict[Any, list[str]] = {}
    for name, rule in RULES.items():
        if rule.source == room:
            function = getattr(rule.function, "func", rule.function)
            functions.setdefault(function, []).append(name.removeprefix("aten."))
    return [(names, _describe(function)) for function, names in functions.items()]


def _describe(function: Any) -> str:
    said = (inspect.getdoc(function) or "").split("\n\n")[0]
    return " ".join(said.split()).replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")
