"""`jaxnet.losses`, `jaxnet.metrics` and `jaxnet.optim`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

from functools import partial

import jax.numpy as jnp
import numpy as np

from jaxnet import losses, metrics, optim
from tests.bad_calls import Row, of
from tests.bad_calls import kinds as k

L, O, ME = "jaxnet.losses.", "jaxnet.optim.", "jaxnet.metrics."  # noqa: E741
P = np.array([[0.25], [0.75]], np.float32)
LOGITS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], np.float32)
CLASSES = np.array([0, 2])
UNSHAPED = [([0.5], "is a list, expected an array", TypeError)]
FLOATS = "expected a floating dtype"
REDUCTION = [
    (bad, f"is {bad!r}, expected 'none', 'mean' or 'sum'{meant}")
    for bad, meant in (("Mean", "; did you mean 'mean'"), (None, ""))
]
PROBS = [
    *UNSHAPED,
    (None, "is a NoneType, expected an array", TypeError),
    (np.ones((2, 1), int), f"has dtype int64, {FLOATS}", TypeError),
    (P.astype(str), f"has dtype <U32, {FLOATS}", TypeError),
    (P.astype(np.complex64), f"has dtype complex64, {FLOATS}", TypeError),
]
SAME_SHAPE = [
    *UNSHAPED,
    (P[:, 0], r"has shape \(2,\), expected \(2, 1\) as in input"),
    ((P > 0.5).astype(int), f"has dtype int64, {FLOATS}", TypeError),
]
WEIGHT = [
    (np.ones(3, np.float32), r"has shape \(3,\), expected .*\(2, 1\)"),
    *UNSHAPED,
    (P.astype(np.complex64), "has dtype complex64, expected real numbers", TypeError),
]
IN_UNIT = r"holds {}, .*\[0, 1\]"
_PAIRS = {
    "binary_cross_entropy": {"weight": WEIGHT},
    "binary_cross_entropy_with_logits": {"weight": WEIGHT, "pos_weight": WEIGHT},
    "l1_loss": {"weight": WEIGHT},
    "mse_loss": {"weight": WEIGHT},
    "smooth_l1_loss": {
        "beta": [
            (-1.0, "is -1.0, expected a number of at least 0"),
            (k.NAN, "is nan, expected a number of"),
            k.NUMBER[0],
        ]
    },
}
CLASS_TARGETS = [
    *UNSHAPED,
    (np.array([0, 1, 2]), r"has shape \(3,\), expected \(2,\)"),
    *(
        (np.array([0, c]), rf"holds class {c}, expected every class in \[0, 3\)", IndexError)
        for c in (3, -1)
    ),
    (np.array([0.0, 1.0]), "has dtype float64, expected integer class indices", TypeError),
]
_CLASSES = {
    "reduction": REDUCTION,
    "input": [
        *PROBS[:3],
        (np.ones((2, 0), np.float32), r"has shape \(2, 0\), expected .* with C > 0"),
    ],
    "target": CLASS_TARGETS,
    "weight": [
        (np.ones(2, np.float32), r"has shape \(2,\), expected \(3,\), one per class"),
        *UNSHAPED,
        (np.array(["a", "b", "c"]), "has dtype <U1, expected real numbers", TypeError),
    ],
    "ignore_index": [
        (0.5, "is 0.5, expected an integer", TypeError),
        (2**31, "is 2147483648, expected -2147483647 to 2147483647"),
    ],
}


def _list_losses():
    for name, bad in _PAIRS.items():
        loss = partial(getattr(losses, name), P, P)
        yield from of(L + name, loss, reduction=REDUCTION, **bad)
        yield from of(L + name, lambda input, f=loss.func: f(input, P), input=PROBS)
        yield from of(L + name, lambda target, f=loss.func: f(P, target), target=SAME_SHAPE)
    for name in ("cross_entropy", "nll_loss"):
        loss = partial(getattr(losses, name), input=LOGITS, target=CLASSES)
        yield from of(L + name, loss, **_CLASSES)


# A number of at least 0.
NUMBER = [
    (value, f"is {shown}, expected a number|must be a number, not {shown}", *kind)
    for value, shown, *kind in ((k.NAN, "nan"), ("1", "'1'", TypeError), (-1.0, "-1.0"))
]
INTEGER = [
    (value, rf"is {value!r}, expected an integer from 1 to 2\*\*30 - 1")
    for value in (0, 1.5, True, "3", 2**30)
]
LR = [*NUMBER, (np.ones(2), r"has shape \(2,\), expected a scalar")]
BETAS = [
    *((v, f"is {shown}, expected two numbers") for v, shown in (((0.9,), r"\(0.9,\)"), ("a", "a"))),
    ((0.9, 1.0), r"\[1\] is 1.0, expected a number in \[0, 1\)"),
    ((-0.1, 0.9), r"\[0\] is -0.1, expected a number in"),
    ((k.NAN, 0.9), r"\[0\] is nan, expected a number in"),
    (("0.9", 0.9), r"\[0\] must be a number, not '0.9'", TypeError),
]
_OPTIMIZERS = {
    "sgd": "momentum weight_decay",
    "adam": "eps weight_decay",
    "adamw": "eps weight_decay",
    "rmsprop": "alpha eps weight_decay momentum",
    "adagrad": "lr_decay weight_decay eps initial_accumulator_value",
}
_SCHEDULES = {
    "step_lr": ({"step_size": 2}, "gamma", "step_size steps_per_epoch"),
    "exponential_lr": ({"gamma": 0.5}, "gamma", "steps_per_epoch"),
    "cosine_annealing_lr": ({"T_max": 2}, "eta_min", "T_max steps_per_epoch"),
    "lambda_lr": ({"lr_lambda": float, "epochs": 2}, "", "epochs steps_per_epoch"),
}


def _list_optimizers():
    for name, numbers in _OPTIMIZERS.items():
        build = getattr(optim, name)
        yield from of(O + name, build, lr=LR, **dict.fromkeys(numbers.split(), NUMBER))
        if "adam" in name:
            yield from of(O + name, build, betas=BETAS)
        if name != "sgd":
            yield Row(O + name, "params", lambda _, b=build: b().init({"w": jnp.ones(2, int)}),
                      f"have dtype int32, {FLOATS}", TypeError)  # fmt: skip
    for name, (good, numbers, integers) in _SCHEDULES.items():
        build = partial(getattr(optim, name), **{"lr": 1.0} | good)
        yield from of(O + name, build, **dict.fromkeys(integers.split(), INTEGER))
        yield from of(O + name, build, **dict.fromkeys(["lr", *numbers.split()], NUMBER))
        yield from of(O + name, build, lr=[(float, "is a function, expected a number")])


ROWS = [
    *_list_losses(),
    *of(
        L + "binary_cross_entropy", lambda input: losses.binary_cross_entropy(input, P),
        input=[(P + 1, IN_UNIT.format(1.25)), (P * k.NAN, IN_UNIT.format("nan"))],
    ),
    *of(
        L + "binary_cross_entropy", lambda target: losses.binary_cross_entropy(P, target),
        target=[
            (-P, IN_UNIT.format(-0.25)),
            (P.astype(np.float16), "has dtype float16, expected float32 as in input", TypeError),
        ],
    ),
    *of(
        L + "cross_entropy", partial(losses.cross_entropy, input=LOGITS, target=CLASSES),
        label_smoothing=[(v, f"is {v}, expected a number in") for v in (1.5, k.NAN)] + k.NUMBER[:1],
        target=[(LOGITS.astype(int), r"has dtype int64 and the shape of input, \(2, 3\); expected "
                 "floating", TypeError)],
    ),
    Row(L + "cross_entropy", "ignore_index",
        lambda _: losses.cross_entropy(LOGITS, LOGITS, ignore_index=1),
        "is 1, expected < 0 with class probabilities"),
    *(
        row
        for name, x in (
            ("probability_is_right", P), ("logit_is_right", P), ("class_is_right", LOGITS)
        )
        for metric in (getattr(metrics, name),)
        for row in of(ME + name, lambda targets, m=metric, x=x: m(x, targets), targets=[
            (y, rf"have the shape of .*, \(2, {x.shape[1]}\), not {shown}")
            for y, shown in ((x[:, 0], r"\(2,\)"), (x[:1], rf"\(1, {x.shape[1]}\)"))
        ])
    ),
    *of(
        ME + "class_is_right", lambda logits=LOGITS, targets=CLASSES: metrics.class_is_right(
            logits, targets),
        targets=[(CLASSES[:, None], r"have the shape of logits, \(2, 3\), not \(2, 1\)")],
        logits=[(P[:, 0], r"shape \(n, classes\), not \(2,\)")],
    ),
    *of(ME + "probability_is_right", lambda probs: metrics.probability_is_right(probs, P),
        probs=k.ARRAY),
    *of(ME + "logit_is_right", lambda logits: metrics.logit_is_right(logits, P), logits=k.ARRAY),
    *_list_optimizers(),
    *of(
        O + "sgd", partial(optim.sgd, momentum=0.9), dampening=k.NUMBER[:1],
    ),
    Row(O + "sgd", "nesterov", lambda _: optim.sgd(nesterov=True),
        "is True with momentum 0.* expected a momentum above 0"),
    *of(
        O + "lambda_lr", partial(optim.lambda_lr, lr=1.0, epochs=2),
        lr_lambda=[*k.FUNCTION, (str, r"\(0\) must be a number, not '0'", TypeError)],
    ),
]  # fmt: skip
