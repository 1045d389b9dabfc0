"""The table of operations, made from the registry."""

import inspect
from typing import Any

from jaxnet.program import rules
from jaxnet.program.registry import RULES

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
        lines += ["| operators | what the rule says of them |", "|---|---|"]
        lines += [f"| {names} | {said} |" for names, said in _list_rules(room)]
    return "\n".join(lines)


def _list_rules(room: str) -> list[tuple[str, str]]:
    """The operators of each function, and the first paragraph of its docstring."""
    functions: dict[Any, list[str]] = {}
    for name, rule in RULES.items():
        if rule.source == room:
            function = getattr(rule.function, "func", rule.function)
            functions.setdefault(function, []).append(f"`{name.removeprefix('aten.')}`")
    return [(", ".join(names), _describe(function)) for function, names in functions.items()]


def _describe(function: Any) -> str:
    said = (inspect.getdoc(function) or "").split("\n\n")[0]
    return " ".join(said.split()).replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")
