"""`jaxnet.nn`: what a layer is built with, and what it is called with."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

from functools import cache, partial

import jax.numpy as jnp
import numpy as np

from jaxnet import nn
from tests.bad_calls import Row, of
from tests.bad_calls import kinds as k
from tests.bad_calls.files import X, generator

N = "jaxnet.nn."
IMAGES = np.ones((1, 1, 4, 4), np.float32)


@cache
def _variables(layer):
    return nn.init(layer, generator())[1]


def run(layer, x, **keywords):
    return layer.apply(_variables(layer), x, **keywords)


# A good one of each layer.
_PLAIN = {
    "ELU": nn.ELU(), "GELU": nn.GELU(), "LeakyReLU": nn.LeakyReLU(), "LogSigmoid": nn.LogSigmoid(),
    "LogSoftmax": nn.LogSoftmax(0), "ReLU": nn.ReLU(), "SiLU": nn.SiLU(), "Sigmoid": nn.Sigmoid(),
    "Softmax": nn.Softmax(0), "Softplus": nn.Softplus(), "Tanh": nn.Tanh(),
    "Linear": nn.Linear(2, 1), "Embedding": nn.Embedding(3, 2), "Dropout": nn.Dropout(),
    "Flatten": nn.Flatten(0), "LayerNorm": nn.LayerNorm(2), "BatchNorm1d": nn.BatchNorm1d(2),
    "BatchNorm2d": nn.BatchNorm2d(1), "Conv2d": nn.Conv2d(1, 1, 2), "MaxPool2d": nn.MaxPool2d(2),
    "AvgPool2d": nn.AvgPool2d(2), "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "Sequential": nn.Sequential([nn.Linear(2, 1)]),
}  # fmt: skip
INPUT = [
    ("abc", "must be an array, not str", TypeError),
    ([[1.0, 2.0]], "must be an array, not list", TypeError),
    (np.array([["a", "b"]]), "must hold .*numbers.*, not <U1", TypeError),
    (X.astype(np.complex64), "must hold .*numbers.*, not complex64", TypeError),
]
# It takes lists and numbers too.
OF_FLATTEN = [
    ("abc", "array of numbers, not 'abc'", TypeError),
    (np.array([["a", "b"]]), "must be an array of numbers, not <U1", TypeError),
]
OF_EMBEDDING = [
    *INPUT[:2],
    *((x, "must hold integers, not", TypeError) for x in (INPUT[2][0], X)),
    (np.array([0, 3]), "indices from 0 to 2, not 3"),
    (np.array([-1]), "indices from 0 to 2, not -1"),
]
INPUTS = dict.fromkeys(_PLAIN, INPUT) | {"Flatten": OF_FLATTEN, "Embedding": OF_EMBEDDING}
UNSIGNED = [(X.astype(np.uint8), "floating-point.*not uint8", TypeError)]


def layer(name, *arguments, **bad):
    """Rows of a layer that is built rightly but for one argument."""
    return of(N + name, partial(getattr(nn, name), *arguments), **bad)


def calls(name, built, *x):
    """Rows of a layer that is called with such x."""
    return of(N + name, partial(run, built), x=x)


def called(name, argument, says, built, x=X, kind=ValueError, **keywords):
    """A call that names something else than x."""
    return Row(N + name, argument, lambda _: run(built, x, **keywords), says, kind)


def _list_axes():
    for name, built, argument, says, *kind in (
        ("Softmax", partial(nn.Softmax, "0"), "dim", "must be an integer, not '0'", TypeError),
        ("LogSoftmax", partial(nn.LogSoftmax, "0"), "dim", "must be an integer, not", TypeError),
        ("Softmax", partial(nn.Softmax, 2), "dim", "an axis of x, -2 to 1, not 2"),
        ("LogSoftmax", partial(nn.LogSoftmax, -3), "dim", "an axis of x, -2 to 1, not -3"),
        ("Flatten", partial(nn.Flatten, 3), "start_dim", "an axis of x, -2 to 1, not 3"),
        ("Flatten", partial(nn.Flatten, 0, 1.0), "end_dim", "be an integer, not 1.0", TypeError),
        ("Flatten", partial(nn.Flatten, 1, 0), "start_dim",
         r"not come after end_dim: 1 does, after 0, in x of shape \(4, 2\)"),
    ):  # fmt: skip
        yield Row(N + name, argument, lambda _, b=built: b()(X), says, *kind)


def _list_pools():
    for name in ("MaxPool2d", "AvgPool2d"):
        build = getattr(nn, name)
        yield from layer(name, kernel_size=k.PAIR)
        yield from layer(
            name, 2, stride=k.PAIR, padding=[*k.PAIR, (2, "at most half of kernel_size, 1, not 2")]
        )
        yield from calls(name, build(2), (X, r"\(N, C, H, W\) or \(C, H, W\), not \(4, 2\)"))
        says = r"as large as a window, \[5, 5\], .*\(1, 1, 4, 4\)"
        yield from calls(name, build(5), (IMAGES, says))


def _list_batch_norms():
    for name, shape, x in (
        ("BatchNorm1d", r"\(N, C\) or \(N, C, L\)", np.ones(2, np.float32)),
        ("BatchNorm2d", r"\(N, C, H, W\)", X),
    ):
        yield from layer(name, num_features=k.SIZE)
        yield from layer(
            name, 2, eps=[*k.NUMBER, (-1.0, "at least 0, not -1.0")], momentum=k.NUMBER[:1]
        )
        yield from calls(name, getattr(nn, name)(2), (x, f"shape {shape} with C = 2, not"))


TRAINED = {"train": True, "mutable": ["batch_stats"]}
ROWS = [
    *(row for name, built in _PLAIN.items() for row in calls(name, built, *INPUTS[name])),
    *_list_axes(), *_list_pools(), *_list_batch_norms(),
    *of(N + "Linear", partial(nn.Linear, in_features=1, out_features=1), in_features=k.SIZE,
        out_features=k.SIZE),
    *calls("Linear", nn.Linear(2, 1), *UNSIGNED),
    *calls("Linear", nn.Linear(3, 1), (X, r"shape \(..., 3\), not \(4, 2\)"),
           (jnp.ones(()), r"shape \(..., 3\), not \(\)")),
    *of(
        N + "Embedding", partial(nn.Embedding, num_embeddings=3, embedding_dim=1),
        num_embeddings=k.SIZE, embedding_dim=k.SIZE,
        padding_idx=[(3, "a row of weight, -3 to 2, not 3")],
    ),
    *layer("Dropout", p=k.PROBABILITY),
    called("Dropout", "x", "floating-point x, not int64", nn.Dropout(), np.ones(2, int), TypeError,
           train=True, draws=np.ones(2, bool)),
    called("Dropout", "mask", "without train=True", nn.Dropout(), draws=X > 0),
    called("Dropout", "mask", r"boolean of shape \(4, 2\), not bool of shape \(3,\)", nn.Dropout(),
           train=True, draws=np.ones(3, bool)),
    called("Dropout", "mask", r"boolean of shape \(4, 2\), not float32", nn.Dropout(), train=True,
           draws=X),
    called("Dropout", "draws", "nothing to draw from in training: pass draws", nn.Dropout(),
           train=True),
    *layer("LeakyReLU", negative_slope=k.NUMBER), *layer("ELU", alpha=k.NUMBER),
    *layer("Softplus", beta=[*k.NUMBER, (0.0, "other than 0, not 0.0")], threshold=k.NUMBER),
    *layer("GELU", approximate=[("tahn", "\"none\" or \"tanh\", not 'tahn'; did you mean 'tanh'")]),
    *layer("LayerNorm", normalized_shape=[*k.SIZE, ((), r"one size, not \(\)")]),
    *layer("LayerNorm", 2, eps=k.NUMBER),
    *calls("LayerNorm", nn.LayerNorm((3,)), (X, r"shape \(..., 3\), not \(4, 2\)")),
    called("BatchNorm1d", "x", r"more than one value for each channel .*, not shape \(1, 2\)",
           nn.BatchNorm1d(2), X[:1], **TRAINED),
    called("BatchNorm1d", "eps", "above 0 in training, not 0.0", nn.BatchNorm1d(2, 0.0), **TRAINED),
    *of(
        N + "Conv2d", partial(nn.Conv2d, in_channels=3, out_channels=2, kernel_size=1),
        in_channels=k.SIZE, out_channels=k.SIZE, kernel_size=k.PAIR, stride=k.PAIR,
        dilation=k.PAIR,
        groups=[*k.SIZE, (2, "divide in_channels, 3, and out_channels, 2; 2 does not")],
        padding=[*k.PAIR, ("Same", "\"valid\" or \"same\", not 'Same'; did you mean 'same'")],
        padding_mode=[("zero", "one of zeros, .* circular, not 'zero'; did you mean 'zeros'")],
    ),
    *layer("Conv2d", 1, 1, 1, 2, padding=[("same", r"needs stride 1, not \(2, 2\)")]),
    *calls("Conv2d", nn.Conv2d(1, 1, 2), (IMAGES.astype(np.uint8), *UNSIGNED[0][1:])),
    *calls("Conv2d", nn.Conv2d(2, 1, 1), (IMAGES, r"with C = 2, not \(1, 1, 4, 4\)")),
    *calls("Conv2d", nn.Conv2d(1, 1, 5), (IMAGES, "at least 5 high and wide .* not 4")),
    called("Conv2d", "padding", r"padding 4 is more than padding_mode='reflect' can .*\(4, 4\)",
           nn.Conv2d(1, 1, 1, padding=4, padding_mode="reflect"), IMAGES),
    *layer("MaxPool2d", 2, dilation=k.PAIR),
    *layer("AvgPool2d", 2, divisor_override=[
        (0, "an integer other than 0, not 0"), k.INTEGER[1]]),
    *layer("AdaptiveAvgPool2d", output_size=[
        *(((v, 1), *rest) for v, *rest in k.SIZE),
        ((1, 2, 3), r"a size or a pair, not \(1, 2, 3\)")]),
    *calls("AdaptiveAvgPool2d", nn.AdaptiveAvgPool2d(1), (X, r"\(C, H, W\), not \(4, 2\)")),
    *layer(
        "Sequential",
        layers=[
            (nn.ReLU(), "a list, .* not one module", TypeError),
            (["ReLU"], "Flax modules, not 'ReLU'", TypeError),
            ([nn.ReLU], "Flax modules, not <class .*ReLU", TypeError),
            (3, "a list of Flax modules, not 3", TypeError),
            ([_PLAIN["Linear"]] * 2, "holds one Linear twice: make two"),
        ],
    ),
    *layer(
        "Sequential", [nn.ReLU()],
        names=[
            (["a", "b"], r"1 different ones, not \('a', 'b'\)"),
            (["params"], "not have 'params' among them"),
            (3, "1 different ones, not 3", TypeError),
        ],
    ),
    called("Sequential", "draws", r"names \['dorp'\], but only the layers \['drop'\] draw; did you "
           "mean 'drop'", nn.Sequential([nn.Dropout()], ["drop"]), draws={"dorp": X > 0}),
    called("Sequential", "draws", "must be a mapping.*, not ndarray", _PLAIN["Sequential"], X,
           TypeError, train=True, draws=X > 0),
    *of(N + "init", partial(nn.init, net=nn.Linear(2, 1), generator=generator()),
        net=[(3, "jaxnet.nn modules, not int", TypeError)], generator=k.GENERATOR[2:]),
    *of(N + "call_keywords", partial(nn.call_keywords, train=True), module=[
        ("net", "must be a Flax module or a function, not 'net'", TypeError)]),
    *of(N + "name_draws", nn.name_draws, module=[
        (None, "must be a Flax module or a function, not None", TypeError)]),
]  # fmt: skip
