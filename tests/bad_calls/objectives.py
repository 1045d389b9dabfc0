"""`jaxnet.losses`, `jaxnet.metrics` and `jaxnet.optim`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax.numpy as jnp
import numpy as np

from jaxnet import losses, metrics, optim
from tests.bad_calls import Row, of_values

L, O, ME = "jaxnet.losses.", "jaxnet.optim.", "jaxnet.metrics."  # noqa: E741
NAN = float("nan")
P = np.array([[0.25], [0.75]], np.float32)
LOGITS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], np.float32)
CLASSES = np.array([0, 2])

_PAIRS = {
    "binary_cross_entropy": losses.binary_cross_entropy,
    "binary_cross_entropy_with_logits": losses.binary_cross_entropy_with_logits,
    "l1_loss": losses.l1_loss,
    "mse_loss": losses.mse_loss,
    "smooth_l1_loss": losses.smooth_l1_loss,
}
_CLASSES = {"cross_entropy": losses.cross_entropy, "nll_loss": losses.nll_loss}


def _loss(name, loss, x, y):
    for bad, meant in (("Mean", "; did you mean 'mean'"), (None, ""), (3, "")):
        yield Row(L + name, "reduction", lambda _, bad=bad: loss(x, y, reduction=bad),
                  f"is {bad!r}, expected 'none', 'mean' or 'sum'{meant}")  # fmt: skip
    for bad, says in (
        ([[0.5]], "is a list, expected an array"),
        ("0.5", "is a str, expected an array"),
        (None, "is a NoneType, expected an array"),
        (x.astype(int), "has dtype int64, expected a floating dtype"),
        (x.astype(str), "has dtype <U32, expected a floating dtype"),
        (x.astype(object), "has dtype object, expected a floating dtype"),
        (x.astype(np.complex64), "has dtype complex64, expected a floating dtype"),
    ):
        yield Row(L + name, "input", lambda _, bad=bad: loss(bad, y), says, TypeError)
    yield Row(L + name, "target", lambda _: loss(x, [1]), "is a list, expected an array", TypeError)


def _pair(name, loss):
    yield from _loss(name, loss, P, P)
    for y, says, kind in (
        (P[:, 0], r"has shape \(2,\), expected \(2, 1\) as in input", ValueError),
        (P[:1], r"has shape \(1, 1\), expected \(2, 1\)", ValueError),
        ((P > 0.5).astype(int), "has dtype int64, expected a floating dtype", TypeError),
    ):
        yield Row(L + name, "target", lambda _, y=y: loss(P, y), says, kind)


def _class(name, loss):
    yield from _loss(name, loss, LOGITS, CLASSES)
    yield Row(L + name, "input", lambda _: loss(np.ones((2, 0), np.float32), CLASSES),
              r"has shape \(2, 0\), expected .* with C > 0")  # fmt: skip
    for y, says, kind in (
        ([0, 1, 2], r"has shape \(3,\), expected \(2,\)", ValueError),
        ([0, 3], r"holds class 3, expected every class in \[0, 3\)", IndexError),
        ([0, -1], r"holds class -1, expected every class in \[0, 3\)", IndexError),
        ([0.0, 1.0], "has dtype float64, expected integer class indices", TypeError),
    ):
        yield Row(L + name, "target", lambda _, y=y: loss(LOGITS, np.array(y)), says, kind)
    for argument, value, says, kind in (
        ("weight", np.ones(2, np.float32), r"has shape \(2,\), expected \(3,\), one per class",
         ValueError),
        ("weight", [1.0, 1.0, 1.0], "is a list, expected an array", TypeError),
        ("weight", np.array(["a", "b", "c"]), "has dtype <U1, expected real numbers", TypeError),
        ("ignore_index", "0", "is '0', expected an integer", TypeError),
        ("ignore_index", 0.5, "is 0.5, expected an integer", TypeError),
        ("ignore_index", 2**31, "is 2147483648, expected -2147483647 to 2147483647", ValueError),
    ):  # fmt: skip
        yield Row(L + name, argument,
                  lambda _, a=argument, v=value: loss(LOGITS, CLASSES, **{a: v}), says,
                  kind)  # fmt: skip


def _weighted(name, argument):
    for value, says, kind in (
        (np.ones(3, np.float32), r"has shape \(3,\), expected .*\(2, 1\)", ValueError),
        ([1.0], "is a list, expected an array", TypeError),
        (P.astype(np.complex64), "has dtype complex64, expected real numbers", TypeError),
    ):
        yield Row(L + name, argument, lambda _, v=value: _PAIRS[name](P, P, **{argument: v}), says,
                  kind)  # fmt: skip


def _number(name, argument, build, negative=True):
    """A number of at least 0."""
    bad = [(NAN, "nan", ValueError), ("1", "'1'", TypeError), (None, "None", TypeError)]
    bad += [(-1.0, "-1.0", ValueError)] if negative else []
    bad += [([1.0], r"\[1.0\]", TypeError)] if argument not in ("lr", "eta_min") else []
    for value, shown, kind in bad:
        yield Row(O + name, argument, lambda _, v=value: build(**{argument: v}),
                  f"is {shown}, expected a number|must be a number, not {shown}", kind)  # fmt: skip


def _integer(name, argument, build):
    for value in (0, -1, 1.5, True, "3", 2**30):
        yield Row(O + name, argument, lambda _, v=value: build(**{argument: v}),
                  rf"is {value!r}, expected an integer from 1 to 2\*\*30 - 1")  # fmt: skip


_NUMBERS = {
    "sgd": (optim.sgd, ("lr", "momentum", "weight_decay")),
    "adam": (optim.adam, ("lr", "eps", "weight_decay")),
    "adamw": (optim.adamw, ("lr", "eps", "weight_decay")),
    "rmsprop": (optim.rmsprop, ("lr", "alpha", "eps", "weight_decay", "momentum")),
    "adagrad": (optim.adagrad, ("lr", "lr_decay", "weight_decay", "eps",
                                "initial_accumulator_value")),
}  # fmt: skip


_SCHEDULES = {
    "step_lr": ({"step_size": 2}, ("gamma",), ("step_size", "steps_per_epoch")),
    "exponential_lr": ({"gamma": 0.5}, ("gamma",), ("steps_per_epoch",)),
    "cosine_annealing_lr": ({"T_max": 2}, ("eta_min",), ("T_max", "steps_per_epoch")),
    "lambda_lr": ({"lr_lambda": float, "epochs": 2}, (), ("epochs", "steps_per_epoch")),
}


def _schedule(name):
    good = {"lr": 1.0, **_SCHEDULES[name][0]}
    return lambda **changes: getattr(optim, name)(**good | changes)


ROWS = [
    *(row for name, loss in _PAIRS.items() for row in _pair(name, loss)),
    *(row for name, loss in _CLASSES.items() for row in _class(name, loss)),
    *_weighted("binary_cross_entropy", "weight"),
    *_weighted("binary_cross_entropy_with_logits", "weight"),
    *_weighted("binary_cross_entropy_with_logits", "pos_weight"),
    *_weighted("mse_loss", "weight"),
    *_weighted("l1_loss", "weight"),
    *(
        Row(L + "binary_cross_entropy", argument,
            lambda _, x=x, y=y: losses.binary_cross_entropy(x, y), says, kind)
        for argument, x, y, says, kind in (
            ("input", P + 1, P, r"holds 1.25, .*\[0, 1\]", ValueError),
            ("input", P * NAN, P, r"holds nan, .*\[0, 1\]", ValueError),
            ("target", P, -P, r"holds -0.25, .*\[0, 1\]", ValueError),
            ("target", P, P.astype(np.float16), "has dtype float16, expected float32 as in input",
             TypeError),
        )
    ),
    *of_values(
        L + "cross_entropy", "label_smoothing",
        lambda v: losses.cross_entropy(LOGITS, CLASSES, label_smoothing=v),
        (1.5, r"is 1.5, expected a number in \[0, 1\]"), (NAN, "is nan, expected a number in"),
        ("0.1", "must be a number, not '0.1'", TypeError),
    ),
    Row(L + "cross_entropy", "target", lambda _: losses.cross_entropy(LOGITS, LOGITS.astype(int)),
        r"has dtype int64 and the shape of input, \(2, 3\); expected floating", TypeError),
    Row(L + "cross_entropy", "ignore_index",
        lambda _: losses.cross_entropy(LOGITS, LOGITS, ignore_index=1),
        "is 1, expected < 0 with class probabilities"),
    *of_values(
        L + "smooth_l1_loss", "beta", lambda v: losses.smooth_l1_loss(P, P, beta=v),
        (-1.0, "is -1.0, expected a number of at least 0"), (NAN, "is nan, expected a number of"),
        ("1", "must be a number, not '1'", TypeError),
    ),
    *(
        Row(ME + name, "targets", lambda _, m=metric, x=x, y=y: m(x, y), says)
        for name, metric, x in (
            ("probability_is_right", metrics.probability_is_right, P),
            ("logit_is_right", metrics.logit_is_right, P),
            ("class_is_right", metrics.class_is_right, LOGITS),
        )
        for y, says in (
            (x[:, 0], rf"have the shape of .*, \(2, {x.shape[1]}\), not \(2,\)"),
            (x[:1], rf"have the shape of .*, \(2, {x.shape[1]}\), not \(1, {x.shape[1]}\)"),
        )
    ),
    Row(ME + "class_is_right", "targets",
        lambda _: metrics.class_is_right(LOGITS, CLASSES[:, None]),
        r"have the shape of logits, \(2, 3\), not \(2, 1\)"),
    Row(ME + "class_is_right", "logits", lambda _: metrics.class_is_right(P[:, 0], P[:, 0]),
        r"shape \(n, classes\), not \(2,\)"),
    Row(ME + "probability_is_right", "probs",
        lambda _: metrics.probability_is_right([0.5], P), "must be an array, not list", TypeError),
    Row(ME + "logit_is_right", "logits", lambda _: metrics.logit_is_right(None, P),
        "must be an array, not NoneType", TypeError),
    *(
        row
        for name, (build, arguments) in _NUMBERS.items()
        for argument in arguments
        for row in _number(name, argument, build)
    ),
    *(
        Row(O + name, "lr", lambda _, b=build: b(lr=np.ones(2)),
            r"has shape \(2,\), expected a scalar")
        for name, (build, _) in _NUMBERS.items()
    ),
    *(
        Row(O + name, "params", lambda _, n=name: _NUMBERS[n][0]().init({"w": jnp.ones(2, int)}),
            "have dtype int32, expected a floating dtype", TypeError)
        for name in ("adam", "adamw", "rmsprop", "adagrad")
    ),
    *(
        Row(O + name, "betas", lambda _, b=build, v=betas: b(betas=v), says, kind)
        for name, build in (("adam", optim.adam), ("adamw", optim.adamw))
        for betas, says, kind in (
            ((0.9,), r"is \(0.9,\), expected two numbers in \[0, 1\)", ValueError),
            (0.9, "is 0.9, expected two numbers", ValueError),
            ("ab", "is ab, expected two numbers", ValueError),
            ((0.9, 1.0), r"\[1\] is 1.0, expected a number in \[0, 1\)", ValueError),
            ((-0.1, 0.9), r"\[0\] is -0.1, expected a number in", ValueError),
            ((NAN, 0.9), r"\[0\] is nan, expected a number in", ValueError),
            (("0.9", 0.9), r"\[0\] must be a number, not '0.9'", TypeError),
        )
    ),
    Row(O + "sgd", "nesterov", lambda _: optim.sgd(nesterov=True),
        "is True with momentum 0.* expected a momentum above 0"),
    Row(O + "sgd", "dampening", lambda _: optim.sgd(momentum=0.9, dampening="0"),
        "must be a number, not '0'", TypeError),
    *(
        row
        for name, (_, numbers, integers) in _SCHEDULES.items()
        for build in (_schedule(name),)
        for row in (
            *(row for argument in ("lr", *numbers) for row in _number(name, argument, build)),
            *(row for argument in integers for row in _integer(name, argument, build)),
            Row(O + name, "lr", lambda _, b=build: b(lr=float), "is a function, expected a number"),
        )
    ),
    Row(O + "lambda_lr", "lr_lambda", lambda _: _schedule("lambda_lr")(lr_lambda=0.5),
        "must be a function, not 0.5", TypeError),
    Row(O + "lambda_lr", "lr_lambda", lambda _: _schedule("lambda_lr")(lr_lambda=str),
        r"\(0\) must be a number, not '0'", TypeError),
]  # fmt: skip
