"""`jaxnet.data`: MNIST, from the bundle and from files."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import re
from unittest import mock

import numpy as np

from jaxnet import data
from jaxnet.data import mnist
from tests.bad_calls import Row, of_files, of_values

D = "jaxnet.data."
WHOLE = "is not whole .*install jaxnet again"
FOUR = "expected a folder that holds MNIST's four IDX files"


def bundle(path):
    with mock.patch.object(mnist, "BUNDLE", path):
        return data.load_mnist()


ROWS = [
    *(
        Row(D + "load_mnist", "classes", lambda _, c=classes: data.load_mnist(c),
            rf"is {re.escape(repr(classes))}; expected distinct digits from 0 to 9", kind)
        for kind, many in (
            (ValueError, ((), (0, 0), (0, 10), (-1,))),
            (TypeError, ("01", {0, 1}, (0.0, 1.0), (True, 0), 1, None)),
        )
        for classes in many
    ),
    *(
        Row(D + "load_mnist", "root", lambda files, r=root: data.load_mnist((0, 1), files / r),
            f"which {says}; {FOUR}", FileNotFoundError)
        for root, says in (("no/such/folder", "does not exist"), ("file", "is not a folder"),
                           ("empty", "lacks train-images-idx3-ubyte, .*"))
    ),
    Row(D + "load_mnist", "root", lambda _: data.load_mnist((0, 1), 3), f"is 3; {FOUR}", TypeError),
    *(
        Row(D + "load_mnist", "train-images-idx3-ubyte",
            lambda files, r=root: data.load_mnist((0, 1), files / r), says)
        for root, says in (
            ("other", "is not MNIST's train-images-idx3-ubyte: the MD5 .* expected 6bbc9ace"),
            ("shape", r"has shape \(1, 27, 28\); expected \('n', 28, 28\)"),
            ("cut", r"holds 779 bytes of data; expected 784 for \(1, 28, 28\)"),
        )
    ),
    *of_files(
        D + "load_mnist", bundle, ("cut.npz", WHOLE), ("text.npz", WHOLE), ("missing.npz", WHOLE),
        ("other.npz", "SHA-256 of train_0: .*expected ac32299b.*"),
        ("less.npz", WHOLE),
    ),
    *of_files(
        D + "read_idx", data.read_idx,
        ("short-idx2-ubyte", r"holds 5 bytes of data; expected 6 for \(2, 3\)"),
        ("long-idx2-ubyte", r"holds 7 bytes of data; expected 6 for \(2, 3\)"),
        ("header-idx2-ubyte", "ends within its header; expected 2 dimensions"),
        ("nothing-idx2-ubyte", "starts with b''; expected IDX's 0, 0, 8"),
        ("floats-idx2-ubyte", r"starts with b'.*\\r.*'; expected IDX's 0, 0, 8"),
        ("cut-idx2-ubyte.gz", "is a damaged gzip file .*fetch it again"),
        ("no-such-file", "No such file", FileNotFoundError),
        ("empty", "Is a directory", IsADirectoryError),
    ),
    Row(D + "read_idx", "path", lambda _: data.read_idx(3), "must be a str or os.PathLike, not 3",
        TypeError),
    *of_values(
        D + "one_hot", "labels", lambda labels: data.one_hot(labels, 3),
        ([0, 3], "holds 3; expected integers from 0 to 2"),
        ([-1], "holds -1; expected integers from 0 to 2"),
        ([0.5], "has dtype float64; expected integers", TypeError),
        ([True], "has dtype bool; expected integers", TypeError),
        ([[1], [1, 2]], r"is \[\[1\], \[1, 2\]\]; .*integers", TypeError),
    ),
    *of_values(
        D + "one_hot", "labels", data.one_hot, ([-1], "holds -1; expected integers from 0"),
        (np.zeros(0, int), "is empty; expected num_classes"),
    ),
    *of_values(
        D + "one_hot", "num_classes", lambda count: data.one_hot([0], count),
        *((value, f"is {value}; expected 1 to 2147483647") for value in (0, 2**31)),
        (2.0, "is 2.0; expected a positive integer", TypeError),
        (True, "is True; expected a positive integer", TypeError),
    ),
]  # fmt: skip
