"""`jaxnet.nn`: what a layer is built with, and what it is called with."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import functools

import jax.numpy as jnp
import numpy as np

from jaxnet import nn
from tests.bad_calls import Row
from tests.bad_calls.files import X, generator, key
from tests.bad_calls.streams import _probabilities

N = "jaxnet.nn."
IMAGES = np.ones((1, 1, 4, 4), np.float32)


@functools.cache
def _variables(layer):
    return nn.init(layer, generator())[1]


def run(layer, x, **keywords):
    return layer.apply(_variables(layer), x, **keywords)


# A good one of each layer; with a good input where a wrong shape is refused.
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


def _inputs(name, layer):
    for x, says in (
        ("abc", "must be an array, not str"),
        (None, "must be an array, not NoneType"),
        ([[1.0, 2.0]], "must be an array, not list"),
        (np.array([["a", "b"]]), "must hold .*numbers.*, not <U1"),
        (np.array([[None, 1]]), "must hold .*numbers.*, not object"),
        (X.astype(np.complex64), "must hold .*numbers.*, not complex64"),
    ):
        if name == "Embedding":
            says = says.replace(".*numbers.*", "integers")
        if name == "Flatten":
            if not isinstance(x, str | np.ndarray):
                continue  # it takes lists and numbers too
            says = says.replace("array, not str", "array of numbers, not 'abc'")
            says = says.replace("must hold .*numbers.*", "must be an array of numbers")
            if "complex" in says:
                continue
        yield Row(N + name, "x", lambda _, x=x: run(layer, x), says, TypeError)


def _layer(name, argument, says, *arguments, kind=ValueError, **options):
    return Row(N + name, argument, lambda _: getattr(nn, name)(*arguments, **options), says, kind)


def _others(name, argument, build, what, *values):
    for value in values:
        says = f"must be {what}, not {value!r}"
        yield Row(N + name, argument, lambda _, v=value: build(v), says, TypeError)


def _sizes(name, argument, build):
    yield Row(N + name, argument, lambda _: build(-1), "at least 1, not -1")
    yield Row(N + name, argument, lambda _: build(2**31), "at most 2147483647, not 2147483648")
    yield from _others(name, argument, build, "an integer", 1.5, "2", True)


def _pairs(name, argument, build):
    yield Row(N + name, argument, lambda _: build((1, 2, 3)), r"a pair, not \(1, 2, 3\)")
    yield Row(N + name, argument, lambda _: build((1, -1)), "at least [01], not -1")
    yield from _others(name, argument, build, "an integer", 1.5)


def _numbers(name, argument, build):
    return _others(name, argument, build, "a number", "1", None)


def _shape(name, layer, x, says, kind=ValueError):
    return Row(N + name, "x", lambda _: run(layer, x), says, kind)


ROWS = [
    *(row for name, layer in _PLAIN.items() for row in _inputs(name, layer)),
    *(
        _shape(name, _PLAIN[name], x.astype(np.uint8), "floating-point.*not uint8", TypeError)
        for name, x in (("Linear", X), ("Conv2d", IMAGES))
    ),
    *_sizes("Linear", "in_features", lambda v: nn.Linear(v, 1)),
    *_sizes("Linear", "out_features", lambda v: nn.Linear(1, v)),
    _shape("Linear", nn.Linear(3, 1), X, r"shape \(..., 3\), not \(4, 2\)"),
    _shape("Linear", nn.Linear(3, 1), jnp.ones(()), r"shape \(..., 3\), not \(\)"),
    *_sizes("Embedding", "num_embeddings", lambda v: nn.Embedding(v, 1)),
    *_sizes("Embedding", "embedding_dim", lambda v: nn.Embedding(1, v)),
    _layer("Embedding", "padding_idx", "a row of weight, -3 to 2, not 3", 3, 1, 3),
    _shape("Embedding", nn.Embedding(3, 2), X, "must hold integers, not float32", TypeError),
    _shape("Embedding", nn.Embedding(3, 2), np.array([0, 3]), "indices from 0 to 2, not 3"),
    _shape("Embedding", nn.Embedding(3, 2), np.array([-1]), "indices from 0 to 2, not -1"),
    *_probabilities(N + "Dropout", "p", nn.Dropout),
    Row(N + "Dropout", "x",
        lambda _: run(nn.Dropout(), np.ones(2, int), train=True, draws=np.ones(2, bool)),
        "floating-point x, not int64", TypeError),
    Row(N + "Dropout", "mask", lambda _: run(nn.Dropout(), X, draws=X > 0), "without train=True"),
    Row(N + "Dropout", "mask", lambda _: run(nn.Dropout(), X, train=True, draws=np.ones(3, bool)),
        r"boolean of shape \(4, 2\), not bool of shape \(3,\)"),
    Row(N + "Dropout", "mask", lambda _: run(nn.Dropout(), X, train=True, draws=X),
        r"boolean of shape \(4, 2\), not float32"),
    Row(N + "Dropout", "draws", lambda _: run(nn.Dropout(), X, train=True),
        "nothing to draw from in training: pass draws"),
    *(
        Row(N + name, "dim", lambda _, b=build: b("0")(X), "must be an integer, not '0'", TypeError)
        for name, build in (("Softmax", nn.Softmax), ("LogSoftmax", nn.LogSoftmax))
    ),
    Row(N + "Softmax", "dim", lambda _: nn.Softmax(2)(X), "an axis of x, -2 to 1, not 2"),
    Row(N + "LogSoftmax", "dim", lambda _: nn.LogSoftmax(-3)(X), "an axis of x, -2 to 1, not -3"),
    *_numbers("LeakyReLU", "negative_slope", nn.LeakyReLU),
    *_numbers("ELU", "alpha", nn.ELU),
    *_numbers("Softplus", "beta", nn.Softplus),
    *_numbers("Softplus", "threshold", lambda v: nn.Softplus(1.0, v)),
    Row(N + "Softplus", "beta", lambda _: nn.Softplus(0.0), "other than 0, not 0.0"),
    Row(N + "GELU", "approximate", lambda _: nn.GELU("tahn"),
        "\"none\" or \"tanh\", not 'tahn'; did you mean 'tanh'"),
    Row(N + "Flatten", "start_dim", lambda _: nn.Flatten(3)(X), "an axis of x, -2 to 1, not 3"),
    Row(N + "Flatten", "end_dim", lambda _: nn.Flatten(0, 1.0)(X), "must be an integer, not 1.0",
        TypeError),
    Row(N + "Flatten", "start_dim", lambda _: nn.Flatten(1, 0)(X),
        r"not come after end_dim: 1 does, after 0, in x of shape \(4, 2\)"),
    *_sizes("LayerNorm", "normalized_shape", nn.LayerNorm),
    Row(N + "LayerNorm", "normalized_shape", lambda _: nn.LayerNorm(()), r"one size, not \(\)"),
    *_numbers("LayerNorm", "eps", lambda v: nn.LayerNorm(2, v)),
    _shape("LayerNorm", nn.LayerNorm((3,)), X, r"shape \(..., 3\), not \(4, 2\)"),
    *(
        row
        for name, layer, shape, x in (
            ("BatchNorm1d", nn.BatchNorm1d, r"\(N, C\) or \(N, C, L\)", np.ones(2, np.float32)),
            ("BatchNorm2d", nn.BatchNorm2d, r"\(N, C, H, W\)", X),
        )
        for row in (
            *_sizes(name, "num_features", layer),
            *_numbers(name, "eps", lambda v, layer=layer: layer(2, v)),
            _layer(name, "eps", "at least 0, not -1.0", 2, -1.0),
            _layer(name, "momentum", "must be a number, not '0.1'", 2, momentum="0.1",
                   kind=TypeError),
            _shape(name, layer(2), x, f"shape {shape} with C = 2, not"),
        )
    ),
    Row(N + "BatchNorm1d", "x",
        lambda _: run(nn.BatchNorm1d(2), X[:1], train=True, mutable=["batch_stats"]),
        r"more than one value for each channel .*, not shape \(1, 2\)"),
    Row(N + "BatchNorm1d", "eps",
        lambda _: run(nn.BatchNorm1d(2, 0.0), X, train=True, mutable=["batch_stats"]),
        "above 0 in training, not 0.0"),
    *_sizes("Conv2d", "in_channels", lambda v: nn.Conv2d(v, 1, 1)),
    *_sizes("Conv2d", "out_channels", lambda v: nn.Conv2d(1, v, 1)),
    *_sizes("Conv2d", "groups", lambda v: nn.Conv2d(1, 1, 1, groups=v)),
    *_pairs("Conv2d", "kernel_size", lambda v: nn.Conv2d(1, 1, v)),
    *_pairs("Conv2d", "stride", lambda v: nn.Conv2d(1, 1, 1, v)),
    *_pairs("Conv2d", "padding", lambda v: nn.Conv2d(1, 1, 1, padding=v)),
    *_pairs("Conv2d", "dilation", lambda v: nn.Conv2d(1, 1, 1, dilation=v)),
    _layer("Conv2d", "groups", "divide in_channels, 3, and out_channels, 2; 2 does not", 3, 2, 1,
           groups=2),
    _layer("Conv2d", "padding", "\"valid\" or \"same\", not 'Same'; did you mean 'same'", 1, 1, 1,
           padding="Same"),
    _layer("Conv2d", "padding", r"needs stride 1, not \(2, 2\)", 1, 1, 1, 2, "same"),
    _layer("Conv2d", "padding_mode", "one of zeros, .* circular, not 'zero'; did you mean 'zeros'",
           1, 1, 1, padding_mode="zero"),
    _shape("Conv2d", nn.Conv2d(2, 1, 1), IMAGES, r"with C = 2, not \(1, 1, 4, 4\)"),
    _shape("Conv2d", nn.Conv2d(1, 1, 5), IMAGES, "at least 5 high and wide .* not 4"),
    Row(N + "Conv2d", "padding",
        lambda _: run(nn.Conv2d(1, 1, 1, padding=4, padding_mode="reflect"), IMAGES),
        r"padding 4 is more than padding_mode='reflect' can take .*\(4, 4\)"),
    *(
        row
        for name, layer in (("MaxPool2d", nn.MaxPool2d), ("AvgPool2d", nn.AvgPool2d))
        for row in (
            *_pairs(name, "kernel_size", layer),
            *_pairs(name, "stride", lambda v, layer=layer: layer(2, v)),
            *_pairs(name, "padding", lambda v, layer=layer: layer(2, padding=v)),
            _layer(name, "padding", "at most half of kernel_size, 1, not 2", 2, padding=2),
            _shape(name, layer(2), X, r"\(N, C, H, W\) or \(C, H, W\), not \(4, 2\)"),
            _shape(name, layer(5), IMAGES, r"as large as a window, \[5, 5\], .*\(1, 1, 4, 4\)"),
        )
    ),
    *_pairs("MaxPool2d", "dilation", lambda v: nn.MaxPool2d(2, dilation=v)),
    _layer("AvgPool2d", "divisor_override", "an integer other than 0, not 0", 2,
           divisor_override=0),
    _layer("AvgPool2d", "divisor_override", "must be an integer, not '2'", 2, divisor_override="2",
           kind=TypeError),
    *_sizes("AdaptiveAvgPool2d", "output_size", lambda v: nn.AdaptiveAvgPool2d((v, 1))),
    _layer("AdaptiveAvgPool2d", "output_size", r"a size or a pair, not \(1, 2, 3\)", (1, 2, 3)),
    _shape("AdaptiveAvgPool2d", nn.AdaptiveAvgPool2d(1), X, r"\(C, H, W\), not \(4, 2\)"),
    _layer("Sequential", "layers", "a list, .* not one module", nn.ReLU(), kind=TypeError),
    _layer("Sequential", "layers", "Flax modules, not 'ReLU'", ["ReLU"], kind=TypeError),
    _layer("Sequential", "layers", "Flax modules, not <class .*ReLU", [nn.ReLU], kind=TypeError),
    _layer("Sequential", "layers", "a list of Flax modules, not 3", 3, kind=TypeError),
    _layer("Sequential", "layers", "holds one Linear twice: make two", [_PLAIN["Linear"]] * 2),
    _layer("Sequential", "names", r"1 different ones, not \('a', 'b'\)", [nn.ReLU()],
           names=["a", "b"]),
    _layer("Sequential", "names", "not have 'params' among them", [nn.ReLU()], names=["params"]),
    _layer("Sequential", "names", "1 different ones, not 3", [nn.ReLU()], names=3, kind=TypeError),
    Row(N + "Sequential", "draws",
        lambda _: run(nn.Sequential([nn.Dropout()], ["drop"]), X, draws={"dorp": X > 0}),
        r"names \['dorp'\], but only the layers \['drop'\] draw; did you mean 'drop'"),
    Row(N + "Sequential", "draws", lambda _: run(_PLAIN["Sequential"], X, train=True, draws=X > 0),
        "must be a mapping.*, not ndarray", TypeError),
    Row(N + "init", "net", lambda _: nn.init(3, generator()), "jaxnet.nn modules, not int",
        TypeError),
    Row(N + "init", "generator", lambda _: nn.init(nn.Linear(2, 1), key()),
        "must come from jaxnet.random.manual_seed, not .*Array", TypeError),
    Row(N + "call_keywords", "module", lambda _: nn.call_keywords("net", True),
        "must be a Flax module or a function, not 'net'", TypeError),
    Row(N + "name_draws", "module", lambda _: nn.name_draws(None),
        "must be a Flax module or a function, not None", TypeError),
]  # fmt: skip
