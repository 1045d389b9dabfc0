"""What is around a run: `callbacks`, `checkpoint`, `sweep`, `cache`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools
import io
import warnings
from pathlib import Path

import numpy as np

import jaxnet
from jaxnet import cache, callbacks
from jaxnet.callbacks import EarlyStopping, KeepBest, Validation
from jaxnet.checkpoint import (
    CheckpointMismatchError,
    Checkpoints,
    CorruptCheckpointError,
    list_epochs,
)
from jaxnet.sweep import answer
from jaxnet.train import Chunk, History, Report
from tests.bad_calls import Row
from tests.bad_calls.files import X, Y, fit, net, replaced, run, state

C, H = "jaxnet.checkpoint.", "jaxnet.callbacks."
BCE = jaxnet.losses.binary_cross_entropy
RIGHT = jaxnet.metrics.probability_is_right
HISTORY = History(np.zeros(1, np.float32), (Report(1, 0.5, {}),), 0.0, 0.0, "parity")


def _kept(argument, says, kind=ValueError, lines=False, folder="new", seed=0, **options):
    """A run with a `Checkpoint` that is right but for what is changed in it."""

    def call(files: Path):
        with warnings.catch_warnings(action="ignore"):
            fit(seed=seed, callbacks=[callbacks.Checkpoint(files / folder, **options)])

    return Row(H + "Checkpoint", argument, call, says, kind, lines)


def _report(argument, says, kind=ValueError, train=fit, **options):
    def call(_):
        train(callbacks=[callbacks.Report(**options)])

    return Row(H + "Report", argument, call, says, kind)


def _stop(**changes):
    return EarlyStopping(**{"metric": "loss", "patience": 1, **changes})


def _validate(**changes):
    return Validation(**{"net": net(), "data": (X, Y), "loss": BCE, **changes})


def _show(callback):
    callback.on_chunk(Chunk(1, 1, state(), HISTORY.losses, HISTORY, HISTORY.reports[0]))


def _closed():
    stream = io.StringIO()
    stream.close()
    return stream


def _read_only():
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO()))


def _log(argument, says, kind=ValueError, target: object = "new.jsonl", **changes):
    """A `JsonLines` that is right but for what is changed in it; a target's name is a file's."""

    def call(folder: Path):
        place = folder / target if isinstance(target, str) else target
        _show(callbacks.JsonLines(place, **changes))

    return Row(H + "JsonLines", argument, call, says, kind)


def _sweep(argument, says, kind=ValueError, **changes):

    def call(folder: Path):
        good = {"loss": BCE, "optimizer": jaxnet.optim.sgd, "epochs": 1, "seeds": [0]}
        place = changes.get("directory", "new")
        changed = {**changes, "directory": folder / place if place else None}
        jaxnet.run_sweep(**{"net": net(), "data": (X, Y)} | good | changed)

    return Row("jaxnet.run_sweep", argument, call, says, kind)


@functools.cache
def _one_lane():
    return jaxnet.run_sweep(
        net(), (X, Y), loss=BCE, optimizer=jaxnet.optim.sgd, epochs=1, seeds=[0]
    )


def _again(folder: Path):
    Checkpoints(folder / "saved").save(2, state(), HISTORY)


ROWS = [
    Row(C + "Checkpoints", "keep", lambda f: Checkpoints(f / "new", keep=0), "at least 1, not 0"),
    Row(C + "Checkpoints", "keep", lambda f: Checkpoints(f / "new", keep=2.0), "integer .*not 2.0"),
    Row(C + "Checkpoints", "about", lambda f: Checkpoints(f / "new", about={"a": {1}}),
        "JSON.*set", TypeError),
    Row(C + "Checkpoints", "directory", lambda f: Checkpoints(f / "file"),
        "a folder, not the file", OSError),
    Row(C + "Checkpoints", "file", lambda f: Checkpoints(f / "file" / "new"), "file/new", OSError),
    Row(C + "Checkpoints", "directory", lambda _: Checkpoints(3), "PathLike, not 3", TypeError),
    Row(C + "Checkpoints", "like", lambda f: Checkpoints(f / "saved").restore({}),
        "TrainState, not dict", TypeError),
    Row(C + "Checkpoints", "directory", _again,
        "has checkpoints, up to epoch 1, of a run that was not restored"),
    Row(C + "list_epochs", "directory", lambda _: list_epochs(3), "PathLike, not 3", TypeError),
    _kept("keep", "at least 1, not 0", keep=0),
    *(_kept("directory", "path in UTF-8 without .* for Orbax", folder=f"new{name}")
      for name in ("[1]", "\\", "*", "\udcff")),
    _kept("seconds", "at least 0, not -1", seconds=-1),
    _kept("seconds", "number, not '1'", TypeError, seconds="1"),
    _kept("directory", "a folder, not the file", OSError, folder="file"),
    _kept("checkpoint", "up to epoch 1: resume=True resumes", folder="saved"),
    _kept("checkpoint", "that can be read", CorruptCheckpointError, folder="cut-run", resume=True),
    _kept("changed", "must be a list of names, not 'seed'", TypeError, resume=True, changed="seed"),
    _kept("changed", "needs resume=True", changed=["seed"]),
    _kept("changed", "'epochs', but what differs from checkpoint .*1 is seed", folder="saved",
          resume=True, seed=5, changed=["epochs"]),
    _kept("seed", "seed: 0 in the checkpoint, 5 in this run", CheckpointMismatchError, True,
          folder="saved", resume=True, seed=5),
    _kept("epochs", "at least the 2 that", folder="long", resume=True),
    _report("every", "integer of at least 1, not 0", every=0),
    _report("every", "integer of at least 1, not 0.5", every=0.5),
    _report("loader", "needs a batch_size", loader=True),
    _report("metrics", r"must be \{name: metric\}, not function", TypeError, metrics=RIGHT),
    _report("metrics", "'right' must be a function .*, not 3", TypeError, metrics={"right": 3}),
    _report("metrics", "needs a run of jaxnet.fit", train=run, metrics={"right": RIGHT}),
    _report("metric", r"'mean' must give one value for each of 4 rows, not shape \(\)",
            metrics={"mean": lambda outputs, y: outputs.mean()}),
    Row(H + "Validation", "net", lambda _: _validate(net="net"), "Flax module", TypeError),
    Row(H + "Validation", "data", lambda _: _validate(data=(X, Y[:1])), "same number of rows"),
    Row(H + "Validation", "y", lambda _: _validate(data=(X, replaced(Y, 1, np.nan))), "row 1 .*n"),
    Row(H + "Validation", "loss", lambda _: _validate(loss=None), "loss or metrics must be given"),
    Row(H + "Validation", "metrics", lambda _: _validate(metrics=["a"]), "metric}, not list",
        TypeError),
    Row(H + "EarlyStopping", "patience", lambda _: _stop(patience=0), "at least 1, not 0"),
    Row(H + "EarlyStopping", "mode", lambda _: _stop(mode="most"), "'min' or 'max', not 'most'"),
    Row(H + "EarlyStopping", "min_delta", lambda _: _stop(min_delta=-1), "at least 0, not -1"),
    Row(H + "EarlyStopping", "min_delta", lambda _: _stop(min_delta="0"), "number", TypeError),
    Row(H + "EarlyStopping", "metric", lambda _: _show(_stop(metric="los")),
        "not 'los'; did you mean 'loss'"),
    Row(H + "KeepBest", "mode", lambda _: KeepBest("loss", mode=1), "'min' or 'max', not 1"),
    Row(H + "KeepBest", "mode", lambda _: KeepBest("loss", mode="Min"), "mean 'min'"),
    Row(H + "KeepBest", "metric", lambda _: _show(KeepBest("los")),
        "not 'los'; did you mean 'loss'"),
    Row(H + "all_finite", "state", lambda _: callbacks.all_finite({}, X), "not dict", TypeError),
    _log("target", "a file, not the folder .*empty", OSError, "empty"),
    _log("target", "a folder that exists, not in .*none", OSError, "none/new.jsonl"),
    _log("target", "a folder that exists, not in .*file", OSError, "file/new.jsonl"),
    _log("target", "a path or a text stream, not 3", TypeError, 3),
    _log("target", "a stream of text, not BytesIO", TypeError, io.BytesIO()),
    _log("target", "an open stream; it is closed", target=_closed()),
    _log("target", "can be written; it can only be read", target=_read_only()),
    _log("resume", "needs a path: a stream is not read", target=io.StringIO(), resume=True),
    _log("fields", "must not be named 'loss': each report", loss=1),
    _log("color", r"something that JSON has, not \{1\}", TypeError, color={1}),
    _log("color", "something that JSON has, not .*nan", TypeError, color=[np.nan]),
    _sweep("net", "a module or a function .*, not 'net'", TypeError, net="net"),
    _sweep("data", "same number of rows", data=(X, Y[:1])),
    _sweep("x", "must be finite.* row 2 .*nan", data=(replaced(X, (2, 1), np.nan), Y)),
    _sweep("y", "must be finite.* row 2 .*inf", data=(X, replaced(Y, 2, np.inf))),
    _sweep("test", "must be finite.* row 2 .*nan", test=(X, replaced(Y, 2, np.nan))),
    _sweep("test", "rows like those of data", test=(X[:, :1], Y)),
    _sweep("test", r"\(x, y\), not ndarray", TypeError, test=X),
    _sweep("loss", "must be a function", TypeError, loss="bce"),
    _sweep("optimizer", "such as jaxnet.optim.sgd, not 'sgd'", TypeError, optimizer="sgd"),
    _sweep("epochs", "at least 1, not 0", epochs=0),
    _sweep("epochs", "at most 2147483647 here, not 2147483648", epochs=2**31),
    _sweep("epochs", "at most 9223372036854775807, not", epochs=2**70),
    _sweep("report_every", "at most 9223372036854775807, not", report_every=2**63),
    _sweep("batch_size", "at most the number of rows, 4, not 9", batch_size=9),
    _sweep("seeds", "at least one seed", seeds=[]),
    _sweep("seeds", "must differ; 3 is there twice", seeds=[3, 3]),
    _sweep("seeds", "integers.*1.5", TypeError, seeds=[1.5]),
    _sweep("seeds", "integers.*not 7", TypeError, seeds=7),
    _sweep("seeds", "integers.*not b'7'", TypeError, seeds=b"7"),
    _sweep("seeds", "integers.*not True", TypeError, seeds=[True]),
    _sweep("seeds", "at most 1,000,000 seeds", seeds=range(10**15)),
    _sweep("grid", "'lrs'.*did you mean 'lr'", grid={"lrs": [0.1]}),
    _sweep("grid", "at least one value", grid={"lr": []}),
    _sweep("lr", "grid at lr=-1: lr is -1", grid={"lr": [-1]}),
    _sweep("grid", "dictionary of lists", TypeError, grid=[0.1]),
    _sweep("grid", "must be a list of values, not 0.1", TypeError, grid={"lr": 0.1}),
    _sweep("grid", "must hold different values; 0.1 is there twice", grid={"lr": [0.1, 0.1]}),
    _sweep("grid", "has .p.", grid={"p": [0.5]}),
    _sweep("net", "must make a Flax module, not int", TypeError, net=lambda: 3),
    _sweep("report_loader", "needs report_every and batch_size", report_loader=True),
    _sweep("seeds", "must lie between", seeds=[2**64]),
    _sweep("metrics", "metric}, not list", TypeError, metrics=["a"]),
    _sweep("report_every", "at least 1, not 0", report_every=0),
    _sweep("memory", "at least 1, not 0", memory=0),
    _sweep("memory", "1 bytes, but one lane needs", memory=1),
    _sweep("directory", "resume=True needs directory", resume=True, directory=None),
    _sweep("directory", "must be a folder; .*file is a file", OSError, directory="file"),
    _sweep("directory", "needs /proc, which cannot be written", OSError, directory="/proc/new"),
    _sweep("directory", "must be empty or new", OSError, directory="saved"),
    Row("jaxnet.sweep.answer", "values", lambda _: answer([], 0.5), "at least one.* empty"),
    Row("jaxnet.sweep.answer", "values", lambda _: answer("a", 0.5), "not 'a'", TypeError),
    Row("jaxnet.sweep.answer", "figure", lambda _: answer([0.5], "1"), "not '1'", TypeError),
    Row("jaxnet.sweep.Sweep", "lane", lambda _: _one_lane().state(3), "0 to 0, not 3"),
    Row("jaxnet.sweep.Sweep", "column", lambda _: _one_lane().answer(0.5, "los"),
        "one of .*loss.*, not 'los'; did you mean 'loss'"),
    Row("jaxnet.cache.enable", "folder", lambda _: cache.enable(3), "PathLike, not 3", TypeError),
    Row("jaxnet.cache.enable", "folder", lambda folder: cache.enable(folder / "file"),
        "one that can be made, not .*file: ", OSError),
]  # fmt: skip
