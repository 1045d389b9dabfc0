"""What is around a run: `callbacks`, `checkpoint`, `sweep`, `cache`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools
import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np

import jaxnet
from jaxnet import cache, callbacks
from jaxnet.callbacks import EarlyStopping, JsonLines, KeepBest, Validation
from jaxnet.checkpoint import (
    CheckpointMismatchError,
    Checkpoints,
    CorruptCheckpointError,
    list_epochs,
)
from jaxnet.sweep import answer
from jaxnet.train import Chunk, History, Report
from tests.bad_calls import Row, of
from tests.bad_calls import kinds as k
from tests.bad_calls.files import X, Y, fit, net, replaced, run, state

C, H, S = "jaxnet.checkpoint.", "jaxnet.callbacks.", "jaxnet.run_sweep"
BCE = jaxnet.losses.binary_cross_entropy
RIGHT = jaxnet.metrics.probability_is_right
HISTORY = History(np.zeros(1, np.float32), (Report(1, 0.5, {}),), 0.0, 0.0, "parity")
CHUNK = Chunk(1, 1, state(), HISTORY.losses, HISTORY, HISTORY.reports[0])
UNREADABLE = "path in UTF-8 without .* for Orbax"


def _kept(argument, says, kind=ValueError, lines=False, folder="new", seed=0, **options):
    """A run with a `Checkpoint` that is right but for what is changed in it."""

    def call(files: Path):
        with warnings.catch_warnings(action="ignore"):
            fit(seed=seed, callbacks=[callbacks.Checkpoint(files / folder, **options)])

    return Row(H + "Checkpoint", argument, call, says, kind, lines)


def report(train=fit, **options):
    train(callbacks=[callbacks.Report(**options)])


def show(callback):
    """Give it a chunk."""
    callback.on_chunk(CHUNK)


def log(folder, target="new.jsonl", **options):
    """Write a chunk to a target; a name is a file's."""
    show(JsonLines(folder / target if isinstance(target, str) else target, **options))


def _log(argument, says, kind=ValueError, **changes):
    return Row(H + "JsonLines", argument, lambda files: log(files, **changes), says, kind)


def _closed():
    stream = io.StringIO()
    stream.close()
    return stream


sweep = partial(
    jaxnet.run_sweep, net=net(), data=(X, Y), loss=BCE, optimizer=jaxnet.optim.sgd, epochs=1,
    seeds=[0],
)  # fmt: skip


def _swept_into(folder, says):
    return Row(S, "directory", lambda files: sweep(directory=files / folder), says, OSError)


@functools.cache
def _one_lane():
    return sweep()


def _again(folder: Path):
    Checkpoints(folder / "saved").save(2, state(), HISTORY)


ROWS = [
    Row(C + "Checkpoints", "keep", lambda f: Checkpoints(f / "new", keep=0), "at least 1, not 0"),
    Row(C + "Checkpoints", "about", lambda f: Checkpoints(f / "new", about={"a": {1}}),
        "JSON.*set", TypeError),
    Row(C + "Checkpoints", "directory", lambda f: Checkpoints(f / "file"),
        "a folder, not the file", OSError),
    Row(C + "Checkpoints", "file", lambda f: Checkpoints(f / "file" / "new"), "file/new", OSError),
    Row(C + "Checkpoints", "like", lambda f: Checkpoints(f / "saved").restore({}),
        "TrainState, not dict", TypeError),
    Row(C + "Checkpoints", "directory", _again,
        "has checkpoints, up to epoch 1, of a run that was not restored"),
    *(row for name, call in (("Checkpoints", Checkpoints), ("list_epochs", list_epochs))
      for row in of(C + name, call, directory=k.PATH)),
    _kept("keep", "at least 1, not 0", keep=0),
    *(_kept("directory", UNREADABLE, folder=f"new{name}") for name in ("[1]", "\\", "*", "\udcff")),
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
    *of(
        H + "Report", report, every=k.COUNT, loader=[(True, "needs a batch_size")],
        metrics=[
            *k.METRICS,
            ({"right": 3}, "'right' must be a function .*, not 3", TypeError),
        ],
    ),
    *of(H + "Report", partial(report, run), metrics=[({"a": RIGHT}, "needs a run of jaxnet.fit")]),
    Row(H + "Report", "metric",
        lambda _: report(metrics={"mean": lambda outputs, y: outputs.mean()}),
        r"'mean' must give one value for each of 4 rows, not shape \(\)"),
    *of(
        H + "Validation", partial(Validation, net=net(), data=(X, Y), loss=BCE), net=k.MODULE[:1],
        data=k.DATA[:1], loss=[(None, "loss or metrics must be given")], metrics=k.METRICS,
    ),
    *of(H + "Validation", lambda y: Validation(net(), (X, y), loss=BCE), y=k.TARGETS[:1]),
    *of(
        H + "EarlyStopping", partial(EarlyStopping, metric="loss", patience=1),
        patience=k.COUNT[:1],
        mode=[("most", "'min' or 'max', not 'most'")],
        min_delta=[(-1, "at least 0, not -1"), ("0", "number", TypeError)],
    ),
    *of(
        H + "KeepBest", partial(KeepBest, metric="loss"),
        mode=[(1, "'min' or 'max', not 1"), ("Min", "mean 'min'")],
    ),
    *(
        Row(H + name, "metric", lambda _, c=callback: show(c("los")),
            "not 'los'; did you mean 'loss'")
        for name, callback in (
            ("EarlyStopping", partial(EarlyStopping, patience=1)), ("KeepBest", KeepBest)
        )
    ),
    *of(H + "all_finite", partial(callbacks.all_finite, losses=X), state=k.STATE),
    _log("target", "a file, not the folder .*empty", OSError, target="empty"),
    _log("target", "a folder that exists, not in .*none", OSError, target="none/new.jsonl"),
    _log("target", "a folder that exists, not in .*file", OSError, target="file/new.jsonl"),
    _log("target", "a path or a text stream, not 3", TypeError, target=3),
    _log("target", "a stream of text, not BytesIO", TypeError, target=io.BytesIO()),
    _log("target", "an open stream; it is closed", target=_closed()),
    _log("target", "can be written; it can only be read",
         target=io.TextIOWrapper(io.BufferedReader(io.BytesIO()))),
    _log("resume", "needs a path: a stream is not read", target=io.StringIO(), resume=True),
    _log("fields", "must not be named 'loss': each report", loss=1),
    _log("color", r"something that JSON has, not \{1\}", TypeError, color={1}),
    _log("color", "something that JSON has, not .*nan", TypeError, color=[np.nan]),
    *of(
        S, sweep, data=k.DATA[:1], loss=k.FUNCTION,
        net=[
            ("net", "a module or a function .*, not 'net'", TypeError),
            (lambda: 3, "must make a Flax module, not int", TypeError),
        ],
        test=[
            ((X, replaced(Y, 2, np.nan)), "must be finite.* row 2 .*nan"),
            ((X[:, :1], Y), "rows like those of data"),
            (X, r"\(x, y\), not ndarray", TypeError),
        ],
        optimizer=[("sgd", "such as jaxnet.optim.sgd, not 'sgd'", TypeError)],
        epochs=[
            *k.COUNT[:1],
            (2**31, "at most 2147483647 here, not 2147483648"),
            (2**70, "at most 9223372036854775807, not"),
        ],
        report_every=[*k.COUNT[:1], (2**63, "at most 9223372036854775807, not")],
        batch_size=k.BATCH[-1:],
        seeds=[
            ([], "at least one seed"),
            ([3, 3], "must differ; 3 is there twice"),
            *(
                (v, f"integers.*not {s}", TypeError)
                for v, s in (([1.5], "1.5"), (7, "7"), (b"7", "b'7'"), ([True], "True"))
            ),
            (range(10**15), "at most 1,000,000 seeds"),
            ([2**64], "must lie between"),
        ],
        grid=[
            ({"lrs": [0.1]}, "'lrs'.*did you mean 'lr'"),
            ({"lr": []}, "at least one value"),
            ([0.1], "dictionary of lists", TypeError),
            ({"lr": 0.1}, "must be a list of values, not 0.1", TypeError),
            ({"lr": [0.1, 0.1]}, "must hold different values; 0.1 is there twice"),
            ({"p": [0.5]}, "has .p."),
        ],
        report_loader=[(True, "needs report_every and batch_size")],
        metrics=k.METRICS,
        memory=[*k.COUNT[:1], (1, "1 bytes, but one lane needs")],
    ),
    *of(S, lambda x: sweep(data=(x, Y)), x=[(replaced(X, (2, 1), np.nan), "finite.* row 2 .*nan")]),
    *of(S, lambda y: sweep(data=(X, y)), y=k.TARGETS[:1]),
    Row(S, "lr", lambda _: sweep(grid={"lr": [-1]}), "grid at lr=-1: lr is -1"),
    Row(S, "directory", lambda _: sweep(resume=True), "resume=True needs directory"),
    _swept_into("file", "must be a folder; .*file is a file"),
    _swept_into("/proc/new", "needs /proc, which cannot be written"),
    _swept_into("saved", "must be empty or new"),
    *of("jaxnet.sweep.answer", partial(answer, values=[0.5], figure=0.5),
        values=[([], "at least one.* empty"), ("a", "not 'a'", TypeError)],
        figure=[("1", "not '1'", TypeError)]),
    Row("jaxnet.sweep.Sweep", "lane", lambda _: _one_lane().state(3), "0 to 0, not 3"),
    Row("jaxnet.sweep.Sweep", "column", lambda _: _one_lane().answer(0.5, "los"),
        "one of .*loss.*, not 'los'; did you mean 'loss'"),
    *of("jaxnet.cache.enable", cache.enable, folder=k.PATH),
    Row("jaxnet.cache.enable", "folder", lambda folder: cache.enable(folder / "file"),
        "one that can be made, not .*file: ", OSError),
]  # fmt: skip
