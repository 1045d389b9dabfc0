"""Flax modules in torch's layout and under torch's names: a state_dict is the tree flattened.

Weights are (out, in), layers are numbered as in `torch.nn.Sequential`, arguments are torch's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet.random import Generator, dropout_mask, uniform

Variables = dict[str, Any]
"""Collections of named arrays, `{"params": {"0": {"weight": ..., "bias": ...}}}`."""

Masks = Mapping[str, Any]
"""Keep masks of the dropouts, nested like the parameters: `{"1": keep}`, `{"2": {"0": keep}}`."""


class Module(flax.linen.Module):
    """A Flax module that can also draw torch's initial variables."""

    has_modes: ClassVar[bool] = False
    """Whether the call takes `train` and `masks`."""

    if (
        TYPE_CHECKING
    ):  # Flax's own annotation is a union of what it returns with and without mutable

        def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """The variables that torch's constructor gives this layer; none unless a layer has some."""
        return generator, {}


def init(net: flax.linen.Module, generator: Generator) -> tuple[Generator, Variables]:
    """Draw a net's variables as its construction in torch draws them, layer by layer, in order.

    Raises:
      TypeError: `net` is not made of `jaxnet.nn` modules, so nothing says what torch would draw,
        or `generator` is not a `jaxnet.random.Generator`.

    >>> import jaxnet
    >>> generator, variables = init(Linear(2, 1), jaxnet.random.manual_seed(1))
    >>> print(variables["params"]["weight"])
    [[ 0.3643461  -0.31210154]]

    In torch, `torch.manual_seed(1)` followed by `torch.nn.Linear(2, 1)`.
    """
    if not isinstance(net, Module):
        raise TypeError(
            f"net must be made of jaxnet.nn modules, not {type(net).__name__}: torch's initial "
            "weights are known for those alone; for other Flax modules pass a jax.random.key"
        )
    if not isinstance(generator, Generator):
        raise TypeError(
            f"generator must come from jaxnet.random.manual_seed, not {type(generator).__name__}; "
            "with a jax.random.key, net.init(key, x) is Flax's own way"
        )
    return net.initial_variables(generator)


def _precision() -> lax.Precision | None:
    # torch multiplies float32 in full by default; XLA's default on GPUs and TPUs is lower.
    # A precision that the user has set for all of JAX wins.
    chosen: Any = jax.config
    return None if chosen.jax_default_matmul_precision else lax.Precision.HIGHEST


class Linear(Module):
    """y = x W^T + b, with W = `weight` of shape (out_features, in_features): `torch.nn.Linear`.

    Takes x of shape (..., in_features), gives (..., out_features). Weight and bias start uniform
    within ±1/sqrt(in_features): torch's own draws through `jaxnet.init`, the same distribution
    from a JAX key through `net.init`. The product is computed in full float32 as in torch, unless
    `jax_default_matmul_precision` says otherwise.

    Raises:
      ValueError: a size is negative, or the last axis of x is not `in_features` long.

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
        if self.in_features < 1 or self.out_features < 1:
            raise ValueError(
                "in_features and out_features must be at least 1, "
                f"not {self.in_features} and {self.out_features}"
            )
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Weight, then bias, as `torch.nn.Linear.reset_parameters` draws them."""
        # Kaiming's bound with a = sqrt(5), in torch's order of operations: float64 rounds
        # differently in another order, and the bound decides every bit.
        deviation = math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(self.in_features)
        bound = math.sqrt(3.0) * deviation
        params = {}
        shape = (self.out_features, self.in_features)
        generator, params["weight"] = uniform(generator, shape, -bound, bound)
        if self.bias:
            bound = 1 / math.sqrt(self.in_features)
            generator, params["bias"] = uniform(generator, (self.out_features,), -bound, bound)
        return generator, {"params": params}

    @flax.linen.compact
    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """x of shape (..., in_features) to (..., out_features)."""
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), not {x.shape}")

        def symmetric(key, shape):
            bound = 1 / math.sqrt(self.in_features)
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        weight = self.param("weight", symmetric, (self.out_features, self.in_features))
        contract = (((x.ndim - 1,), (1,)), ((), ()))
        y = lax.dot_general(jnp.asarray(x), weight, contract, precision=_precision())
        if self.bias:
            bias = self.param("bias", symmetric, (self.out_features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


class Dropout(Module):
    """Zeroes elements with probability `p` in training and scales the others: `torch.nn.Dropout`.

    y = x * (1 / (1 - p) where kept, else 0), the scale rounded to x's type as torch rounds it: one
    over the rounded 1 - p. Dropped negatives give -0.0. With `train=False`, and for p = 0, y is x;
    for p = 1, y is x * 0. Neither needs a mask.

    In training the mask is `masks`, a boolean array of x's shape (True = kept), or is drawn from
    the key of `rngs={"dropout": key}` as Flax's users know it. torch draws it from a global stream.

    Raises:
      ValueError: `p` is not between 0 and 1, the mask is not boolean or not of x's shape, or there
        is neither a mask nor a key.

    >>> import jax.numpy as jnp
    >>> keep = jnp.array([True, False])
    >>> print(Dropout(0.5).apply({}, jnp.array([1.0, -1.0]), train=True, masks=keep))
    [ 2. -0.]

    Source: `torch.nn.Dropout`.
    """

    p: float = 0.5
    has_modes: ClassVar[bool] = True

    def __post_init__(self):
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must be a probability between 0 and 1, not {self.p}")
        super().__post_init__()

    @flax.linen.compact
    def __call__(
        self, x: Float[Array | np.ndarray, "..."], train: bool = False, masks: Any = None
    ) -> Float[Array | np.ndarray, "..."]:
        """x of any shape to the same shape."""
        if not train or self.p == 0.0:
            return x
        if self.p == 1.0:
            return x * jnp.zeros((), x.dtype)
        keep = self._keep(x) if masks is None else masks
        if keep.shape != x.shape or keep.dtype != jnp.bool_:
            raise ValueError(
                f"the mask of dropout {'.'.join(self.path)!r} must be boolean of shape {x.shape}, "
                f"not {keep.dtype} of shape {keep.shape}"
            )
        one = np.ones((), x.dtype)
        scale = one / np.asarray(1.0 - self.p, x.dtype)
        return x * jnp.where(keep, scale, np.zeros_like(scale))

    def _keep(self, x: Any) -> Array:
        if not self.has_rng("dropout"):
            raise ValueError(
                f"dropout {'.'.join(self.path)!r} has nothing to draw from in training: "
                "pass masks={...} or rngs={'dropout': key}, or train=False to evaluate"
            )
        return jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.p, x.shape)


class ReLU(Module):
    """y = max(x, 0), with gradient 0 at 0: `torch.nn.ReLU`.

    >>> import jax.numpy as jnp
    >>> print(ReLU()(jnp.array([-1.0, 0.0, 2.0])))
    [0. 0. 2.]

    Source: `torch.nn.ReLU`.
    """

    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return jax.nn.relu(x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)): `torch.nn.Sigmoid`.

    >>> import jax.numpy as jnp
    >>> print(Sigmoid()(jnp.array([0.0])))
    [0.5]

    Source: `torch.nn.Sigmoid`.
    """

    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return jax.nn.sigmoid(x)


class Sequential(Module):
    """Layers one after another, their variables numbered from "0": `torch.nn.Sequential`.

    Layers without variables count too, so the numbers are those of torch's state_dict, and nested
    ones nest. `train` and `masks` go to the layers that have modes; `masks` is nested like the
    parameters, `{"1": keep}`. Other Flax modules may stand among the layers and are called with x.

    torch takes the layers as separate arguments, this takes a list of them, since Flax's own first
    argument is one.

    Raises:
      TypeError: `layers` holds something other than Flax modules.
      ValueError: `masks` names a layer that takes no mask.

    >>> net = Sequential([Linear(3, 2), ReLU(), Linear(2, 1)])
    >>> variables = net.init(jax.random.key(0), jnp.ones((5, 3)))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'0': {'bias': (2,), 'weight': (2, 3)}, '2': {'bias': (1,), 'weight': (1, 2)}}

    Source: `torch.nn.Sequential`.
    """

    layers: Sequence[flax.linen.Module]
    has_modes: ClassVar[bool] = True

    def __post_init__(self):
        wrong = [layer for layer in self.layers if not isinstance(layer, flax.linen.Module)]
        if wrong:
            raise TypeError(f"layers must be Flax modules, not {wrong[0]!r}")
        self.layers = tuple(self.layers)  # hashable, so that jit can tell nets apart
        super().__post_init__()

    def initial_variables(self, generator: Generator) -> tuple[Generator, Variables]:
        """Each layer's variables under its number, drawn in order."""
        variables: Variables = {"params": {}}
        for name, layer in self._numbered():
            generator, own = init(layer, generator)
            for collection, values in own.items():
                if values:
                    variables.setdefault(collection, {})[name] = values
        return generator, variables

    def _numbered(self) -> list[tuple[str, Any]]:
        return [(str(number), layer) for number, layer in enumerate(self.layers)]

    @flax.linen.compact
    def __call__(self, x: Any, train: bool = False, masks: Masks | None = None) -> Any:
        """x through every layer in turn."""
        masks = {} if masks is None else masks
        moded = {name for name, layer in self._numbered() if getattr(layer, "has_modes", False)}
        if stray := sorted(set(masks) - moded):
            raise ValueError(f"masks names {stray}, but only the layers {sorted(moded)} take masks")
        for name, layer in self._numbered():
            own = layer.clone(parent=self, name=name)
            x = own(x, train=train, masks=masks.get(name)) if name in moded else own(x)
        return x


def draw_masks(net: flax.linen.Module, generator: Generator, x: Any) -> tuple[Generator, Masks]:
    """The masks that one training forward of x draws in torch, in the order of execution.

    Works under jit. Returns them nested like the parameters, ready for `masks=`.

    >>> import jaxnet
    >>> net = Sequential([Dropout(0.5)])
    >>> generator, masks = draw_masks(net, jaxnet.random.manual_seed(1), jnp.ones((2, 4)))
    >>> print(masks["0"])
    [[ True  True  True  True]
     [False  True  True False]]
    """
    masks: dict[str, Any] = {}
    for path, (p, shape) in _dropouts(net, x).items():
        generator, keep = dropout_mask(generator, p, shape)
        *outer, last = path
        inner = masks
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = keep
    return generator, masks


def _dropouts(net: flax.linen.Module, x: Any) -> dict[tuple[str, ...], tuple[float, Any]]:
    """Path of every dropout that draws, with its p and the shape of its input, as executed."""
    found: dict[tuple[str, ...], tuple[float, Any]] = {}

    def note(call, arguments, keywords, context):
        layer = context.module
        if isinstance(layer, Dropout) and context.method_name == "__call__" and 0 < layer.p < 1:
            found[layer.path] = (layer.p, arguments[0].shape)
        return call(*arguments, **keywords)

    def forward(x):
        with flax.linen.intercept_methods(note):
            return net.init_with_output(jax.random.key(0), x)[0]

    jax.eval_shape(forward, x)
    return found
