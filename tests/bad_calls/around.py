"""What is around a run: `checkpoint`, `hooks`, `finite`, `runs`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools
import io
import warnings
from pathlib import Path

import numpy as np

import jaxnet
from jaxnet import cache, finite, hooks, runs, train
from jaxnet.checkpoint._contents import Damaged
from jaxnet.checkpoint.folder import Another, Checkpoints
from jaxnet.sweep.run import answer
from jaxnet.train.state import Chunk, History, Report
from tests.bad_calls import Row
from tests.bad_calls.files import OPTIMIZER, X, Y, net, replaced, state

C, H, R = "jaxnet.checkpoint.Checkpoints", "jaxnet.callbacks.validation.", "jaxnet.runs.fit"
BCE = jaxnet.losses.binary_cross_entropy
RIGHT = {"right": jaxnet.metrics.probability_is_right}
HISTORY = History(np.zeros(1, np.float32), (Report(1, 0.5, {}),), 0.0, 0.0, "parity")


def _fit(argument, says, kind=ValueError, several_lines=False, **changes):
    """A call of `runs.fit` that is right but for what is changed in it."""

    def call(folder: Path):
        good = {"loss": BCE, "optimizer": OPTIMIZER, "epochs": 1, "seed": 0}
        changed = {
            name: folder / value if name == "checkpoint" and value else value
            for name, value in changes.items()
        }
        arguments = {"net": net(), "data": (X, Y), "checkpoint": folder / "new"} | good | changed
        with warnings.catch_warnings(action="ignore"):
            runs.fit(**{name: value for name, value in arguments.items() if value is not ...})

    return Row(R, argument, call, says, kind, several_lines)


def _stop(**changes):
    return hooks.EarlyStopping(**{"metric": "loss", "patience": 1, **changes})


def _validate(**changes):
    return hooks.Validation(**{"net": net(), "data": (X, Y), "loss": BCE, **changes})


def _look(hook):
    hook(Chunk(1, 1, state(), HISTORY.losses, HISTORY.reports[0], HISTORY))


def _closed():
    stream = io.StringIO()
    stream.close()
    return stream


def _read_only():
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO()))


def _log(argument, says, kind=ValueError, target: object = "new.jsonl", **changes):
    """A `JsonLines` that is right but for what is changed in it; a target's name is a file's."""

    def call(folder: Path):
        _look(hooks.JsonLines(folder / target if isinstance(target, str) else target, **changes))

    return Row(H + "JsonLines", argument, call, says, kind)


def _sweep(argument, says, kind=ValueError, **changes):
    """A call of `run_sweep` that is right but for what is changed in it."""

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


def _prepare(**changes):
    good = {"net": net(), "data": (X, Y), "optimizer": OPTIMIZER, "epochs": 1, "seed": 0}
    return train.prepare(**{**good, **changes})


def _again(folder: Path):
    Checkpoints(folder / "saved").save(2, state(), HISTORY)


ROWS = [
    Row(C, "keep", lambda folder: Checkpoints(folder / "new", keep=0), "at least 1, not 0"),
    Row(C, "keep", lambda folder: Checkpoints(folder / "new", keep=2.0), "integer .*not 2.0"),
    Row(C, "seconds", lambda folder: Checkpoints(folder / "new", seconds=-1), "at least 0, not -1"),
    Row(C, "seconds", lambda f: Checkpoints(f / "new", seconds="1"), "number, not '1'", TypeError),
    Row(C, "about", lambda f: Checkpoints(f / "new", about={"a": {1}}), "JSON.*set", TypeError),
    Row(C, "directory", lambda f: Checkpoints(f / "file"), "a folder, not the file", OSError),
    Row(C, "file", lambda f: Checkpoints(f / "file" / "new"), "file/new", OSError),
    Row(
        C, "like", lambda f: Checkpoints(f / "saved").restore({}), "TrainState, not dict", TypeError
    ),
    Row(C, "directory", _again, "has checkpoints, up to epoch 1, of a run that was not restored"),
    _fit("net", "a Flax module, not 'net'", TypeError, net="net"),
    _fit("data", "same number of rows", data=(X, Y[:1])),
    _fit("x", "must be finite.* row 2 .*nan", data=(replaced(X, (2, 1), np.nan), Y)),
    _fit("loss", "must be a function", TypeError, loss=0),
    _fit("optimizer", "an optax optimizer", TypeError, optimizer=jaxnet.optim.sgd),
    _fit("epochs", "at least 1, not -1", epochs=-1),
    _fit("batch_size", "at most the number of rows, 4, not 9", batch_size=9),
    _fit("batchsize", "; did you mean 'batch_size'", TypeError, batchsize=9),
    _fit("colour", "expected batch_size, ", TypeError, colour="red"),
    _fit("report_every", "at least 1, not 0", report_every=0),
    _fit("metrics", "need report_every", metrics=RIGHT),
    _fit("hooks", "must be functions of a Chunk, not 'b'", TypeError, hooks="bar"),
    _fit("keep", "at least 1, not 0", keep=0),
    _fit("on_nan", "'stop' or 'ignore', not 'halt'", on_nan="halt"),
    _fit("on_nan", "not 'stpo'; did you mean 'stop'", on_nan="stpo"),
    _fit("precision", "not 'Fast'; did you mean 'fast'", precision="Fast"),
    _fit("checkpoint", "resume=True needs checkpoint", resume=True, checkpoint=None),
    _fit("directory", "a folder, not the file", OSError, checkpoint="file"),
    _fit("checkpoint", "up to epoch 1: resume=True goes on", checkpoint="saved"),
    _fit("checkpoint", "that can be read", Damaged, checkpoint="cut-run", resume=True),
    _fit(
        "seed",
        "seed: 0 in the checkpoint, 5 in this run",
        Another,
        True,
        checkpoint="saved",
        resume=True,
        seed=5,
    ),
    _fit("epochs", "at least the 2 that", checkpoint="long", resume=True),
    Row(H + "Validation", "net", lambda _: _validate(net="net"), "Flax module", TypeError),
    Row(H + "Validation", "data", lambda _: _validate(data=(X, Y[:1])), "same number of rows"),
    Row(H + "Validation", "loss", lambda _: _validate(loss=None), "loss or metrics must be given"),
    Row(
        H + "Validation",
        "metrics",
        lambda _: _validate(metrics=["a"]),
        "metric}, not list",
        TypeError,
    ),
    Row(H + "EarlyStopping", "patience", lambda _: _stop(patience=0), "at least 1, not 0"),
    Row(H + "EarlyStopping", "mode", lambda _: _stop(mode="most"), "'min' or 'max', not 'most'"),
    Row(H + "EarlyStopping", "min_delta", lambda _: _stop(min_delta=-1), "at least 0, not -1"),
    Row(H + "EarlyStopping", "min_delta", lambda _: _stop(min_delta="0"), "number", TypeError),
    Row(H + "EarlyStopping", "metric", lambda _: _look(_stop(metric="los")), "not 'los'"),
    Row(H + "KeepBest", "mode", lambda _: hooks.KeepBest("loss", mode=1), "'min' or 'max', not 1"),
    Row(H + "KeepBest", "mode", lambda _: hooks.KeepBest("loss", mode="Min"), "mean 'min'"),
    Row(H + "KeepBest", "metric", lambda _: _look(hooks.KeepBest("los")), "not 'los'"),
    _log("target", "a file, not the folder .*empty", OSError, "empty"),
    _log("target", "a folder that is there, not in .*none", OSError, "none/new.jsonl"),
    _log("target", "a folder that is there, not in .*file", OSError, "file/new.jsonl"),
    _log("target", "a path or a text stream, not 3", TypeError, 3),
    _log("target", "a stream of text, not BytesIO", TypeError, io.BytesIO()),
    _log("target", "an open stream; it is closed", target=_closed()),
    _log("target", "can be written; it can only be read", target=_read_only()),
    _log("resume", "needs a path: a stream is not read", target=io.StringIO(), resume=True),
    _log("fields", "must not be named 'loss': each report", loss=1),
    _log("colour", r"something that JSON has, not \{1\}", TypeError, colour={1}),
    _log("colour", "something that JSON has, not .*nan", TypeError, colour=[np.nan]),
    _sweep("net", "a module or a function .*, not 'net'", TypeError, net="net"),
    _sweep("data", "same number of rows", data=(X, Y[:1])),
    _sweep("x", "must be finite.* row 2 .*nan", data=(replaced(X, (2, 1), np.nan), Y)),
    _sweep("test", "rows like those of data", test=(X[:, :1], Y)),
    _sweep("test", r"\(x, y\), not ndarray", TypeError, test=X),
    _sweep("loss", "must be a function", TypeError, loss="bce"),
    _sweep("optimizer", "such as jaxnet.optim.sgd, not 'sgd'", TypeError, optimizer="sgd"),
    _sweep("epochs", "at least 1, not 0", epochs=0),
    _sweep("batch_size", "at most the number of rows, 4, not 9", batch_size=9),
    _sweep("seeds", "at least one seed", seeds=[]),
    _sweep("seeds", "must differ; 3 is there twice", seeds=[3, 3]),
    _sweep("seeds", "integers.*1.5", TypeError, seeds=[1.5]),
    _sweep("seeds", "integers.*not 7", TypeError, seeds=7),
    _sweep("grid", "'lrs'.*did you mean 'lr'", grid={"lrs": [0.1]}),
    _sweep("grid", "at least one value", grid={"lr": []}),
    _sweep("lr", "grid at lr=-1: lr is -1", grid={"lr": [-1]}),
    _sweep("grid", "dictionary of lists", TypeError, grid=[0.1]),
    _sweep("metrics", "metric}, not list", TypeError, metrics=["a"]),
    _sweep("report_every", "at least 1, not 0", report_every=0),
    _sweep("memory", "at least 1, not 0", memory=0),
    _sweep("memory", "1 bytes, but one lane needs", memory=1),
    _sweep("directory", "resume=True needs directory", resume=True, directory=None),
    _sweep("directory", "must be a folder; .*file is a file", OSError, directory="file"),
    _sweep("directory", "must be empty or new", OSError, directory="saved"),
    Row("jaxnet.sweep.run.answer", "values", lambda _: answer([], 0.5), "at least one.* empty"),
    Row("jaxnet.sweep.run.answer", "values", lambda _: answer("a", 0.5), "not 'a'", TypeError),
    Row("jaxnet.sweep.run.answer", "figure", lambda _: answer([0.5], "1"), "not '1'", TypeError),
    Row("jaxnet.sweep.run.Sweep", "lane", lambda _: _one_lane().state(3), "0 to 0, not 3"),
    Row(
        "jaxnet.sweep.run.Sweep",
        "column",
        lambda _: _one_lane().answer(0.5, "acc"),
        "one of .*loss.*, not 'acc'",
    ),
    Row("jaxnet.cache.enable", "folder", lambda _: cache.enable(3), "PathLike, not 3", TypeError),
    Row(
        "jaxnet.cache.enable",
        "folder",
        lambda folder: cache.enable(folder / "file"),
        "one that can be made, not .*file: ",
        OSError,
    ),
    Row("jaxnet.callbacks.nan_guard.is_sound", "state", lambda _: finite.is_sound({}, X), "not dict", TypeError),
    Row("jaxnet.train.fit.prepare", "epochs", lambda _: _prepare(epochs=0), "at least 1, not 0"),
    Row(
        "jaxnet.train.fit.prepare",
        "state",
        lambda _: _prepare(seed=None, state=(state(), 3)),
        r"a pair \(state, history\) .*not \(TrainState, int\)",
        TypeError,
    ),
    Row(
        "jaxnet.train.fit.prepare",
        "state",
        lambda _: _prepare(batch_size=3, seed=None, state=(state(), HISTORY)),
        "a history of 1 steps, which are no whole epochs: .* an epoch has 2",
    ),
]
