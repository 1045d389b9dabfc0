"""The loop over a table's rows and the comparison of many functions, on which many tests rest."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.helpers import Case, assert_same_functions, each_row

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


def test_each_function_that_differs_is_named():
    x = [np.linspace(-1, 1, 5, dtype=np.float32)]
    cases = {
        "same": Case(jnp.sin, torch.sin, x),
        "value": Case(jnp.cos, torch.sin, x),
        "gradient": Case(lambda x: jax.lax.stop_gradient(jnp.sin(x)), torch.sin, x),
        "shape": Case(lambda x: jnp.sin(x).sum(), torch.sin, x),
        "type": Case(lambda x: jnp.sin(x).astype("bfloat16"), torch.sin, x),
    }
    with pytest.raises(AssertionError) as caught:
        assert_same_functions(cases)
    heading, *said = re.split(r"^(?=\w+, )", str(caught.value), flags=re.MULTILINE)
    assert heading == "4 of 5 cases fail\n"
    parts = {"value": "value", "gradient": "gradient of input 0", "shape": "shape", "type": "dtype"}
    for report, (name, part) in zip(said, parts.items(), strict=True):
        assert report.startswith(f"{name}, ") and part in report
