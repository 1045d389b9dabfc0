"""The one strict parity helper: shape, dtype, value, and the gradient of every input."""

import functools
import inspect
import os
import reprlib
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.monitoring
import numpy as np
import pytest
import torch

import jaxnet.random
from jaxnet.certificate.bounds import ELEMENTWISE, PREDICTION_MARGIN, Tolerance


def to_numpy(array) -> np.ndarray:
    """A copy: arrays are never shared across the border between frameworks."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy().copy()
    return np.array(array)


def assert_close(actual, expected, tolerance: Tolerance = ELEMENTWISE, *, where: str = "") -> None:
    """Same shape and dtype, every element within `tolerance`; nan and infinities must match."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, torch {expected.shape}"
    assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, torch {expected.dtype}"
    np.testing.assert_allclose(
        actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True, err_msg=where
    )


def assert_same_bits(actual, expected, *, where: str = "") -> None:
    """Same shape, dtype and bits: -0.0 differs from 0.0."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, torch {expected.shape}"
    assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, torch {expected.dtype}"
    actual, expected = (np.atleast_1d(array).view(np.uint8) for array in (actual, expected))
    differing = np.sum(actual != expected)
    assert differing == 0, f"{where}: {differing} bytes differ"


def examples(count: int, **options: Any) -> hypothesis.settings:
    """How many examples are drawn; `make test-slow` draws ten times as many."""
    factor = int(os.environ.get("JAXNET_EXAMPLES", "1"))
    return hypothesis.settings(max_examples=count * factor, deadline=None, **options)


def assert_same_state(generator: jaxnet.random.Generator) -> None:
    """torch's global CPU generator is in this state, to the last byte."""
    assert_same_bits(jaxnet.random.get_state(generator), torch.get_rng_state(), where="state")


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the programs that XLA compiles in here, or that are found on disk."""
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **about: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about["fun_name"].removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def each_row(
    names: str | Sequence[str],
    rows: Iterable[Any],
    *,
    ids: Callable[[Any], str | None] = lambda value: None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`pytest.mark.parametrize` for a long table of one small check, as one test: a test of its own
    costs more than such a row. It makes every row and reports each that fails, by name.

    Fixtures are made once for all rows. A row that skips fails: it would hide those after it.
    """
    names = names.replace(",", " ").split() if isinstance(names, str) else names
    table = [(row,) if len(names) == 1 else tuple(row) for row in rows]
    assert table, "there is no row"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def make_rows(**fixtures: Any) -> None:
            failed = []
            for number, row in enumerate(table, 1):
                try:
                    test(**fixtures, **dict(zip(names, row, strict=True)))
                except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
                    label = "-".join(ids(value) or _show(value) for value in row)
                    failed.append(f"row {number}, {label}\n{_describe(error)}")
            if failed:
                heading = f"{len(failed)} of {len(table)} rows failed"
                pytest.fail("\n\n".join([heading, *failed]), pytrace=False)

        # pytest looks here for the fixtures.
        signature = inspect.signature(test)
        others = [value for name, value in signature.parameters.items() if name not in names]
        vars(make_rows)["__signature__"] = signature.replace(parameters=others)
        return make_rows

    return decorate


def _show(value: Any) -> str:
    if getattr(value, "__name__", "") == "<lambda>":
        return f"lambda of line {value.__code__.co_firstlineno}"
    shown = value if isinstance(value, str) else getattr(value, "__name__", reprlib.repr(value))
    return " ".join(shown.split())


def _describe(error: BaseException) -> str:
    """What was raised, after the lines of the test, of its last helper and of what raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if Path(__file__).parent in Path(f.filename).parents]
    shown = (*ours[1:2], ours[-1], frames[-1])
    places = [f"{Path(f.filename).name}:{f.lineno}: {f.line}" for f in shown]
    lines = [*dict.fromkeys(places), *traceback.format_exception_only(error)]
    return textwrap.indent("\n".join(line.rstrip() for line in lines), "    ")


class Enough(Exception):
    """Ends one of `torchref`'s loops from its `watch`: they run as long as the lecture's."""


def list_differing(
    right_jax: np.ndarray, right_torch: np.ndarray, margins: np.ndarray, *, exact: bool
) -> list[int]:
    """Rows that one side gets right and the other wrong: none where they must be `exact`, else
    only rows whose margin to the decision, in float64, is below `PREDICTION_MARGIN`."""
    assert right_jax.shape == right_torch.shape == margins.shape
    rows = np.flatnonzero(right_jax != right_torch)
    far = rows if exact else rows[margins[rows] >= PREDICTION_MARGIN.atol]
    assert len(far) == 0, f"rows {far.tolist()} differ, at margins {margins[far].tolist()}"
    return rows.tolist()


class Case(NamedTuple):
    """A function of each framework, called as `function(*inputs, *constants)`."""

    jax: Callable
    torch: Callable
    inputs: Sequence[np.ndarray]
    """Of these the gradients are compared too."""
    constants: Sequence[np.ndarray] = ()
    tolerance: Tolerance = ELEMENTWISE


def assert_same_functions(cases: Mapping[Any, Case]) -> None:
    """Hold the functions of the two frameworks side by side, under jit; name each case that fails.

    Values are compared, then the gradient of every input, contracted with a random cotangent:
    `.sum()` and `.mean()` would hide errors that cancel. One program computes all cases: a program
    for each takes three times as long to compile.
    """
    assert cases, "there is no case"
    every, arrays, expected = list(cases.values()), [], []
    for case in every:
        leaves = [torch.tensor(value, requires_grad=True) for value in case.inputs]
        output = case.torch(*leaves, *map(torch.tensor, case.constants))
        cotangent = np.random.default_rng(0).normal(size=tuple(output.shape))
        cotangent = cotangent.astype(to_numpy(output).dtype)
        arrays.append((tuple(case.inputs), tuple(case.constants), cotangent))
        if leaves:
            output.backward(torch.tensor(cotangent))
        slopes = [torch.zeros_like(v) if v.grad is None else v.grad for v in leaves]
        expected.append((output, slopes))

    def differentiate(case: Case, inputs, constants, cotangent):
        output, pullback = jax.vjp(lambda *xs: case.jax(*xs, *constants), *inputs)
        # Of another kind there is no gradient; what the output is, is said below.
        same = (output.shape, output.dtype) == (cotangent.shape, cotangent.dtype)
        return output, pullback(cotangent) if same else inputs

    @jax.jit
    def differentiate_all(arrays):
        return [differentiate(case, *own) for case, own in zip(every, arrays, strict=True)]

    failed, found = [], differentiate_all(arrays)
    for name, own, theirs in zip(cases, found, expected, strict=True):
        case = cases[name]
        try:
            assert_close(own[0], theirs[0], case.tolerance, where="value")
            for i, (grad, slope) in enumerate(zip(own[1], theirs[1], strict=True)):
                assert_close(grad, slope, case.tolerance, where=f"gradient of input {i}")
        except AssertionError as error:
            failed.append(f"{name}, {textwrap.shorten(str(case.jax), 300)}: {error}")
    assert not failed, "\n".join([f"{len(failed)} of {len(cases)} cases fail", *failed])


def assert_same_function(
    function_jax: Callable,
    function_torch: Callable,
    inputs: Sequence[np.ndarray],
    *,
    constants: Sequence[np.ndarray] = (),
    tolerance: Tolerance = ELEMENTWISE,
) -> None:
    """The same of one function."""
    case = Case(function_jax, function_torch, inputs, constants, tolerance)
    assert_same_functions({"it": case})
