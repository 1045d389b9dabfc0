"""torch.nn.init's fillers as pure functions: exact bounds, then torch's draws. On the host only."""

import math
import warnings
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float32

from jaxnet._utils.validation import check_number, nearest
from jaxnet.random._arguments import Shape, as_shape
from jaxnet.random.distributions import uniform
from jaxnet.random.mt19937 import Generator
from jaxnet.random.normal import normal

Values = Float32[Array, "..."]

_GAINS: dict[str, Callable[[float], float]] = {
    **dict.fromkeys(("linear", "sigmoid", "conv1d", "conv2d", "conv3d"), lambda slope: 1.0),
    **dict.fromkeys((f"conv_transpose{n}d" for n in (1, 2, 3)), lambda slope: 1.0),
    "tanh": lambda slope: 5.0 / 3,
    "relu": lambda slope: math.sqrt(2.0),
    "leaky_relu": lambda slope: math.sqrt(2.0 / (1 + slope**2)),
    "selu": lambda slope: 3.0 / 4,
}


def kaiming_uniform(
    generator: Generator,
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> tuple[Generator, Values]:
    """Uniform in $\\pm\\,\\mathrm{gain}\\,\\sqrt{3 / \\mathrm{fan}}$: He's initial weights.

    Args:
      generator: where the numbers come from.
      shape: (out, in, *kernel); fan_in is the product of all but the first, fan_out of all but
        the second.
      a: negative slope of the leaky ReLU that follows; the gain is then $\\sqrt{2 / (1 + a^2)}$.
      mode: "fan_in" or "fan_out".
      nonlinearity: name in `torch.nn.functional` of what follows.

    Raises:
      TypeError: `generator` is traced, or `a` is no number.
      ValueError: `shape` has fewer than two axes, `mode` or `nonlinearity` is unknown, or `a` nan.

    A shape with a 0 in it draws nothing; torch warns there, this does not.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, weight = jaxnet.random.kaiming_uniform(generator, (1, 2), a=5**0.5)
    >>> print(weight)
    [[ 0.3643461  -0.31210154]]

    Source: `torch.nn.init.kaiming_uniform_`; He, Zhang, Ren and Sun (2015).
    """
    # torch's order of operations: another one rounds differently, and the bound decides every bit.
    bound = math.sqrt(3.0) * _kaiming_std(as_shape(shape), a, mode, nonlinearity)
    return uniform(generator, shape, -bound, bound)


def kaiming_normal(
    generator: Generator,
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> tuple[Generator, Values]:
    """Normal with $\\sigma = \\mathrm{gain} / \\sqrt{\\mathrm{fan}}$: He's initial weights.

    Arguments and errors are those of `kaiming_uniform`, the draws those of `normal`.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, weight = jaxnet.random.kaiming_normal(generator, (1, 2), nonlinearity="relu")
    >>> print(weight)
    [[0.66135216 0.2669241 ]]

    Source: `torch.nn.init.kaiming_normal_`; He, Zhang, Ren and Sun (2015).
    """
    std = _kaiming_std(as_shape(shape), a, mode, nonlinearity)
    return normal(generator, shape, 0.0, std)


def xavier_uniform(
    generator: Generator, shape: Shape, gain: float = 1.0
) -> tuple[Generator, Values]:
    """Uniform in $\\pm\\,\\mathrm{gain}\\,\\sqrt{6 / (\\mathrm{fan_{in} + fan_{out}})}$.

    Raises:
      TypeError: `generator` is traced.
      ValueError: `shape`, (out, in, *kernel), has fewer than two axes, or `gain` is negative or
        not finite.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, weight = jaxnet.random.xavier_uniform(generator, (1, 2))
    >>> print(weight)
    [[ 0.7286922 -0.6242031]]

    Source: `torch.nn.init.xavier_uniform_`; Glorot and Bengio (2010).
    """
    bound = math.sqrt(3.0) * _xavier_std(as_shape(shape), gain)
    return uniform(generator, shape, -bound, bound)


def xavier_normal(
    generator: Generator, shape: Shape, gain: float = 1.0
) -> tuple[Generator, Values]:
    """Normal with $\\sigma = \\mathrm{gain}\\,\\sqrt{2 / (\\mathrm{fan_{in} + fan_{out}})}$.

    Arguments and errors are those of `xavier_uniform`, the draws those of `normal`.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, weight = jaxnet.random.xavier_normal(generator, (1, 2))
    >>> print(weight)
    [[0.5399918  0.21794261]]

    Source: `torch.nn.init.xavier_normal_`; Glorot and Bengio (2010).
    """
    return normal(generator, shape, 0.0, _xavier_std(as_shape(shape), gain))


def trunc_normal(
    generator: Generator,
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
) -> tuple[Generator, Values]:
    """Normal numbers within [a, b], by rejection: `torch.nn.init.trunc_normal_` from 2.13 on.

    Where more than 0.3 of the normal distribution lies in [a, b], the whole tensor is drawn from
    `normal`, again and again, and what lies outside takes the new value. Otherwise the candidates
    come from `uniform(a, b)`, and each is taken where the logarithm of another uniform number does
    not exceed the logarithm of the density over its peak's.

    Raises:
      TypeError: `generator` is traced.
      ValueError: `a` is not below `b`, `std` is not positive, or `mean` is not finite.

    Where candidates are accepted, the logarithm is rounded from float64; torch's own errs by up to
    0.9 ulp, so that an acceptance on the very edge may turn out otherwise: of 96 million elements,
    one did. Older torch draws one uniform number for each element and inverts the error function.
    torch only warns where the mean is more than 2 std from [a, b], and so does this.

    >>> import jaxnet
    >>> generator = jaxnet.random.manual_seed(1)
    >>> generator, weight = jaxnet.random.trunc_normal(generator, (1, 2), a=0.0, b=0.5)
    >>> print(weight)
    [[0.3788158  0.13965544]]

    Source: `torch.nn.init.trunc_normal_`.
    """
    shape = as_shape(shape)
    for name, value in (("mean", mean), ("std", std), ("a", a), ("b", b)):
        check_number(name, value)
    if not a < b or not std > 0:
        raise ValueError(f"a must be below b, and std above 0: {a=}, {b=}, {std=}")
    if not math.isfinite(mean):
        raise ValueError(f"mean must be finite: {mean=}")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(f"mean={mean} is more than 2 std from [{a}, {b}]", stacklevel=2)
    inside = _normal_cdf((b - mean) / std) - _normal_cdf((a - mean) / std)
    draw = _redraw_outside if inside > 0.3 else _accept_uniform
    generator, values = draw(generator, shape, mean, std, a, b)
    return generator, jax.device_put(values)


def _redraw_outside(generator, shape, mean, std, a, b):
    generator, values = normal(generator, shape, mean, std)
    values = np.array(values)
    while (outside := (values < np.float32(a)) | (values > np.float32(b))).any():
        generator, again = normal(generator, shape, mean, std)
        values = np.where(outside, again, values)
    return generator, values


def _accept_uniform(generator, shape, mean, std, a, b):
    log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    mean, std, log_peak = (np.float32(value) for value in (mean, std, log_peak))
    values, pending = np.zeros(shape, np.float32), np.ones(shape, bool)
    while True:  # as torch does: the second draw of each round is made even for no elements
        generator, candidates = uniform(generator, shape, a, b)
        generator, chance = uniform(generator, shape)
        values = np.where(pending, candidates, values)
        distance = (np.asarray(candidates) - mean) / std
        log_density = distance * distance * np.float32(-0.5) - log_peak
        with np.errstate(divide="ignore"):  # the logarithm of 0 accepts
            pending &= np.log(np.asarray(chance, np.float64)).astype(np.float32) > log_density
        if not pending.any():
            return generator, values


def _normal_cdf(x: float) -> float:
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"shape must have at least two axes, (out, in, ...), not {shape}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _kaiming_std(shape: tuple[int, ...], a: float, mode: str, nonlinearity: str) -> float:
    if mode not in (known := ("fan_in", "fan_out")):
        raise ValueError(f'mode must be "fan_in" or "fan_out", not {mode!r}{nearest(mode, known)}')
    if nonlinearity not in _GAINS:
        known, meant = ", ".join(_GAINS), nearest(nonlinearity, _GAINS)
        raise ValueError(f"nonlinearity must be one of {known}, not {nonlinearity!r}{meant}")
    if math.isnan(check_number("a", a)):
        raise ValueError(f"a must be a number, not {a}")
    if 0 in shape:
        return 0.0
    return _GAINS[nonlinearity](a) / math.sqrt(_fans(shape)[mode == "fan_out"])


def _xavier_std(shape: tuple[int, ...], gain: float) -> float:
    if not 0.0 <= check_number("gain", gain) < math.inf:
        raise ValueError(f"gain must be finite and at least 0, not {gain}")
    fan_in, fan_out = _fans(shape)
    if fan_in + fan_out == 0:  # no element: torch divides by zero
        return 0.0
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))
