"""`jaxnet.lecture`: its pictures, its page, its studies, torch's results beside its own."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import json
import tempfile
from pathlib import Path

import numpy as np

from jaxnet.data import Dataset
from jaxnet.lecture import EXPERIMENTS, Result, doctor, figures, report, studies
from jaxnet.lecture.torch_results import TorchRun, check_same, digest_rows, load_torch
from jaxnet.train import History
from tests.bad_calls import Row
from tests.bad_calls.files import DIGITS, state

L, F = "jaxnet.lecture.", "jaxnet.lecture.figures."
RUN = {
    "experiment": "logits", "seed": 0, "train_accuracy": 0.5, "test_accuracy": 0.5,
    "run_seconds": 1.0, "steps": 1, "rows": "", "losses": [0.5], "machine": {},
    "reports": [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}], "certificate": None,
    "loss_bound": None,
}  # fmt: skip


def torch_run(losses):
    return TorchRun({"reports": []}, np.array(losses), {}, None, "", None)


def result(name="logits"):
    """A run of one step."""
    nothing = {"train": None, "test": None}
    record = {"experiment": name, "reports": [], "published": nothing, "test_accuracy": 0.5}
    return Result(record, state(), History(np.zeros(1, np.float32), (), 0.0, 0.0, "parity"))


def load_written(text):
    """`load_torch` of a file, apart from the folder that must stay as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "torch.json")
        path.write_text(text)
        load_torch(path)


def _figure(name, argument, says, *arguments, kind=ValueError, file="new.png", **options):
    def call(files):
        getattr(figures, name)(*arguments, files / file, **options)

    return Row(F + name, argument, call, says, kind)


def _page(argument, says, made=lambda: [result()], kind=ValueError, file="new.html", **options):
    def call(files):
        report.write_report(made(), {}, files / file, **options)

    return Row(L + "report.write_report", argument, call, says, kind)


NO_RESULT = "must be a jaxnet.lecture.Result, not str"
ROWS = [
    Row(F + "check_picture", "path", lambda _: figures.check_picture("digits"),
        r"must end in one of .*\.png.*, not digits"),
    Row(F + "canvas", "width", lambda files: figures.canvas(files / "new.png", 0, 1).__enter__(),
        "must be a positive number of inches, not 0"),
    Row(F + "canvas", "height", lambda files: figures.canvas(files / "new.png", 1, "2").__enter__(),
        "must be a number, not '2'", TypeError),
    Row(F + "canvas", "path", lambda _: figures.canvas(3, 1, 1).__enter__(),
        "must be a str or os.PathLike, not 3", TypeError),
    Row(F + "canvas", "path", lambda files: figures.canvas(files / "new.xyz", 1, 1).__enter__(),
        r"must end in .*\.png.*, not .*new.xyz"),
    _figure("draw_digits", "columns", "integer of at least 1, not 0", DIGITS, columns=0),
    _figure("draw_digits", "data", "a Dataset .*, not NoneType", None, kind=TypeError),
    _figure("draw_digits", "data", "at least one row, not 0",
            Dataset(DIGITS.images[:0], DIGITS.labels[:0])),
    _figure("draw_digits", "file", "", DIGITS, file="file/new.png", kind=OSError),
    _figure("draw_training", "result", NO_RESULT, "logits", kind=TypeError),
    Row(F + "draw_training", "torch",
        lambda files: figures.draw_training(result(), files / "new.png", {}),
        "must be a TorchRun, not dict", TypeError),
    Row(F + "draw_training", "torch",
        lambda files: figures.draw_training(result(), files / "new.png", torch_run([0.5] * 3)),
        "as many steps as the result, 1, not 3"),
    _figure("draw_lecture", "results", "must be jaxnet.lecture.Results, not str", ["logits"], {},
            kind=TypeError, file="new"),
    _figure("draw_lecture", "results", "at least one .*, not 0", [], {}, file="new"),
    _figure("draw_predictions", "result", NO_RESULT, "logits", DIGITS, kind=TypeError),
    Row(F + "draw_predictions", "test",
        lambda files: figures.draw_predictions(result(), None, files / "new.png"),
        "a Dataset .*, not NoneType", TypeError),
    Row(F + "draw_predictions", "columns",
        lambda files: figures.draw_predictions(result(), DIGITS, files / "new.png", columns=0),
        "integer of at least 1, not 0"),
    _figure("draw_weights", "result", NO_RESULT, "logits", kind=TypeError),
    _figure("draw_confusion", "counts", r"a square table, not of shape \(2, 3\)", np.ones((2, 3))),
    Row(F + "draw_multinomial", "path", lambda _: figures.draw_multinomial("new"),
        "must end in one of .*, not new"),
    *(
        _figure(f"draw_{name}", "study", "of jaxnet.lecture.studies, not dict", {}, kind=TypeError)
        for name in ("overfitting", "batch_sizes", "sigmoid", "codes")
    ),
    *(
        Row(f"{L}studies.{study.__name__}", "data", lambda _, study=study, value=value:
            study(value), says, kind)
        for study in (studies.overfit, studies.vary_batches, studies.compare_codes)
        for value, says, kind in (
            ("digits", r"\(train, test\), not", TypeError),
            ((DIGITS, None), "a Dataset each, not NoneType", TypeError),
            ((Dataset(DIGITS.images, DIGITS.labels + 7),) * 2, r"the digits .*not \(7, 8\)",
             ValueError),
        )
    ),
    Row(L + "studies.count_confusions", "chosen",
        lambda _: studies.count_confusions([0, 1], [0], 2), "as many as labels, 2, not 1"),
    Row(L + "studies.count_confusions", "chosen",
        lambda _: studies.count_confusions([0, 1], [0, 2], 2), "0 to 1, not 2"),
    _page("results", "at least one .*, not 0", lambda: []),
    _page("results", "must be jaxnet.lecture.Results, not str", lambda: ["logits"], kind=TypeError),
    _page("path", "must end in .html, not .*new.pdf", file="new.pdf"),
    _page("benchmarks", "must hold peers that agree", benchmarks={}),
    *(
        Row(L + "torch_results.load_torch", "path", lambda _, text=text: load_written(text), says)
        for text, says in (
            ("{", "is no JSON"), ("{}", "is no list of runs"), ("[]", "holds no run"),
            ('[{"experiment": "logits"}]', "a run without .*losses, machine, .*steps"),
            *(
                (json.dumps([RUN | changes]), says)
                for changes, says in (
                    ({"experiment": "x"}, "unknown experiment, 'x'"),
                    ({"losses": "abc"}, "for logits a value of losses that is none: 'abc'"),
                    ({"losses": ["a"]}, "for logits losses that are no numbers"),
                    ({"losses": []}, "for logits 1 steps but 0 losses"),
                    ({"machine": "here"}, "a value of machine that is none: 'here'"),
                    ({"reports": [{}]}, "a report without epoch, loss, accuracy"),
                    ({"certificate": {}}, "a certificate without agrees, headline"),
                )
            ),
        )
    ),
    Row(L + "torch_results.load_torch", "file", lambda files: load_torch(files / "file" / "a"),
        "", OSError),
    Row(L + "torch_results.digest_rows", "data", lambda _: digest_rows((DIGITS, None)),
        "a Dataset each, not NoneType", TypeError),
    Row(L + "torch_results.check_same", "torch",
        lambda _: check_same({"logits": torch_run([0.5])}, [EXPERIMENTS["logits"]],
                             {(0, 1): (DIGITS, DIGITS)}), "on the same rows"),
    _page("results", "the lecture's experiments, not 'ten_class'", lambda: [result("ten_class")]),
    _page("torch", "the same steps: 3 there, 1 here", torch={"logits": torch_run([0.5] * 3)}),
    Row(L + "doctor.examine", "facts", lambda _: doctor.examine("this machine"),
        "must be Facts .*, not str", TypeError),
]  # fmt: skip
