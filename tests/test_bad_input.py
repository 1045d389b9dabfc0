"""Bad input, everywhere: every public function's refusals, as a user's program meets them."""

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
import torchref.cli
from tests.bad_calls import Row, collect
from tests.bad_calls.__main__ import Watch
from tests.bad_calls.files import make_files
from tests.helpers import each_row

ROOT = Path(jaxnet.__file__).parent.parent
ROWS = collect()

RECORD = "a plain record: whoever takes it checks it"
TAKES_NO_BAD_INPUT = {
    "jaxnet.History": RECORD,
    "jaxnet.TrainState": RECORD,
    "jaxnet.certificate.Certificate": RECORD,
    "jaxnet.certificate.Divergence": RECORD,
    "jaxnet.certificate.Stage": RECORD,
    "jaxnet.checkpoint.folder.Another": "an error",
    "jaxnet.train.evaluate.make_measure": "compiles what `evaluate` checked",
    "jaxnet.sweep.run.Interrupted": "an error",
    "jaxnet.sweep.run.Lane": RECORD,
    "jaxnet._utils.processes.check_same": "refuses what differs between processes; tests/test_mesh.py",
    "jaxnet._utils.processes.gather": "hands on whatever it is given",
    "jaxnet._utils.processes.PeerLost": "an error",
    "jaxnet._utils.processes.agree": "gives what the first process has, whatever that is",
    "jaxnet._utils.processes.any_of": "takes a truth value alone",
    "jaxnet._utils.processes.fetch": "gives anything as NumPy has it, as `numpy.asarray` does",
    "jaxnet._utils.processes.is_first": "takes nothing",
    "jaxnet._utils.processes.is_of_all": "takes an error that was raised",
    "jaxnet._utils.processes.is_shared": "looks at arrays, and passes over all else",
    "jaxnet._utils.processes.meet": "takes nothing",
    "jaxnet._utils.processes.on_first": "calls what its own callers wrote",
    "jaxnet.launch.find_port": "takes nothing",
    "jaxnet.callbacks.sigint.patient": "takes a text alone",
    "jaxnet.checkpoint.folder.list_epochs": "gives nothing for what is no folder of checkpoints",
    "jaxnet.sweep.run.Progress": RECORD,
    "jaxnet.callbacks.nan_guard.Guard": "is made by `runs.fit` of what that checked",
    "jaxnet.callbacks.nan_guard.NotFinite": "an error",
    "jaxnet.runs.Interrupted": "an error",
    "jaxnet.train.fit.Ready": RECORD,
    "jaxnet.train.fit.draw_noise": "draws for a step of what `fit` checked",
    "jaxnet.train.fit.make_run": "compiles what `fit` checked",
    "jaxnet.train.fit.make_runner": "compiles what `fit` checked",
    "jaxnet.cache.clear": "takes nothing",
    "jaxnet.cache.kept_programs": "takes a truth value alone",
    "jaxnet.convert.Unsupported": "an error",
    "jaxnet.data.mnist.Dataset": RECORD,
    "jaxnet.lecture.doctor.Finding": RECORD,
    "jaxnet.precision.as_array": "takes what `jax.numpy.asarray` takes, in its words",
    "jaxnet._utils.files.cache_folder": "takes nothing",
    "jaxnet.lecture.experiments.Published": RECORD,
    "jaxnet.lecture.Result": RECORD,
    "jaxnet.lecture.experiments.make_record": "packs what `run` and torchref measured, and looks at none of it",
    "jaxnet.lecture._machine.Facts": RECORD,
    "jaxnet.lecture.studies.BatchNoise": RECORD,
    "jaxnet.lecture.studies.Codes": RECORD,
    "jaxnet.lecture.studies.Overfitting": RECORD,
    "jaxnet.lecture.studies.Overflow": RECORD,
    "jaxnet.lecture.studies.overflow": "takes nothing",
    "jaxnet.lecture._machine.count_cores": "takes nothing",
    "jaxnet.lecture._machine.describe": "takes nothing",
    "jaxnet.lecture._machine.name_processor": "takes nothing",
    "jaxnet.lecture.torch_results.TorchRun": RECORD,
    "jaxnet.lecture._machine.digest": "hashes the bytes of the arrays that `look` and its tests draw",
    "jaxnet.lecture._machine.look": "takes nothing",
    "jaxnet.nn.draws.Drop": RECORD,
    "jaxnet.data.loader.Batching": RECORD,
    "jaxnet.nn.Identity": "takes anything and gives it back",
    "jaxnet.nn.Module": "the base of the layers: has no arguments of its own",
    "jaxnet.optim.AdagradState": RECORD,
    "jaxnet.optim.AdamState": RECORD,
    "jaxnet.optim.DampeningState": RECORD,
    "jaxnet.optim.RMSpropState": RECORD,
    "jaxnet.random.Generator": RECORD,
}
"""Public names without a row, each with the reason."""

INTERNAL = {
    "archive",
    "checks",
    "cli",
    "pieces",
    "placement",
    "rows",
    "state",
    "steps",
    "streaming",
}
"""Modules that are no part of the public surface: the checks themselves, the command line, which
has a table of its own below, the records that a run is made of, and what `checkpoint`, `evaluate`
and `fit` are built of, which is given what was checked."""

OURS = (ValueError, TypeError, OSError)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of every row, in a process of its own that checks no annotations."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.bad_calls"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def faults(row: Row, outcome: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a refusal."""
    message = outcome["message"]
    if outcome["changed"]:
        yield f"left or changed {outcome['changed']}"
    if outcome["kind"] is None:
        yield "was not refused"
        return
    if not outcome["expected"] or not outcome["kind"].startswith(("builtins.", "jaxnet.")):
        yield f"raised {outcome['kind']}, expected {row.raises.__name__}"
    if not issubclass(row.raises, OURS) and row.name not in INDEX_ERRORS:
        yield f"{row.raises.__name__} is no error of bad input"
    # Only the system's own errors, which name the file, may come from elsewhere.
    if (
        not issubclass(row.raises, OSError)
        and f"{os.sep}jaxnet{os.sep}" not in outcome["raised_in"]
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


def public_names() -> dict[str, Any]:
    """Every public function and class of jaxnet by its dotted name; new modules are found."""
    found = {}
    for part in pkgutil.iter_modules(jaxnet.__path__):
        if part.name.startswith("_") or part.name in INTERNAL:
            continue
        module = importlib.import_module(f"jaxnet.{part.name}")
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
        values = {name: getattr(module, name) for name in names}
        found |= {f"{module.__name__}.{n}": v for n, v in values.items() if is_callable(v)}
    for name in jaxnet.__all__:
        value = getattr(jaxnet, name)
        if is_callable(value) and value not in found.values():
            found[f"jaxnet.{name}"] = value
    return found


def is_callable(value: Any) -> bool:
    """Functions and classes, but for aliases of types such as `Masks`."""
    return callable(value) and typing.get_origin(value) is None


def uncovered() -> set[str]:
    """Public names that neither a row nor a reason stands for."""
    refused = {id(resolve(row.name)) for row in ROWS.values()}
    names = {name for name, value in public_names().items() if id(value) not in refused}
    return names - TAKES_NO_BAD_INPUT.keys()


def resolve(name: str) -> Any:
    """What a dotted name stands for."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_every_public_function_has_a_row_or_a_reason():
    public = public_names()
    assert not uncovered()
    refused = {id(resolve(row.name)) for row in ROWS.values()}
    stale = [n for n in TAKES_NO_BAD_INPUT if n not in public or id(public[n]) in refused]
    assert not stale, "these have a row, or are gone"
    strange = {row.name for row in ROWS.values()} - {
        name for name in (row.name for row in ROWS.values()) if resolve(name) in public.values()
    }
    assert not strange, "these are not public"


def test_a_new_public_function_without_a_row_is_noticed(monkeypatch):
    """In a module that is there, and in a new one."""

    def fresh():
        pass

    fresh.__module__ = "jaxnet.metrics"
    monkeypatch.setattr(jaxnet.metrics, "fresh", fresh, raising=False)
    assert uncovered() == {"jaxnet.metrics.fresh"}

    def newer():
        pass

    newer.__module__ = "jaxnet.newest"
    module = types.ModuleType("jaxnet.newest")
    monkeypatch.setattr(module, "newer", newer, raising=False)
    monkeypatch.setitem(sys.modules, "jaxnet.newest", module)
    found = list(pkgutil.iter_modules(jaxnet.__path__))
    more = [*found, pkgutil.ModuleInfo(found[0].module_finder, "newest", False)]
    monkeypatch.setattr(pkgutil, "iter_modules", lambda path: more)
    assert uncovered() == {"jaxnet.metrics.fresh", "jaxnet.newest.newer"}


class Call(typing.NamedTuple):
    """Arguments of the command line, and what it must say; `{}` stands for the folder of files."""

    arguments: str
    says: str
    main: Any = jaxnet.lecture.cli.main


CERTIFY = {"main": torchref.cli.main}

CALLS = [
    Call("lecture --json {}/file/new", "--json needs the folder .*file is a file", **CERTIFY),
    Call("lecture --only logist", "did you mean 'logits'", **CERTIFY),
    Call("lecture --certify -1", "'--certify': -1 is not in the range x>=0", **CERTIFY),
    Call("lecture --root {}/none", "'--root': Directory '.*none' does not exist", **CERTIFY),
    Call("lecture --only full_bach", "'--only': 'full_bach' is not one of 'full_batch', 'dropout'"),
    Call("lecture --onyl logits", "No such option '--onyl'.*'--only'"),
    Call("lecture --device tpu", "'--device': 'tpu' is not one of 'cpu', 'gpu'"),
    Call("lecture --precision double", "'double' is not one of 'parity', 'fast', 'float64'"),
    Call("lecture --resume", "--resume needs --checkpoint DIR"),
    Call("lecture --checkpoint {}/file", "'--checkpoint': Directory '.*file' is a file"),
    Call("lecture --checkpoint {}/c --keep 0", "'--keep': 0 is not in the range x>=1"),
    Call("lecture --checkpoint {}/file/c", "--checkpoint needs the folder .*, but .*file is a"),
    Call("lecture --on-nan halt", "'halt' is not one of 'stop', 'ignore'"),
    Call("lecture --only logist", "did you mean 'logits'"),
    Call("lecture --precision flaot64", "did you mean 'float64'"),
    Call("lecture --on-nan sotp", "did you mean 'stop'"),
    Call("lecture --torch {}/none --figures {}/new", "'--torch': File '.*none' does not exist"),
    Call("lecture --torch {}/file --figures {}/new", "--torch must be what .*is no JSON"),
    Call("lecture --torch {}/file", "--torch is shown in pictures: it needs --figures DIR"),
    Call("lecture --jsonl {}/file/new", "--jsonl needs the folder .*, but .*file is a file"),
    Call("lecture --jsonl {}/empty", "File '.*empty' is a directory"),
    Call("lecture --jsonl {}/file", "--jsonl .*file has lines already: --resume goes on"),
    Call("lecture --devices 0", "'--devices': 0 is not in the range x>=1"),
    Call("lecture --devices 99999", "--devices must be at most .*, as many as JAX finds here"),
    Call("lecture --coordinator a:1", "--coordinator is of one process of many: it needs --distr"),
    Call("lecture --process-id 0", "--process-id is of one process of many: it needs --distrib"),
    Call(
        "lecture --distributed --num-processes 2",
        "--coordinator, --num-processes and --process-id go together.*; --coordinator, --process-id"
        " is missing",
    ),
    Call(
        "lecture --distributed --coordinator here --num-processes 2 --process-id 0",
        "--coordinator must be 'HOST:PORT', not 'here'",
    ),
    Call(
        "lecture --distributed --coordinator a:1 --num-processes 2 --process-id 2",
        "--process-id must be from 0 to 1, not 2",
    ),
    Call("lecture --distribute", "No such option '--distribute'.*'--distributed'"),
    Call("report --only ten_class", "'ten_class' is not one of 'full_batch'"),
    Call("report --out {}/new.pdf", "must end in .html, not .*new.pdf"),
    Call("report --out {}/file/new.html", "--out needs the folder .*, but .*file is a file"),
    Call("report --out {}/new.html --torch {}/file", "--torch must be what .*is no JSON"),
    Call("report --out {}/new.html --benchmarks {}/file", "--benchmarks .*file is no JSON"),
    Call("report --out {}/new.html --only logist", "did you mean 'logits'"),
    Call("reprot", "No such command 'reprot'.*'report'"),
    Call("lecture logits", r"unexpected extra argument \(logits\)"),
    Call("lecture --root {}/none", "'--root': Directory '.*none' does not exist"),
    Call("lecture --root {}/file", "'--root': Directory '.*file' is a file"),
    Call("lecture --root {}/empty", "root is '.*empty', which lacks train-images-idx3-ubyte, .*"),
    Call("lecture --root {}/other", "other/train-images-.* is not MNIST's .* the MD5 digest"),
    Call("lecture --root {}/cut", "cut/train-images-.* holds 779 bytes of data; expected 784"),
    Call("lecture --root {}/shape", r"has shape \(1, 27, 28\); expected \('n', 28, 28\)"),
    Call("lecture --json {}/new/a.json --root {}/cut", "holds 779 bytes of data; expected 784"),
    Call("lecture --json {}/empty", "'--json': File '.*empty' is a directory"),
    Call("lecture --json {}/file/new.json", "--json needs the folder .*file, but .*file is a file"),
    Call("lecture --json {}/file/a/b.json", "--json needs the folder .*/a, but .*file is a file"),
    Call("lecture --figures {}/file", "'--figures': Directory '.*file' is a file"),
    Call("lecture --figures {}/file/new", "--figures needs the folder .*new, but .*file is a file"),
    Call("lecture --json {}/new/a.json --figures {}/file/new", "--figures needs the folder"),
    Call("sweep minibach", "'minibach' is not one of 'full_batch'"),
    Call("sweep minibatch --seeds 9:3", "'9:3' is not seeds such as 0:256"),
    Call("sweep minibatch --out {}/file", "'--out': Directory '.*file' is a file"),
    Call("sweep minibatch --out {}/saved", "holds files"),
    Call("sweep minibatch --out {}/new --root {}/cut", "holds 779 bytes of data; expected 784"),
    Call("sweep minibatch --out {}/file/new", "--out needs the folder .*new, but .*file is a file"),
    Call("sweep minibatch --figures {}/new --root {}/cut", "holds 779 bytes of data; expected 784"),
    Call("sweep minibatch --figures {}/file/new", "--figures needs the folder .*new"),
    Call("sweep minibatch --resume", "--resume needs --out DIR"),
    Call("sweep minibatch --lr 0.1 --lr 0.1", "must hold different values; 0.1 is there twice"),
    Call("sweep minibatch --seeds 0:10000000000000", "more than 1,000,000 seeds"),
    Call("sweep minibatch --sedes 3", "No such option '--sedes'.*'--seeds'"),
    Call("show --classes ten", "--classes must be digits together, such as 01, not 'ten'"),
    Call("show --classes 00", r"classes is \[0, 0\]; expected distinct digits from 0 to 9"),
    Call("show --classes= ", "--classes must be digits together, such as 01, not ''"),
    Call("show --out {}/new.xyz", r"must end in one of .*\.png.*, not .*new\.xyz"),
    Call("show --out {}/empty", "'--out': File '.*empty' is a directory"),
    Call("show --out {}/file/new.png", "--out needs the folder .*file, but .*file is a file"),
    Call("show --out {}/new/a.png --root {}/cut", "holds 779 bytes of data; expected 784"),
    Call("doctor --json {}/empty", "'--json': File '.*empty' is a directory"),
    Call("doctor --json {}/file/new.json", "--json needs the folder .*file, but .*file is a file"),
    Call("doctor --jsn x", "No such option '--jsn'.*'--json'"),
    Call("sing", "No such command 'sing'"),
    Call("certify", "Missing argument 'FILE:FUNCTION'", **CERTIFY),
    Call("certify {}/net.py", "FILE:FUNCTION must name a file that is there, not", **CERTIFY),
    Call("certify {}/none.py:build", "FILE:FUNCTION must name a file that is there", **CERTIFY),
    Call("certify {}/empty:build", "FILE:FUNCTION must name a file that is there", **CERTIFY),
    Call("certify {}/net.py:biuld", r"net\.py has no function 'biuld'", **CERTIFY),
    Call("certify {}/file:build", "file is no Python file", **CERTIFY),
    Call("certify {}/damaged.py:build", r"SyntaxError: .*damaged\.py, line 1", **CERTIFY),
    Call("certify {}/fails.py:build", r"ZeroDivisionError: .*line 2 of fails\.py", **CERTIFY),
    Call("certify {}/net.py:build", r"build must return \(net, loss, optimizer, .*int", **CERTIFY),
    Call("certify {}/net.py:build --epochs 0", "'--epochs': 0 is not in the range x>=1", **CERTIFY),
    Call("certify {}/net.py:build --batch-size 0", "'--batch-size': 0 is not in the", **CERTIFY),
    Call("certify {}/net.py:build --seed x", "'--seed': 'x' is not a valid integer", **CERTIFY),
    Call("certify {}/net.py:build --save {}/new.doc", "--save must end in .html, .json", **CERTIFY),
    Call("certify {}/net.py:build --save {}/none/a.txt", "--save names a folder that", **CERTIFY),
    Call("certify {}/net.py:build --save {}/empty", "File '.*empty' is a directory", **CERTIFY),
    Call("certify {}/net.py:build --epoch 1", "No such option '--epoch'", **CERTIFY),
]


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
    assert watch.changes() == [str(kept)]
    kept.write_text("two")
    assert watch.changes() == []
    inner.mkdir()
    (inner / "new").write_text("six")
    assert watch.changes() == [str(inner), str(inner / "new")]
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
