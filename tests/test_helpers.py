"""The loop over a table's rows, on which the teeth of many tests rest."""

import pytest

from tests.helpers import each_row

ROWS = {
    "sound": lambda: None,
    "wrong": lambda: pytest.fail("another number"),
    "skips": lambda: pytest.skip("not here"),
    "raises": lambda: {}["key"],
    "sound, and last": lambda: None,
}


@each_row("name", list(ROWS)[::4])
def test_fixtures_reach_the_rows(name, request):
    assert ROWS[name]() is None and request.node.name == "test_fixtures_reach_the_rows"


def test_every_row_is_made_and_each_that_fails_is_named():
    made = []

    @each_row("name, call", ROWS.items(), ids=lambda value: "a call" if callable(value) else None)
    def make(name, call):
        made.append(name)
        call()

    with pytest.raises(pytest.fail.Exception) as caught:
        make()
    assert made == list(ROWS)
    heading, *reports = str(caught.value).split("\n\n")
    assert heading == "3 of 5 rows failed"
    for report, label, said in zip(
        reports,
        ("row 2, wrong-a call", "row 3, skips-a call", "row 4, raises-a call"),
        ("Failed: another number", "Skipped: not here", "KeyError: 'key'"),
        strict=True,
    ):
        first, *_, last = report.splitlines()
        assert first == label and last.strip() == said and "test_helpers.py:" in report


def test_a_table_without_rows_is_no_test():
    with pytest.raises(AssertionError, match="there is no row"):
        each_row("name", [])
