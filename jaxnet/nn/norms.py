"""Layers that give their input mean 0 and variance 1: over features, or over the batch."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet._utils.validation import check_number
from jaxnet.nn._arguments import as_size, check_input
from jaxnet.nn._functions import layer_norm, moments, normalize_channels
from jaxnet.nn.base import Module, Variables, narrow, widen
from jaxnet.random import Generator

_zeros, _ones = flax.linen.initializers.zeros, flax.linen.initializers.ones

Floats = Float[Array | np.ndarray, "..."]


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axes: `torch.nn.LayerNorm`.

    Mean and variance, the biased one, are those of the last axes of x, whose sizes are
    `normalized_shape`; weight (at first 1) and bias (at first 0) have that shape. They are
    computed in two passes, in float32 for the half types.

    Raises:
      ValueError: `normalized_shape` is empty or has a size below 1, or x does not end in it.

    >>> import jax.numpy as jnp
    >>> layer = LayerNorm(2, eps=0.0, elementwise_affine=False)
    >>> print(layer.apply({}, jnp.array([[1.0, 5.0]])))
    [[-1.  1.]]

    Source: `torch.nn.LayerNorm`; Ba, Kiros and Hinton (2016).
    """

    normalized_shape: int | Sequence[int]
    eps: float | int = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    def __post_init__(self):
        sizes = self.normalized_shape
        sizes = sizes if isinstance(sizes, Sequence) else (sizes,)
        if not sizes:
            raise ValueError(f"normalized_shape must have at least one size, not {sizes}")
        self.eps = check_number("eps", self.eps)
        self.normalized_shape = tuple(as_size("normalized_shape", size) for size in sizes)
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Weight 1 and bias 0; nothing is drawn."""
        return generator, _affine(self._shape(), self.elementwise_affine, self.bias)

    def _shape(self) -> tuple[int, ...]:
        sizes = self.normalized_shape
        return (sizes,) if isinstance(sizes, int) else tuple(sizes)

    @flax.linen.compact
    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of shape (..., *normalized_shape) to the same shape."""
        check_input(x)
        shape = self._shape()
        if x.shape[max(0, x.ndim - len(shape)) :] != shape:
            ending = ", ".join(map(str, shape))
            raise ValueError(f"x must have shape (..., {ending}), not {x.shape}")
        weight = bias = None
        if self.elementwise_affine:
            weight = self.param("weight", _ones, shape, jnp.float32)
            if self.bias:
                bias = self.param("bias", _zeros, shape, jnp.float32)
        return narrow(layer_norm(widen(x), len(shape), weight, bias, self.eps), x)


class _BatchNorm(Module):
    num_features: int
    eps: float | int = 1e-5
    momentum: float | int | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    # Only by its name, as in torch, where the positions before it are a device and a type.
    bias: bool = dataclasses.field(default=True, kw_only=True)

    shapes: ClassVar[dict[int, str]] = {}

    def __post_init__(self):
        as_size("num_features", self.num_features)
        if self.momentum is not None:
            self.momentum = check_number("momentum", self.momentum)
        self.eps = check_number("eps", self.eps)
        if not self.eps >= 0:
            raise ValueError(f"eps must be at least 0, not {self.eps}")
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Weight 1, bias 0, running mean 0 and variance 1; nothing is drawn."""
        variables = _affine((self.num_features,), self.affine, self.bias)
        if self.track_running_stats:
            statistics = {name: start(*kind) for name, start, *kind in self._buffers()}
            variables["batch_stats"] = statistics
        return generator, variables

    @flax.linen.compact
    def __call__(self, x: Floats, train: bool = False) -> Float[Array, "..."]:
        """x to the same shape, with the batch's statistics if it trains, else the running ones."""
        self._check(x)
        wide, features = widen(x), (self.num_features,)
        weight = bias = None
        if self.affine:
            weight = self.param("weight", _ones, features, jnp.float32)
            if self.bias:
                bias = self.param("bias", _zeros, features, jnp.float32)
        mean, variance = self._statistics(wide, train)
        return narrow(normalize_channels(wide, mean, variance, weight, bias, self.eps), x)

    def _check(self, x):
        check_input(x)
        if x.ndim not in self.shapes or x.shape[1] != self.num_features:
            expected = f"{' or '.join(self.shapes.values())} with C = {self.num_features}"
            raise ValueError(f"x must have shape {expected}, not {x.shape}")

    def _statistics(self, x: Array, train: bool) -> tuple[Array, Array]:
        """Mean and variance of each channel, and the running ones brought up to date."""
        buffers = self._buffers() if self.track_running_stats else ()
        running = [self.variable("batch_stats", *buffer) for buffer in buffers]
        if running and not train:
            return running[0].value, running[1].value
        count = x.size // self.num_features
        if count == 1:
            raise ValueError(
                "x must have more than one value for each channel where the batch's statistics "
                f"are taken, not shape {x.shape}"
            )
        if not self.eps > 0:
            raise ValueError(f"eps must be above 0 in training, not {self.eps}")
        mean, variance = moments(x, (0, *range(2, x.ndim)))
        if running and count and not self.is_initializing():
            self._track(running, mean, variance * (count / (count - 1)))
        return mean, variance

    def _buffers(self) -> tuple[tuple[Any, ...], ...]:
        """Name, filler, shape and type of each."""
        return (
            ("running_mean", jnp.zeros, (self.num_features,), jnp.float32),
            ("running_var", jnp.ones, (self.num_features,), jnp.float32),
            ("num_batches_tracked", jnp.zeros, (), jnp.int32),
        )

    def _track(self, running, mean, unbiased):
        *averages, tracked = running
        tracked.value = tracked.value + 1
        weight = 1.0 / tracked.value if self.momentum is None else self.momentum
        for average, new in zip(averages, (mean, unbiased), strict=True):
            old = average.value
            new = lax.stop_gradient(new.reshape(old.shape)).astype(old.dtype)
            average.value = ((1.0 - weight) * old + weight * new).astype(old.dtype)


class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias in each channel: `torch.nn.BatchNorm1d`.

    Takes x of shape (N, C) or (N, C, L) with C = `num_features`. In training, mean and variance
    (the biased one) are the batch's, and those of the collection "batch_stats" move toward them:

        running_mean <- (1 - momentum) * running_mean + momentum * mean
        running_var  <- (1 - momentum) * running_var  + momentum * var * n / (n - 1)

    with n the values of a channel. `momentum=None` averages all batches alike. Otherwise the
    running ones serve, unless `track_running_stats=False`, which keeps none.

    In training, `apply` needs `mutable=["batch_stats"]` to give back the new ones; the mean and
    variance are computed in two passes. torch changes its buffers in place, and counts
    `num_batches_tracked` in 64 bits; here it has 32. An empty batch counts for nothing here; in
    torch it is counted.

    Raises:
      ValueError: `num_features` is below 1, `eps` below 0 (or 0 where the batch's statistics are
        taken), x has another shape, or the batch has one value for each channel.

    >>> import jax, jax.numpy as jnp
    >>> layer = BatchNorm1d(1)
    >>> x = jnp.array([[1.0], [3.0]])
    >>> _, updated = layer.apply(layer.init(jax.random.key(0), x), x, train=True,
    ...                          mutable=["batch_stats"])
    >>> print(updated["batch_stats"]["running_mean"], updated["batch_stats"]["running_var"])
    [0.2] [1.1]

    Source: `torch.nn.BatchNorm1d`; Ioffe and Szegedy (2015).
    """

    shapes: ClassVar[dict[int, str]] = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for images: x of shape (N, C, H, W), one mean and variance for each channel.

    >>> import jax, jax.numpy as jnp
    >>> layer = BatchNorm2d(1, affine=False)
    >>> x = jnp.array([[[[1.0, 3.0]]]])
    >>> y, _ = layer.apply(layer.init(jax.random.key(0), x), x, train=True, mutable=["batch_stats"])
    >>> print(y.round(2))
    [[[[-1.  1.]]]]

    Source: `torch.nn.BatchNorm2d`.
    """

    shapes: ClassVar[dict[int, str]] = {4: "(N, C, H, W)"}


def _affine(shape: tuple[int, ...], weight: bool, bias: bool) -> Variables:
    """A first weight of 1 and bias of 0, where the layer has them."""
    if not weight:
        return {}
    params = {"weight": jnp.ones(shape, jnp.float32)}
    return {"params": params | ({"bias": jnp.zeros(shape, jnp.float32)} if bias else {})}
