"""Linear, Embedding, Dropout, and layers that only reshape: Flatten, Identity."""

import math
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Integer

from jaxnet.nn._arguments import as_axis, as_size, check_array, check_floats, check_input
from jaxnet.nn._functions import scale_kept, take_rows
from jaxnet.nn._product import product
from jaxnet.nn.base import Module, Variables, uniform_within
from jaxnet.random import Generator, kaiming_uniform, normal, uniform
from jaxnet.random._arguments import as_probability


class Linear(Module):
    """y = x W^T + b, with W = `weight` of shape (out_features, in_features): `torch.nn.Linear`.

    Takes x of shape (..., in_features), gives (..., out_features). Weight and bias start uniform
    within ±1/sqrt(in_features): torch's own draws through `jaxnet.init`, the same distribution
    from a JAX key through `net.init`. The product is computed in full float32 as in torch, unless
    `jax_default_matmul_precision` says otherwise.

    Raises:
      ValueError: a size is below 1, or the last axis of x is not `in_features` long.
      TypeError: a size is not an integer, or x not floating-point.

    >>> import jax.numpy as jnp
    >>> params = {"weight": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0])}
    >>> print(Linear(2, 1).apply({"params": params}, jnp.array([[10.0, 20.0]])))
    [[53.]]

    Source: `torch.nn.Linear`.
    """

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self):
        as_size("in_features", self.in_features)
        as_size("out_features", self.out_features)
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Weight, then bias, as `torch.nn.Linear.reset_parameters` draws them."""
        params = {}
        shape = (self.out_features, self.in_features)
        generator, params["weight"] = kaiming_uniform(generator, shape, a=math.sqrt(5))
        if self.bias:
            bound = 1 / math.sqrt(self.in_features)
            generator, params["bias"] = uniform(generator, (self.out_features,), -bound, bound)
        return generator, {"params": params}

    @flax.linen.compact
    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """x of shape (..., in_features) to (..., out_features)."""
        check_floats(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), not {x.shape}")

        start = uniform_within(1 / math.sqrt(self.in_features))
        weight = self.param("weight", start, (self.out_features, self.in_features))
        y = product(jnp.asarray(x), weight)
        if self.bias:
            bias = self.param("bias", start, (self.out_features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


class Embedding(Module):
    """y = weight[x], one row of `weight` for each index: `torch.nn.Embedding`.

    Takes integers x of any shape, gives (*x.shape, embedding_dim). Weight, of shape
    (num_embeddings, embedding_dim), starts as standard normal numbers: torch's own draws through
    `jaxnet.init`. The row `padding_idx`, which counts from the end if negative, starts at 0 and
    gets no gradient.

    Raises:
      ValueError: a size is below 1, `padding_idx` is none of the rows, or an index in x is none
        of 0 to num_embeddings - 1. Traced indices have no values to check: such an index then
        gives a row of nan.
      TypeError: x is not of integers.

    torch also has `max_norm`, `scale_grad_by_freq` and `sparse`; this has not.

    >>> import jax.numpy as jnp
    >>> params = {"weight": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    >>> print(Embedding(2, 2).apply({"params": params}, jnp.array([1, 0])))
    [[3. 4.]
     [1. 2.]]

    Source: `torch.nn.Embedding`.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None

    def __post_init__(self):
        as_size("num_embeddings", self.num_embeddings)
        as_size("embedding_dim", self.embedding_dim)
        if self.padding_idx is not None:
            self.padding_idx = as_axis(
                "padding_idx", self.padding_idx, self.num_embeddings, "a row of weight"
            )
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """The weight as `torch.nn.Embedding.reset_parameters` draws it."""
        generator, weight = normal(generator, (self.num_embeddings, self.embedding_dim))
        return generator, {"params": {"weight": self._empty_padding(weight)}}

    def _empty_padding(self, weight: Array) -> Array:
        return weight if self.padding_idx is None else weight.at[self.padding_idx].set(0.0)

    @flax.linen.compact
    def __call__(self, x: Integer[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """Indices of any shape to (*x.shape, embedding_dim)."""
        self._check(x)

        def start(key, shape):
            return self._empty_padding(jax.random.normal(key, shape, jnp.float32))

        weight = self.param("weight", start, (self.num_embeddings, self.embedding_dim))
        return take_rows(weight, jnp.asarray(x), self.padding_idx)

    def _check(self, x):
        check_array(x)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"x must hold integers, not {x.dtype}")
        if isinstance(x, Tracer):
            return
        indices = np.asarray(x)
        outside = indices[(indices < 0) | (indices >= self.num_embeddings)]
        if outside.size:
            last = self.num_embeddings - 1
            raise ValueError(f"x must hold indices from 0 to {last}, not {outside[0]}")


class Dropout(Module):
    """Zeroes elements with probability `p` in training and scales the others: `torch.nn.Dropout`.

    y = x * (1 / (1 - p) where kept, else 0), the scale rounded as torch rounds it: one over 1 - p
    in float32, then to x's type. Dropped negatives give -0.0. With `train=False`, and for p = 0, y
    is x; for p = 1, y is x * 0. Neither needs a mask.

    In training the mask is `draws`, a boolean array of x's shape (True = kept), or is drawn from
    the key of `rngs={"dropout": key}` as Flax's users know it. torch draws it from a global stream.

    Raises:
      ValueError: `p` is not between 0 and 1, the mask is not boolean or not of x's shape, there is
        neither a mask nor a key, or a mask without `train=True`.
      TypeError: x is not floating-point, and `train` is True.

    >>> import jax.numpy as jnp
    >>> keep = jnp.array([True, False])
    >>> print(Dropout(0.5).apply({}, jnp.array([1.0, -1.0]), train=True, draws=keep))
    [ 2. -0.]

    Source: `torch.nn.Dropout`.
    """

    p: float = 0.5

    def __post_init__(self):
        as_probability(self.p)
        super().__post_init__()

    @flax.linen.compact
    def __call__(
        self, x: Float[Array | np.ndarray, "..."], train: bool = False, draws: Any = None
    ) -> Float[Array | np.ndarray, "..."]:
        """x of any shape to the same shape."""
        check_input(x)
        if not train and draws is not None:
            raise ValueError(f"{self._name()} got a mask without train=True")
        if not train or self.p == 0.0:
            return x
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{self._name()} needs floating-point x, not {x.dtype}")
        if self.p == 1.0:
            return x * jnp.zeros((), x.dtype)
        keep = self._keep(x) if draws is None else jnp.asarray(draws)
        if keep.shape != x.shape or keep.dtype != jnp.bool_:
            raise ValueError(
                f"the mask of {self._name()} must be boolean of shape {x.shape}, "
                f"not {keep.dtype} of shape {keep.shape}"
            )
        return scale_kept(x, keep, self.p)

    def _name(self) -> str:
        return f"dropout {'.'.join(self.path)!r}" if self.path else "the dropout"

    def _keep(self, x: Any) -> Array:
        if not self.has_rng("dropout"):
            raise ValueError(
                f"{self._name()} has nothing to draw from in training: "
                "pass draws={...} or rngs={'dropout': key}, or train=False to evaluate"
            )
        return jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.p, x.shape)


class Flatten(Module):
    """Makes one axis of those from `start_dim` to `end_dim`: `torch.nn.Flatten`.

    Both count from the end if negative. A scalar becomes one axis of size 1.

    Raises:
      ValueError: x has no such axis, or `start_dim` comes after `end_dim`.

    >>> import jax.numpy as jnp
    >>> Flatten()(jnp.ones((5, 3, 2, 2))).shape
    (5, 12)

    Source: `torch.nn.Flatten`.
    """

    start_dim: int = 1
    end_dim: int = -1

    def __call__(self, x: Any) -> Array:
        """x of shape (..., a, ..., b, ...) to (..., a * ... * b, ...)."""
        try:
            x = jnp.atleast_1d(jnp.asarray(x))
        except (TypeError, ValueError) as error:  # strings, objects
            what = x.dtype if hasattr(x, "dtype") else repr(x)
            raise TypeError(f"x must be an array of numbers, not {what}") from error
        start = as_axis("start_dim", self.start_dim, x.ndim)
        end = as_axis("end_dim", self.end_dim, x.ndim)
        if start > end:
            raise ValueError(
                f"start_dim must not come after end_dim: {self.start_dim} does, after "
                f"{self.end_dim}, in x of shape {x.shape}"
            )
        merged = math.prod(x.shape[start : end + 1])
        return x.reshape((*x.shape[:start], merged, *x.shape[end + 1 :]))


class Identity(Module):
    """y = x: `torch.nn.Identity`, which takes any arguments and forgets them; this takes none.

    >>> Identity()(3.0)
    3.0

    Source: `torch.nn.Identity`.
    """

    def __call__(self, x: Any) -> Any:
        """x of any kind."""
        return x
