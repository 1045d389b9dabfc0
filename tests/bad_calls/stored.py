"""What is read and written: `data`, `convert`, `files`, `figures`; and `progress`, `doctor`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import errno
import functools
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import jaxnet._utils.files
import jaxnet.lecture.figures
from jaxnet import convert, data, doctor, figures, lessons, progress, report
from jaxnet.data import Dataset
from jaxnet.lecture.experiments import EXPERIMENTS, Result
from jaxnet.lecture.torch_results import TorchRun, check_same, digest_rows, load_torch
from jaxnet.train.state import History
from tests.bad_calls import Row
from tests.bad_calls.files import LIKE, OPTIMIZER, state

D, C, F = "jaxnet.data.mnist.", "jaxnet.convert.", "jaxnet._utils.files."
DIGITS = Dataset(np.ones((2, 784), np.float32), np.array([0, 1], np.int32))
FOUR = "expected a folder that holds MNIST's four IDX files"


RUN = {
    "experiment": "logits",
    "seed": 0,
    "train_accuracy": 0.5,
    "test_accuracy": 0.5,
    "run_seconds": 1.0,
    "steps": 1,
    "rows": "",
    "reports": [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}],
    "losses": [0.5],
    "machine": {},
    "certificate": None,
    "loss_bound": None,
}


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


@functools.cache
def torch_net():
    return torch.nn.Linear(2, 1)


def sgd(**options):
    return torch.optim.SGD(torch_net().parameters(), lr=0.1, **options)


def other_sgd():
    return torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)


def opt_state():
    return OPTIMIZER.init({"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)})


def bundle(files, name):
    with mock.patch.object(data, "BUNDLE", files / name):
        return data.load_mnist()


def write_where_none_is_left(path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with mock.patch.object(Path, "replace", side_effect=error):
        jaxnet._utils.files.write_whole(path, "text")


_CLASSES = (
    ((), "expected distinct digits", ValueError),
    ((0, 0), r"is \(0, 0\); expected distinct digits from 0 to 9", ValueError),
    ((0, 10), r"is \(0, 10\); expected distinct digits", ValueError),
    ((-1,), r"is \(-1,\); expected distinct digits", ValueError),
    ("01", "is '01'; expected distinct digits", TypeError),
    ({0, 1}, r"is \{0, 1\}; expected distinct digits", TypeError),
    ((0.0, 1.0), r"is \(0.0, 1.0\); expected distinct digits", TypeError),
    ((True, 0), r"is \(True, 0\); expected distinct digits", TypeError),
    (1, "is 1; expected distinct digits", TypeError),
    (None, "is None; expected distinct digits", TypeError),
)


def _roots(name, call):
    for root, says, kind in (
        ("no/such/folder", f"which does not exist; {FOUR}", FileNotFoundError),
        ("file", f"which is not a folder; {FOUR}", FileNotFoundError),
        ("empty", f"which lacks train-images-idx3-ubyte, .*; {FOUR}", FileNotFoundError),
    ):
        yield Row(D + name, "root", lambda files, r=root: call(files / r), says, kind)
    yield Row(D + name, "root", lambda _: call(3), f"is 3; {FOUR}", TypeError)
    for root, says in (
        ("other", "is not MNIST's train-images-idx3-ubyte: the MD5 .* expected 6bbc9ace"),
        ("shape", r"has shape \(1, 27, 28\); expected \('n', 28, 28\)"),
        ("cut", r"holds 779 bytes of data; expected 784 for \(1, 28, 28\)"),
    ):
        yield Row(D + name, "train-images-idx3-ubyte", lambda files, r=root: call(files / r), says)


_DATA = [
    *(
        Row(D + "load_mnist", "classes", lambda _, c=classes: data.load_mnist(c), says, kind)
        for classes, says, kind in _CLASSES
    ),
    *(
        Row(D + "read_digits", "digits",
            lambda files, c=classes: data.read_digits(files / "other", c), says, kind)
        for classes, says, kind in _CLASSES
    ),
    *_roots("load_mnist", lambda root: data.load_mnist((0, 1), root)),
    *_roots("read_digits", lambda root: data.read_digits(root, (0, 1))),
    *(
        Row(D + "load_mnist", file, lambda files, f=file: bundle(files, f), says)
        for file, says in (
            ("cut.npz", "is not whole .*install jaxnet again"),
            ("text.npz", "is not whole .*install jaxnet again"),
            ("other.npz", "is not whole .*SHA-256 of train_0: .*expected ac32299b.*again"),
            ("less.npz", "is not whole .*train_1.*install jaxnet again"),
            ("empty", "is not whole .*install jaxnet again"),
            ("missing.npz", "is not whole .*install jaxnet again"),
        )
    ),
    *(
        Row(D + "read_idx", file, lambda files, f=file: data.read_idx(files / f), says)
        for file, says in (
            ("short-idx2-ubyte", r"holds 5 bytes of data; expected 6 for \(2, 3\)"),
            ("long-idx2-ubyte", r"holds 7 bytes of data; expected 6 for \(2, 3\)"),
            ("header-idx2-ubyte", "ends within its header; expected 2 dimensions"),
            ("nothing-idx2-ubyte", "starts with b''; expected IDX's 0, 0, 8"),
            ("floats-idx2-ubyte", r"starts with b'.*\\r.*'; expected IDX's 0, 0, 8"),
            ("file", "starts with b'not '; expected IDX's 0, 0, 8"),
            ("cut-idx2-ubyte.gz", "is a damaged gzip file .*fetch it again"),
        )
    ),
    Row(D + "read_idx", "no-such-file", lambda files: data.read_idx(files / "no-such-file"),
        "No such file", FileNotFoundError),
    Row(D + "read_idx", "empty", lambda files: data.read_idx(files / "empty"), "Is a directory",
        IsADirectoryError),
    Row(D + "read_idx", "path", lambda _: data.read_idx(3), "must be a str or os.PathLike, not 3",
        TypeError),
    *(
        Row(D + "one_hot", argument, lambda _, a=arguments: data.one_hot(*a), says, kind)
        for argument, arguments, says, kind in (
            ("labels", ([0, 3], 3), "holds 3; expected integers from 0 to 2", ValueError),
            ("labels", ([-1], 3), "holds -1; expected integers from 0 to 2", ValueError),
            ("labels", ([-1],), "holds -1; expected integers from 0", ValueError),
            ("labels", ([0.5], 3), "has dtype float64; expected integers", TypeError),
            ("labels", ("abc", 3), "has dtype <U3; expected integers", TypeError),
            ("labels", ([True], 3), "has dtype bool; expected integers", TypeError),
            ("labels", (None, 3), "has dtype object; expected integers", TypeError),
            ("labels", ([[1], [1, 2]], 3), r"is \[\[1\], \[1, 2\]\]; .*integers", TypeError),
            ("labels", (np.zeros(0, int),), "is empty; expected num_classes", ValueError),
            ("num_classes", ([0], 0), "is 0; expected a positive integer", ValueError),
            ("num_classes", ([0], -1), "is -1; expected a positive integer", ValueError),
            ("num_classes", ([0], 2.0), "is 2.0; expected a positive integer", TypeError),
            ("num_classes", ([0], True), "is True; expected a positive integer", TypeError),
        )
    ),
]  # fmt: skip

_CONVERT = [
    Row(C + "from_torch", "net", lambda _: convert.from_torch("net"),
        "must be a torch.nn.Module, not builtins.str", several_lines=True),
    Row(C + "from_torch", "layer",
        lambda _: convert.from_torch(torch.nn.Sequential(torch.nn.PReLU())),
        "layer '0' is torch.nn.modules.activation.PReLU, which has no translation",
        several_lines=True),
    Row(C + "from_torch", "dim", lambda _: convert.from_torch(torch.nn.Softmax()),
        "dim=None, which guesses the axis", several_lines=True),
    Row(C + "loss_from_torch", "loss", lambda _: convert.loss_from_torch("mse"),
        "is builtins.str, which has no translation", several_lines=True),
    Row(C + "loss_from_torch", "reduction",
        lambda _: convert.loss_from_torch(torch.nn.MSELoss(reduction="none")),
        "has reduction='none', expected 'mean' or 'sum'"),
    Row(C + "optimizer_from_torch", "optimizer",
        lambda _: convert.optimizer_from_torch("sgd", torch_net()),
        "is builtins.str, which has no translation", several_lines=True),
    Row(C + "optimizer_from_torch", "net", lambda _: convert.optimizer_from_torch(sgd(), "net"),
        "must be a torch.nn.Module, not builtins.str"),
    Row(C + "optimizer_from_torch", "optimizer",
        lambda _: convert.optimizer_from_torch(other_sgd(), torch_net()),
        "has a parameter, 0 of group 0, that net has not"),
    Row(C + "optimizer_from_torch", "scheduler",
        lambda _: convert.optimizer_from_torch(sgd(), torch_net(), scheduler=3),
        "is builtins.int, which has no translation", several_lines=True),
    Row(C + "optimizer_from_torch", "steps_per_epoch",
        lambda _: convert.optimizer_from_torch(
            opt := sgd(), torch_net(), steps_per_epoch=0,
            scheduler=torch.optim.lr_scheduler.StepLR(opt, 1)),
        "is 0, expected an integer from 1"),
    Row(C + "opt_state_from_torch", "optimizer",
        lambda _: convert.opt_state_from_torch("sgd", torch_net(), opt_state()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "opt_state_from_torch", "net",
        lambda _: convert.opt_state_from_torch(sgd(), None, opt_state()),
        "must be a torch.nn.Module, not builtins.NoneType"),
    Row(C + "opt_state_from_torch", "like",
        lambda _: convert.opt_state_from_torch(
            sgd(), torch_net(), jaxnet.optim.adam().init({"other": np.ones(1, np.float32)})),
        "has a parameter 'other', which net has not"),
    Row(C + "opt_state_to_torch", "optimizer",
        lambda _: convert.opt_state_to_torch(opt_state(), other_sgd(), torch_net()),
        "has parameters that net has not"),
    Row(C + "opt_state_to_torch", "optimizer",
        lambda _: convert.opt_state_to_torch(opt_state(), "sgd", torch_net()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "opt_state_to_torch", "net",
        lambda _: convert.opt_state_to_torch(opt_state(), sgd(), "net"),
        "must be a torch.nn.Module, not builtins.str"),
    Row(C + "opt_state_to_torch", "opt_state",
        lambda _: convert.opt_state_to_torch(
            jaxnet.optim.adam().init({"weight": np.ones((1, 2), np.float32)}), sgd(), torch_net()),
        "is another optimizer's: it has .*exp_avg"),
    Row(C + "train_state_from_torch", "net",
        lambda _: convert.train_state_from_torch("net", sgd(), OPTIMIZER, torch.get_rng_state()),
        "must be a torch.nn.Module, not builtins.str", several_lines=True),
    Row(C + "train_state_from_torch", "optimizer",
        lambda _: convert.train_state_from_torch(
            torch_net(), "sgd", OPTIMIZER, torch.get_rng_state()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "train_state_from_torch", "jax_optimizer",
        lambda _: convert.train_state_from_torch(torch_net(), sgd(), "sgd", torch.get_rng_state()),
        "must be an optax optimizer, .* not 'sgd'", TypeError),
    Row(C + "train_state_from_torch", "state",
        lambda _: convert.train_state_from_torch(torch_net(), sgd(), OPTIMIZER, [1, 2]),
        "must hold uint8 numbers or be bytes, not int64", TypeError),
    Row(C + "train_state_from_torch", "step",
        lambda _: convert.train_state_from_torch(
            torch_net(), sgd(), OPTIMIZER, torch.get_rng_state(), step=-1),
        "must be an integer of at least 0, not -1"),
    *(
        Row(C + "from_state_dict", argument, lambda _, a=arguments: convert.from_state_dict(*a),
            says, kind, lines)
        for argument, arguments, says, kind, lines in (
            ("0.weight", ({}, LIKE), "missing", ValueError, True),
            ("0.bias", ({**convert.to_state_dict(LIKE), "0.bias": np.ones(1)}, LIKE),
             "not expected", ValueError, True),
            ("0.weight", ({"0.weight": np.ones((2, 2), np.float32)}, LIKE),
             r"shape \(2, 2\), expected \(1, 2\)", ValueError, True),
            ("0.weight", ({"0.weight": np.ones((1, 2))}, LIKE), "type float64, expected float32",
             ValueError, True),
            ("state_dict", (None, LIKE), "must be a mapping .*not NoneType", TypeError, False),
            ("like", ({}, 3), "must be a mapping .*not int", TypeError, False),
        )
    ),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict([1]),
        "must be a mapping .*not list", TypeError),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": 3}),
        "must be a mapping .*not int", TypeError),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": {"w": "abc"}}),
        "must hold arrays, not 'abc'", TypeError),
    *(
        Row(C + "load_safetensors", file, lambda files, f=file: convert.load_safetensors(
            files / f, LIKE), says, kind, lines)
        for file, says, kind, lines in (
            ("cut.safetensors", "is not a whole safetensors file", ValueError, False),
            ("header.safetensors", "is not a whole safetensors file", ValueError, False),
            ("nothing.safetensors", "is not a whole safetensors file", ValueError, False),
            ("pickle.safetensors", "is not a whole safetensors .*pickles are not read", ValueError,
             False),
            ("shape.safetensors", r"0.weight: shape \(2, 2\), expected \(1, 2\)", ValueError, True),
            ("type.safetensors", "0.weight: type float64, expected float32", ValueError, True),
            ("more.safetensors", "0.bias: not expected", ValueError, True),
            ("missing.safetensors", "No such file", FileNotFoundError, False),
            ("empty", "is a folder|[Ii]s a directory", OSError, False),
        )
    ),
    Row(C + "load_safetensors", "like",
        lambda files: convert.load_safetensors(files / "whole.safetensors", None),
        "must be a mapping .*not NoneType", TypeError),
    Row(C + "load_safetensors", "path", lambda _: convert.load_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    *(
        Row(C + "load_train_state", file, lambda files, f=file: convert.load_train_state(
            files / f, state()), says, kind, lines)
        for file, says, kind, lines in (
            ("cut-state.safetensors", "is not a whole safetensors file", ValueError, False),
            ("whole.safetensors", "net.0.weight: missing", ValueError, True),
            ("less-state.safetensors", "step: missing", ValueError, True),
            ("missing.safetensors", "No such file", FileNotFoundError, False),
            ("empty", "is a folder|[Ii]s a directory", OSError, False),
        )
    ),
    Row(C + "load_train_state", "state",
        lambda files: convert.load_train_state(files / "stream.safetensors", state()),
        "this one is damaged"),
    Row(C + "load_train_state", "like",
        lambda files: convert.load_train_state(files / "state.safetensors", {}),
        "must be a TrainState, not dict", TypeError),
    Row(C + "save_safetensors", "variables",
        lambda files: convert.save_safetensors(files / "new", [1]), "must be a mapping .*not list",
        TypeError),
    Row(C + "save_safetensors", "variables",
        lambda files: convert.save_safetensors(
            files / "whole.safetensors", {"params": {"w": None}}),
        "must hold arrays, not None", TypeError),
    Row(C + "save_safetensors", "empty",
        lambda files: convert.save_safetensors(files / "empty", LIKE), "Is a directory",
        IsADirectoryError),
    Row(C + "save_safetensors", "file",
        lambda files: convert.save_safetensors(files / "file" / "new", LIKE), "Not a directory",
        NotADirectoryError),
    Row(C + "save_safetensors", "no-folder",
        lambda files: convert.save_safetensors(files / "no-folder" / "new", LIKE), "No such file",
        FileNotFoundError),
    Row(C + "save_safetensors", "path", lambda _: convert.save_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    Row(C + "save_train_state", "state",
        lambda files: convert.save_train_state(files / "new", {}), "must be a TrainState, not dict",
        TypeError),
    Row(C + "save_train_state", "state",
        lambda files: convert.save_train_state(files / "new", state()._replace(generator=None)),
        "must have torch's CPU generator .*, not", TypeError),
    Row(C + "save_train_state", "file",
        lambda files: convert.save_train_state(files / "file" / "new", state()), "Not a directory",
        NotADirectoryError),
]  # fmt: skip

_REST = [
    Row(F + "write_whole", "content", lambda files: jaxnet._utils.files.write_whole(files / "new", 3),
        "must be a str or bytes, not int", TypeError),
    Row(F + "write_whole", "path", lambda _: jaxnet._utils.files.write_whole(None, "text"),
        "must be a str or os.PathLike, not None", TypeError),
    Row(F + "write_whole", "empty", lambda files: jaxnet._utils.files.write_whole(files / "empty", "text"),
        "Is a directory", IsADirectoryError),
    Row(F + "write_whole", "no-folder",
        lambda files: jaxnet._utils.files.write_whole(files / "no-folder" / "new", "text"),
        "No such file", FileNotFoundError),
    Row(F + "write_whole", "new", lambda files: write_where_none_is_left(files / "new"),
        "No space left on device", OSError),
    Row(F + "as_path", "path", lambda _: jaxnet._utils.files.as_path(3),
        "must be a str or os.PathLike, not 3", TypeError),
    Row("jaxnet.lecture.figures.check_picture", "path", lambda _: figures.check_picture("digits"),
        r"must end in one of .*\.png.*, not digits"),
    Row("jaxnet.lecture.figures.canvas", "width",
        lambda files: figures.canvas(files / "new.png", 0, 1).__enter__(),
        "must be a positive number of inches, not 0"),
    Row("jaxnet.lecture.figures.canvas", "height",
        lambda files: figures.canvas(files / "new.png", 1, "2").__enter__(),
        "must be a number, not '2'", TypeError),
    Row("jaxnet.lecture.figures.canvas", "path", lambda _: figures.canvas(3, 1, 1).__enter__(),
        "must be a str or os.PathLike, not 3", TypeError),
    Row("jaxnet.lecture.figures.canvas", "path",
        lambda files: figures.canvas(files / "new.xyz", 1, 1).__enter__(),
        r"must end in .*\.png.*, not .*new.xyz"),
    Row("jaxnet.lecture.figures.draw_digits", "columns",
        lambda files: figures.draw_digits(DIGITS, files / "new.png", columns=0),
        "integer of at least 1, not 0"),
    Row("jaxnet.lecture.figures.draw_digits", "data",
        lambda files: figures.draw_digits(None, files / "new.png"), "a Dataset .*, not NoneType",
        TypeError),
    Row("jaxnet.lecture.figures.draw_digits", "data",
        lambda files: figures.draw_digits(Dataset(DIGITS.images[:0], DIGITS.labels[:0]),
                                          files / "new.png"),
        "at least one row, not 0"),
    Row("jaxnet.lecture.figures.draw_digits", "file",
        lambda files: figures.draw_digits(DIGITS, files / "file" / "new.png"), "",
        OSError),
    Row("jaxnet.lecture.figures.draw_training", "result",
        lambda files: figures.draw_training("logits", files / "new.png"),
        "must be a jaxnet.lecture.Result, not str", TypeError),
    Row("jaxnet.lecture.figures.draw_training", "torch",
        lambda files: figures.draw_training(result(), files / "new.png", {}),
        "must be a TorchRun, not dict", TypeError),
    Row("jaxnet.lecture.figures.draw_training", "torch",
        lambda files: figures.draw_training(result(), files / "new.png", torch_run([0.5] * 3)),
        "as many steps as the result, 1, not 3"),
    Row("jaxnet.lecture.figures.draw_lecture", "results",
        lambda files: figures.draw_lecture(["logits"], {}, files / "new"),
        "must be jaxnet.lecture.Results, not str", TypeError),
    Row("jaxnet.lecture.figures.draw_lecture", "results",
        lambda files: figures.draw_lecture([], {}, files / "new"), "at least one .*, not 0"),
    Row("jaxnet.lecture.figures.draw_predictions", "result",
        lambda files: figures.draw_predictions("logits", DIGITS, files / "new.png"),
        "must be a jaxnet.lecture.Result, not str", TypeError),
    Row("jaxnet.lecture.figures.draw_predictions", "test",
        lambda files: figures.draw_predictions(result(), None, files / "new.png"),
        "a Dataset .*, not NoneType", TypeError),
    Row("jaxnet.lecture.figures.draw_predictions", "columns",
        lambda files: figures.draw_predictions(result(), DIGITS, files / "new.png", columns=0),
        "integer of at least 1, not 0"),
    Row("jaxnet.lecture.figures.draw_weights", "result",
        lambda files: figures.draw_weights("logits", files / "new.png"),
        "must be a jaxnet.lecture.Result, not str", TypeError),
    Row("jaxnet.lecture.figures.draw_confusion", "counts",
        lambda files: figures.draw_confusion(np.ones((2, 3)), files / "new.png"),
        r"a square table, not of shape \(2, 3\)"),
    Row("jaxnet.lecture.figures.draw_multinomial", "path", lambda _: figures.draw_multinomial("new"),
        "must end in one of .*, not new"),
    *(
        Row(f"jaxnet.lecture.figures.{draw.__name__}", "study",
            lambda files, draw=draw: draw({}, files / "new.png"), "of jaxnet.lecture.studies, not dict",
            TypeError)
        for draw in (figures.draw_overfitting, figures.draw_batch_sizes, figures.draw_sigmoid,
                     figures.draw_codes)
    ),
    *(
        Row(f"jaxnet.lecture.studies.{study.__name__}", "data", lambda _, study=study, value=value:
            study(value), says, kind)
        for study in (lessons.overfit, lessons.vary_batches, lessons.compare_codes)
        for value, says, kind in (
            ("digits", r"\(train, test\), not", TypeError),
            ((DIGITS, None), "a Dataset each, not NoneType", TypeError),
            ((Dataset(DIGITS.images, DIGITS.labels + 7),) * 2, r"the digits .*not \(7, 8\)",
             ValueError),
        )
    ),
    Row("jaxnet.lecture.studies.count_confusions", "chosen",
        lambda _: lessons.count_confusions([0, 1], [0], 2), "as many as labels, 2, not 1"),
    Row("jaxnet.lecture.studies.count_confusions", "chosen",
        lambda _: lessons.count_confusions([0, 1], [0, 2], 2), "0 to 1, not 2"),
    Row("jaxnet.lecture.report.write_report", "results",
        lambda files: report.write_report([], {}, files / "new.html"), "at least one .*, not 0"),
    Row("jaxnet.lecture.report.write_report", "results",
        lambda files: report.write_report(["logits"], {}, files / "new.html"),
        "must be jaxnet.lecture.Results, not str", TypeError),
    Row("jaxnet.lecture.report.write_report", "path",
        lambda files: report.write_report([result()], {}, files / "new.pdf"),
        "must end in .html, not .*new.pdf"),
    Row("jaxnet.lecture.report.write_report", "benchmarks",
        lambda files: report.write_report([result()], {}, files / "new.html", benchmarks={}),
        "must hold peers that agree"),
    *(
        Row("jaxnet.lecture.torch_results.load_torch", "path",
            lambda _, text=text: load_written(text), says)
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
    Row("jaxnet.lecture.torch_results.load_torch", "file", lambda files: load_torch(files / "file" / "a"),
        "", OSError),
    Row("jaxnet.lecture.torch_results.digest_rows", "data", lambda _: digest_rows((DIGITS, None)),
        "a Dataset each, not NoneType", TypeError),
    Row("jaxnet.lecture.torch_results.check_same", "torch",
        lambda _: check_same({"logits": torch_run([0.5])}, [EXPERIMENTS["logits"]],
                             {(0, 1): (DIGITS, DIGITS)}), "on the same rows"),
    Row("jaxnet.lecture.report.write_report", "results",
        lambda files: report.write_report([result("ten_class")], {}, files / "new.html"),
        "the lecture's experiments, not 'ten_class'"),
    Row("jaxnet.lecture.report.write_report", "torch",
        lambda files: report.write_report([result()], {}, files / "new.html",
                                          torch={"logits": torch_run([0.5] * 3)}),
        "the same steps: 3 there, 1 here"),
    Row("jaxnet.callbacks.progress.count", "total", lambda _: progress.count("x", 0).__enter__(),
        "integer of at least 1, not 0"),
    *(
        Row("jaxnet.callbacks.progress.bar", "epochs", lambda _, v=v: progress.bar("x", v).__enter__(),
            f"integer of at least 1, not {v!r}")
        for v in (0, -1, 1.5, "2", None)
    ),
    Row("jaxnet.callbacks.progress.describe", "chunk", lambda _: progress.describe("chunk"),
        "must be a Chunk, not str", TypeError),
    Row("jaxnet.lecture.doctor.examine", "facts", lambda _: doctor.examine("this machine"),
        "must be Facts .*, not str", TypeError),
    Row("jaxnet.convert.save_train_state", "state",
        lambda files: convert.save_train_state(
            files / "new", state()._replace(generator=jaxnet.random.manual_seed(0, "cuda"))),
        "torch's CPU generator .*, not a card's", TypeError),
]  # fmt: skip

ROWS = [*_DATA, *_CONVERT, *_REST]
