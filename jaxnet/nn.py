"""Flax modules in torch's layout and under torch's names: a state_dict is the tree flattened.

Weights are (out, in), layers are numbered as in `torch.nn.Sequential`, arguments are torch's.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet.random import Generator, kaiming_uniform, uniform
from jaxnet.random.engine import check_generator

Variables = dict[str, Any]
"""Collections of named arrays, `{"params": {"0": {"weight": ..., "bias": ...}}}`."""

Masks = Mapping[str, Any]
"""Keep masks of the dropouts, nested like the parameters: `{"1": keep}`, `{"2": {"0": keep}}`."""


class Module(flax.linen.Module):
    """A Flax module that can also draw torch's initial variables."""

    # Flax annotates a union of what it returns with and without `mutable`.
    if TYPE_CHECKING:

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
    check_generator(generator)
    return net.initial_variables(generator)


_MODES = {
    "train": lambda train: train,
    "training": lambda train: train,
    "deterministic": lambda train: not train,
    "use_running_average": lambda train: not train,
}


def call_keywords(module: flax.linen.Module, train: bool, masks: Any = None) -> dict[str, Any]:
    """How a Flax module's call is told that it trains, by the names that modules use for it.

    >>> call_keywords(flax.linen.Dropout(0.5), train=True)
    {'deterministic': False}
    """
    parameters = inspect.signature(type(module).__call__).parameters
    keywords = {name: mode(train) for name, mode in _MODES.items() if name in parameters}
    return keywords | ({"masks": masks} if masks is not None else {})


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
      ValueError: a size is below 1, or the last axis of x is not `in_features` long.

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
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), not {x.shape}")

        def symmetric(key, shape):
            bound = 1 / math.sqrt(self.in_features)
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        weight = self.param("weight", symmetric, (self.out_features, self.in_features))
        contract = (((x.ndim - 1,), (1,)), ((), ()))
        y = lax.dot_general(jnp.asarray(x), weight, contract, precision=_precision())
        if self.bias:
            bias = self.param("bias", symmetric, (self.out_features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


class Dropout(Module):
    """Zeroes elements with probability `p` in training and scales the others: `torch.nn.Dropout`.

    y = x * (1 / (1 - p) where kept, else 0), the scale rounded as torch rounds it: one over 1 - p
    in float32, then to x's type. Dropped negatives give -0.0. With `train=False`, and for p = 0, y
    is x; for p = 1, y is x * 0. Neither needs a mask.

    In training the mask is `masks`, a boolean array of x's shape (True = kept), or is drawn from
    the key of `rngs={"dropout": key}` as Flax's users know it. torch draws it from a global stream.

    Raises:
      ValueError: `p` is not between 0 and 1, the mask is not boolean or not of x's shape, there is
        neither a mask nor a key, or a mask without `train=True`.
      TypeError: x is not floating-point, and `train` is True.

    >>> import jax.numpy as jnp
    >>> keep = jnp.array([True, False])
    >>> print(Dropout(0.5).apply({}, jnp.array([1.0, -1.0]), train=True, masks=keep))
    [ 2. -0.]

    Source: `torch.nn.Dropout`.
    """

    p: float = 0.5

    def __post_init__(self):
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must be a probability between 0 and 1, not {self.p}")
        super().__post_init__()

    @flax.linen.compact
    def __call__(
        self, x: Float[Array | np.ndarray, "..."], train: bool = False, masks: Any = None
    ) -> Float[Array | np.ndarray, "..."]:
        """x of any shape to the same shape."""
        if not train and masks is not None:
            raise ValueError(f"{self._name()} got a mask without train=True")
        if not train or self.p == 0.0:
            return x
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{self._name()} needs floating-point x, not {x.dtype}")
        if self.p == 1.0:
            return x * jnp.zeros((), x.dtype)
        keep = self._keep(x) if masks is None else jnp.asarray(masks)
        if keep.shape != x.shape or keep.dtype != jnp.bool_:
            raise ValueError(
                f"the mask of {self._name()} must be boolean of shape {x.shape}, "
                f"not {keep.dtype} of shape {keep.shape}"
            )
        wide = jnp.promote_types(x.dtype, jnp.float32)
        scale = np.asarray(np.ones((), wide) / np.asarray(1.0 - self.p, wide), x.dtype)
        return x * jnp.where(keep, scale, np.zeros_like(scale))

    def _name(self) -> str:
        return f"dropout {'.'.join(self.path)!r}" if self.path else "the dropout"

    def _keep(self, x: Any) -> Array:
        if not self.has_rng("dropout"):
            raise ValueError(
                f"{self._name()} has nothing to draw from in training: "
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
    ones nest. `masks` is nested like the parameters, `{"1": keep}`. Other Flax modules may stand
    among the layers: those whose call takes `train`, `deterministic` or `use_running_average` are
    told whether the net trains.

    torch takes the layers as separate arguments, this takes a list of them. A layer object with
    weights that stands twice shares them in torch; here that is refused.

    Raises:
      TypeError: `layers` is not a list of Flax modules.
      ValueError: a layer with weights stands twice, or `masks` names a layer that takes no mask.

    >>> net = Sequential([Linear(3, 2), ReLU(), Linear(2, 1)])
    >>> variables = net.init(jax.random.key(0), jnp.ones((5, 3)))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'0': {'bias': (2,), 'weight': (2, 3)}, '2': {'bias': (1,), 'weight': (1, 2)}}

    Source: `torch.nn.Sequential`.
    """

    layers: Sequence[flax.linen.Module]

    def __post_init__(self):
        if isinstance(self.layers, flax.linen.Module):
            raise TypeError("layers must be a list, Sequential([first, second]), not one module")
        self.layers = tuple(self.layers)  # hashable, so that jit can tell nets apart
        seen = set()
        for layer in self.layers:
            if not isinstance(layer, flax.linen.Module):
                raise TypeError(f"layers must be Flax modules, not {layer!r}")
            if id(layer) in seen and isinstance(layer, Linear | Sequential):
                raise ValueError(f"layers holds one {type(layer).__name__} twice: make two layers")
            seen.add(id(layer))
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
        takers = [n for n, layer in self._numbered() if isinstance(layer, Dropout | Sequential)]
        if stray := [name for name in masks if name not in takers]:
            raise ValueError(f"masks names {stray}, but only the layers {takers} take masks")
        for name, layer in self._numbered():
            keywords = call_keywords(layer, train, masks.get(name))
            x = layer.clone(parent=self, name=name)(x, **keywords)
        return x
