"""`jaxnet.lecture`: its pictures, its page, its studies, torch's results beside its own."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import json
import tempfile
from pathlib import Path

import numpy as np

from jaxnet.data import Dataset
from jaxnet.lecture import EXPERIMENTS, Result, doctor, figures, report
from jaxnet.lecture.torch_results import check_same, load_torch
from jaxnet.train import History
from tests.bad_calls import Row
from tests.bad_calls.files import DIGITS, state

L, F = "jaxnet.lecture.", "jaxnet.lecture.figures."
RUN = {
    "experiment": "logits", "seed": 0, "train_accuracy": 0.5, "test_accuracy": 0.5,
    "run_seconds": 1.0, "rows": "", "losses": [0.5], "machine": {},
    "reports": [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}], "certificate": None,
    "loss_bound": None,
}  # fmt: skip


def torch_run(losses):
    nothing = {"seed": 0, "reports": [], "machine": {}, "loss_bound": None, "certificate": None}
    return nothing | {"losses": np.array(losses), "rows": ""}


def result(name="logits"):
    """A run of one step."""
    nothing = {"train": None, "test": None}
    record = {"experiment": name, "random": "torch", "reports": [], "published": nothing}
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


ROWS = [
    _figure("draw_digits", "data", "a Dataset .*, not NoneType", None, kind=TypeError),
    _figure("draw_digits", "data", "at least one row, not 0",
            Dataset(DIGITS.images[:0], DIGITS.labels[:0])),
    _figure("draw_digits", "file", "", DIGITS, file="file/new.png", kind=OSError),
    Row(F + "draw_digits", "path", lambda _: figures.draw_digits(DIGITS, 3),
        "must be a str or os.PathLike, not 3", TypeError),
    _figure("draw_lecture", "results", "must be jaxnet.lecture.Results, not str", ["logits"], {},
            kind=TypeError, file="new"),
    _figure("draw_lecture", "results", "at least one .*, not 0", [], {}, file="new"),
    _page("results", "at least one .*, not 0", lambda: []),
    _page("results", "must be jaxnet.lecture.Results, not str", lambda: ["logits"], kind=TypeError),
    _page("results", "the lecture's experiments, not 'ten_class'", lambda: [result("ten_class")]),
    _page("path", "must end in .html, not .*new.pdf", file="new.pdf"),
    _page("torch", "the same steps: 3 there, 1 here", torch={"logits": torch_run([0.5] * 3)}),
    *(
        Row(L + "torch_results.load_torch", "path", lambda _, text=text: load_written(text), says)
        for text, says in (
            ("{", "is no JSON"), ("{}", "is no list of runs"), ("[]", "holds no run"),
            *(
                (json.dumps([RUN | changes]), says)
                for changes, says in (
                    ({"experiment": "x"}, "a run of 'x', an unknown experiment"),
                    ({"losses": "abc"}, "a run with losses 'abc'"),
                    ({"losses": ["a"]}, "losses that are no numbers"),
                    ({"losses": [[0.5]]}, "losses that are no numbers"),
                    ({"losses": [10**400]}, "losses that are no numbers"),
                    ({"machine": None}, "a run with machine None"),
                    ({"reports": [3]}, "a report with epoch 3"),
                    ({"reports": [{"epoch": 1, "loss": 0.5}]}, "a report with accuracy 'missing'"),
                    ({"certificate": {"agrees": 1}}, "a certificate with agrees 1"),
                )
            ),
        )
    ),
    Row(L + "torch_results.load_torch", "file", lambda files: load_torch(files / "file" / "a"),
        "", OSError),
    Row(L + "torch_results.check_same", "torch",
        lambda _: check_same({"logits": torch_run([0.5])}, [EXPERIMENTS["logits"]],
                             {(0, 1): (DIGITS, DIGITS)}), "on the same rows"),
    Row(L + "doctor.examine", "facts", lambda _: doctor.examine("this machine"),
        "must be Facts .*, not str", TypeError),
]  # fmt: skip
