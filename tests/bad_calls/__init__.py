"""Calls of jaxnet's public functions that must be refused: the table of `tests/test_bad_input.py`.

A module a room, each with its `ROWS`; a new module is found by itself. `python -m tests.bad_calls`
makes every call, as a user's program would: without the run-time checks of annotations that the
tests switch on, which would refuse much of it first, in another wording.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A call that must be refused, and how."""

    name: str
    """The dotted name of the public function or class that refuses."""
    argument: str
    """What the message names."""
    call: Callable[[Path], Any]
    """Takes a folder with the files of `tests.bad_calls.files`; nothing in it may change."""
    says: str
    """A regular expression that the message has: what came, and what was expected."""
    raises: type[Exception] = ValueError
    several_lines: bool = False
    """Whether the message lists differences, a line each."""


def of_values(name: str, argument: str, call: Callable[[Any], Any], *table: Any) -> list[Row]:
    """A row for each value that `call` must refuse: `(value, says)`, then the rest of a `Row`."""
    return [
        Row(name, argument, lambda _, v=value: call(v), says, *rest) for value, says, *rest in table
    ]


def of(name: str, call: Callable[..., Any], **bad: Any) -> list[Row]:
    """Rows of a call that is right but for one argument: of each, what it must not be, such as a
    kind of `tests.bad_calls.kinds`."""
    return [
        row
        for argument, table in bad.items()
        for row in of_values(name, argument, lambda v, a=argument: call(**{a: v}), *table)
    ]


def of_files(name: str, read: Callable[[Path], Any], *table: Any) -> list[Row]:
    """A row for each file that `read` must refuse, which the message names."""
    return [Row(name, file, lambda at, f=file: read(at / f), *rest) for file, *rest in table]


def collect() -> dict[str, Row]:
    """Every row, by its function, its argument and a number."""
    rows: dict[str, Row] = {}
    numbers: Counter[str] = Counter()
    for module in sorted(part.name for part in pkgutil.iter_modules(__path__)):
        if module != "__main__":
            for row in getattr(importlib.import_module(f"{__name__}.{module}"), "ROWS", ()):
                label = f"{row.name.removeprefix('jaxnet.')}-{row.argument}"
                numbers[label] += 1
                rows[f"{label}-{numbers[label]}"] = row
    return rows
