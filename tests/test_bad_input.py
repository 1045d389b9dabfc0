"""Bad input, everywhere: every public function's refusals, as a user's program meets them."""

import functools
import importlib
import json
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import jaxnet
import torchref
from tests.bad_calls import Row, collect
from tests.bad_calls.__main__ import Watch
from tests.bad_calls.commands import CALLS
from tests.bad_calls.files import make_files
from tests.helpers import each_row
from tests.integration import ROOT, run_python

ROWS = collect()


def _named(reason: str, names: str) -> dict[str, str]:
    return {f"jaxnet.{name}": reason for name in names.split()}


TAKES_NO_BAD_INPUT = {
    **_named(
        "a plain record: whoever takes it checks it",
        "History TrainState callbacks.Chunk callbacks.Run certificate.Divergence certificate.Stage"
        " certificate.Timing"
        " certificate.bounds.Tolerance certificate.bounds.View data.Batching data.Dataset"
        " lecture.Published lecture.Result lecture.doctor.Finding"
        " optim.AdagradState optim.AdamState optim.DampeningState"
        " optim.RMSpropState random.Generator sweep.Lane sweep.Progress train.Program train.Report"
        " train.StepInfo program.Input program.Node program.Output program.Port program.Program"
        " program.Ref program.Rule program.Spec program.Symbol program.Tensor",
    ),
    **_named(
        "an error",
        "callbacks.Interrupted callbacks.NotFinite callbacks.Stop convert.Unsupported"
        " checkpoint.CheckpointMismatchError checkpoint.CorruptCheckpointError sweep.Interrupted",
    ),
    **_named(
        "takes nothing that could be wrong",
        "cache.clear callbacks.Callback callbacks.DeferredSigint callbacks.NanGuard"
        " train.SingleDevice program.Keyed program.Listing",
    ),
    "jaxnet.cache.kept_programs": "takes a truth value alone",
    "jaxnet.callbacks.Progress": "shows any name; the run's epochs were checked",
    "jaxnet.certificate.bounds.half_precision": "multiplies the number that it is given",
    "jaxnet.certificate.headline": "a sentence about what `certify` gave",
    "jaxnet.certificate.kernel_causes": "looks at arrays of which `certify` gave the shapes",
    "jaxnet.data.Source": "a protocol",
    "jaxnet.lecture.missed": "looks at a record that `run` made",
    "jaxnet.lecture.torch_results.digest_rows": "looks at rows that `run` checks",
    "jaxnet.lecture.make_record": "packs what `run` and torchref measured, and looks at none of it",
    "jaxnet.nn.Identity": "takes anything and gives it back",
    "jaxnet.nn.Module": "the base of the layers: has no arguments of its own",
    "jaxnet.precision.as_array": "takes what `jax.numpy.asarray` takes, in its words",
}
"""Public names without a row, each with the reason."""

OURS = (ValueError, TypeError, OSError)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of every row, in a process of its own that checks no annotations."""
    return json.loads(run_python("-W", "error", "-m", "tests.bad_calls").splitlines()[-1])


def faults(row: Row, outcome: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a refusal."""
    message = outcome["message"]
    if outcome["changed"]:
        yield f"left or changed {outcome['changed']}"
    if outcome["kind"] is None:
        yield "was not refused"
        return
    if not outcome["expected"] or outcome["kind"].split(".")[0] not in ("builtins", "jaxnet"):
        yield f"raised {outcome['kind']}, expected {row.raises.__name__}"
    if not issubclass(row.raises, OURS) and row.name not in INDEX_ERRORS:
        yield f"{row.raises.__name__} is no error of bad input"
    # Only the system's own errors, which name the file, may come from elsewhere.
    if not issubclass(row.raises, OSError) and not any(
        Path(outcome["raised_in"]).is_relative_to(ROOT / name) for name in ("jaxnet", "torchref")
    ):
        yield f"was raised in {outcome['raised_in']}"
    if not re.search(rf"(?<!\w){re.escape(row.argument)}(?!\w)", message):
        yield f"does not name {row.argument}"
    if not re.search(row.says, message, re.DOTALL if row.several_lines else 0):
        yield f"does not say {row.says!r}"
    if "Traceback" in message or ("\n" in message and not row.several_lines):
        yield "is no single sentence"
    if len(message) > 400:
        yield f"is {len(message)} characters long"


INDEX_ERRORS = ("jaxnet.losses.cross_entropy", "jaxnet.losses.nll_loss")
"""What raises torch's own IndexError for a class that is none, and documents it."""


@each_row("label", ROWS)
def test_bad_input_is_refused_in_one_clear_sentence(label, outcomes):
    outcome = outcomes[label]
    found = list(faults(ROWS[label], outcome))
    assert not found, f"{outcome['message']}\n-> " + "\n-> ".join(found)


def list_packages() -> Iterator[types.ModuleType]:
    """The packages that list what is public: jaxnet, its rooms, the rooms in these; torchref."""
    for root in (jaxnet, torchref):
        yield root
        for part in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if part.ispkg and "._" not in part.name:
                module = importlib.import_module(part.name)
                yield from [module] if hasattr(module, "__all__") else []


def public_names() -> dict[str, Any]:
    """Every public function and class by its dotted name: what `__all__` lists, and of a module
    that it lists, what is defined there."""
    found: dict[str, Any] = {}
    waiting = list(list_packages())
    while waiting:
        module = waiting.pop()
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
        ]
        for name in names:
            value = getattr(module, name)
            if isinstance(value, types.ModuleType) and not hasattr(value, "__path__"):
                waiting.append(value)
            elif callable(value) and typing.get_origin(value) is None:  # aliases of types are none
                found[f"{module.__name__}.{name}"] = value
    return found


def resolve(name: str) -> Any:
    """What a dotted name stands for."""
    package, *names = name.split(".")
    return functools.reduce(getattr, names, sys.modules[package])


REFUSED = {row.name for row in ROWS.values()}


def uncovered() -> set[str]:
    """Public names that neither a row nor a reason stands for, under this name or another."""
    known = {id(resolve(name)) for name in REFUSED | TAKES_NO_BAD_INPUT.keys()}
    return {name for name, value in public_names().items() if id(value) not in known}


def test_every_public_function_has_a_row_or_a_reason():
    assert not uncovered()
    public = set(map(id, public_names().values()))
    strange = {n for n in REFUSED | TAKES_NO_BAD_INPUT.keys() if id(resolve(n)) not in public}
    assert not strange, "these are not public"
    refused = {id(resolve(name)) for name in REFUSED}
    assert not [n for n in TAKES_NO_BAD_INPUT if id(resolve(n)) in refused], "these have a row"


def test_a_new_public_function_without_a_row_is_noticed(monkeypatch):
    """In a package, in a module that one lists, and in a package that is new."""

    def fresh():
        pass

    def newer():
        pass

    monkeypatch.setattr(jaxnet.nn, "fresh", fresh, raising=False)
    assert not uncovered()
    monkeypatch.setattr(jaxnet.nn, "__all__", [*jaxnet.nn.__all__, "fresh"])
    assert uncovered() == {"jaxnet.nn.fresh"}

    newer.__module__ = "jaxnet.train.metrics"
    monkeypatch.setattr(jaxnet.metrics, "newer", newer, raising=False)
    assert uncovered() == {"jaxnet.nn.fresh", "jaxnet.train.metrics.newer"}

    module = types.ModuleType("jaxnet.newest")
    vars(module).update(__all__=["newest"], newest=lambda: None)
    monkeypatch.setitem(sys.modules, "jaxnet.newest", module)
    more = pkgutil.ModuleInfo(next(pkgutil.iter_modules(jaxnet.__path__)).module_finder, "", True)
    monkeypatch.setattr(pkgutil, "walk_packages", lambda *_: [more._replace(name="jaxnet.newest")])
    assert "jaxnet.newest.newest" in uncovered()


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """The damaged files of the table, and a few scripts."""
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    (folder / "net.py").write_text("def build():\n    return 3\n")
    (folder / "damaged.py").write_text("def build(:\n")
    (folder / "fails.py").write_text("def build():\n    return 1 / 0\n")
    return Watch(folder)


def test_what_a_call_leaves_in_a_folder_is_noticed(tmp_path):
    """As soon as it is written, and of the same length too."""
    kept, inner = tmp_path / "kept", tmp_path / "inner"
    kept.write_text("one")
    watch = Watch(tmp_path)
    assert watch.changes() == []
    kept.write_text("two")
    assert watch.changes() == [str(kept)] and watch.changes() == []
    inner.mkdir()
    (inner / "new").write_text("six")
    assert watch.changes() == [str(inner / "new")]
    (inner / "new").replace(kept)
    assert watch.changes() == [str(inner / "new"), str(kept)]
    kept.unlink()
    assert watch.changes() == [str(kept)]


def check_output(output: str, says: str) -> None:
    """One sentence, after click's two lines on usage."""
    lines = output.splitlines()
    assert lines[0].startswith("Usage: ") and lines[-1].startswith("Error: ")
    assert "Traceback" not in output and sum(line.startswith("Error") for line in lines) == 1
    assert re.search(says, lines[-1]), lines[-1]


@each_row("call", CALLS, ids=lambda call: call.arguments)
def test_the_command_line_says_it_in_a_sentence_and_writes_nothing(call, watch, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    parts = [part.replace("{}", str(watch.folder)) for part in call.arguments.split(" ") if part]
    done = CliRunner().invoke(call.main, parts, prog_name="jaxnet")
    changes = watch.changes()
    assert done.exit_code == 2, done.output
    check_output(done.output, call.says)
    assert not changes
