"""What arguments of a kind must not be, with what is then said: tables for `tests.bad_calls.of`."""

import re

import jax
import numpy as np

from jaxnet import nn
from tests.bad_calls.files import X, Y, key, replaced

NAN, INF = float("nan"), float("inf")
NO_KEY = "must come from jaxnet.random.manual_seed, not"

COUNT = [(v, f"must be an integer of at least 1, not {v!r}") for v in (0, 1.5, True, "1")]
BATCH = [*COUNT, (5, "must be at most the number of rows, 4, not 5")]
INTEGER = [(v, f"must be an integer, not {v!r}", TypeError) for v in (1.5, "2", True)]
SIZE = [
    (-1, "must be at least 1, not -1"),
    (2**31, "must be at most 2147483647, not 2147483648"),
    *INTEGER,
]
PAIR = [((1, 2, 3), r"a pair, not \(1, 2, 3\)"), ((1, -1), "at least [01], not -1"), INTEGER[0]]
NUMBER = [(v, f"must be a number, not {v!r}", TypeError) for v in ("1", None)]
PROBABILITY = [
    *((p, f"probability between 0 and 1, not {p}") for p in (1.5, -0.1, NAN)),
    *(
        (p, f"must be a number, .* not {re.escape(repr(p))}", TypeError)
        for p in ("a half", np.array([0.1, 0.2]))
    ),
]
SEED = [
    *((v, f"must be an integer, not {v!r}", TypeError) for v in ("7", b"7", 1.5, True, NAN)),
    (np.array([1, 2]), r"must be an integer.*, not array\(\[1, 2\]\)", TypeError),
    (2**64, r"between -2\*\*63 and 2\*\*64 - 1, not 18446744073709551616"),
]
SHAPE = [
    ((2, -1), r"not have negative sizes: \(2, -1\)"),
    *(
        (shape, f"at most {2**40} numbers, not {re.escape(repr(shape))}")
        for shape in ((2**70,), (2**39, 4), (0, 2**63))
    ),
    *(
        (shape, f"must be an integer, not {shown}", TypeError)
        for shape, shown in (((2, 1.5), "1.5"), ("ab", "'a'"), (None, "None"), (True, "True"))
    ),
]
GENERATOR = [
    (0, f"{NO_KEY} int", TypeError),
    (None, f"{NO_KEY} NoneType", TypeError),
    (key(), f"{NO_KEY} .*Array; a jax", TypeError),
]
EITHER_GENERATOR = [
    (0, "must be a jaxnet.random.Generator or a jax.random.key, not int", TypeError)
]
MODULE = [
    ("net", "must be a Flax module, not 'net'", TypeError),
    (nn.Linear, "must be a Flax module, not <class .*Linear", TypeError),
]
OURS = [("net", "made of jaxnet.nn modules, not str", TypeError)]
FUNCTION = [(3, "must be a function.*, not 3", TypeError)]
OPTIMIZER = [("sgd", "must be an optax optimizer, such as .*, not 'sgd'", TypeError)]
CALLBACKS = [
    (print, "must be a list, not builtin_function", TypeError),
    ([3], "or functions of a Chunk, not 3", TypeError),
]
PRECISION = [(v, f"one of parity, fast, float64, not {v!r}") for v in ("double", None)]
PLACEMENT = [(8, "must be a jaxnet.train.OnMesh, not 8", TypeError)]
STATE = [({}, "must be a TrainState, not dict", TypeError)]
METRICS = [(["a"], r"must be \{name: metric\}, not list", TypeError)]
PATH = [(3, "must be a str or os.PathLike, not 3", TypeError)]
MAPPING = [(3, "must be a mapping .*not int", TypeError)]
ARRAY = [(v, f"must be an array, not {type(v).__name__}", TypeError) for v in ([0.5], None)]
DATA = [
    ((X, Y[:3]), r"same number of rows.* x \(4, 2\) and y \(3, 1\)"),
    ((X[:0], Y[:0]), r"at least one; .* x \(0, 2\) and y \(0, 1\)"),
    ((np.float32(1), Y), r"shapes: x \(\) and y \(4, 1\)"),
    ((X, Y, X), r"must be \(x, y\).*two things, not 3"),
    (X, r"must be \(x, y\).*not .*ndarray", TypeError),
]
ROWS_OF_X = [
    (X[:, :1], r"must have shape \(..., 2\), not \(4, 1\)"),
    (X.astype(np.uint8), "must be floating-point, not uint8", TypeError),
    (X.astype(str), "must hold real numbers, not <U32", TypeError),
    ("abcd", "must hold real numbers, not a str", TypeError),
]
TARGETS = [
    (replaced(Y, 2, NAN), "must be finite.* row 2 holds nan"),
    (jax.numpy.asarray(replaced(Y, 1, -INF)), "must be finite.* row 1 holds -inf"),
    (Y.astype(str), "must hold real numbers, not <U32", TypeError),
]
