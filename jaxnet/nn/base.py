"""What every module is made of: torch's first draws, the call that trains, the precision."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxnet._utils.validation import check_function
from jaxnet.nn._arguments import check_input
from jaxnet.random import Generator
from jaxnet.random.mt19937 import check_generator

Variables = dict[str, Any]
"""Collections of named arrays, `{"params": {"0": {"weight": ..., "bias": ...}}}`."""

Draws = Mapping[str, Any]
"""What layers draw at random in a forward, nested like the parameters: `{"1": keep}`, where a
dropout's draw is a boolean mask, True = kept."""


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
    >>> generator, variables = init(jaxnet.nn.Linear(2, 1), jaxnet.random.manual_seed(1))
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


def call_keywords(
    module: flax.linen.Module | Callable, train: bool, draws: Any = None
) -> dict[str, Any]:
    """How a Flax module's or a function's call is told that it trains, by the names in use for it.

    >>> call_keywords(flax.linen.Dropout(0.5), train=True)
    {'deterministic': False}
    """
    parameters = _list_parameters(module)
    modes = dict.fromkeys(("train", "training", "is_training"), train)
    modes |= dict.fromkeys(("deterministic", "use_running_average", "inference"), not train)
    keywords: dict[str, Any] = {name: modes[name] for name in modes if name in parameters}
    return keywords | ({} if draws is None else {name_draws(module) or "draws": draws})


def name_draws(module: flax.linen.Module | Callable) -> str | None:
    """The keyword under which a call takes what it draws: "draws", "masks" or none.

    >>> name_draws(lambda variables, x, masks=None: x)
    'masks'
    """
    return next((name for name in ("draws", "masks") if name in _list_parameters(module)), None)


def _list_parameters(module: Any) -> Mapping[str, Any]:
    check_function("module", module, "a Flax module or a function")
    call = type(module).__call__ if isinstance(module, flax.linen.Module) else module
    return inspect.signature(call).parameters


def precision() -> lax.Precision | None:
    """How exactly a product of float32 numbers is computed."""
    # torch multiplies float32 in full by default; XLA's default on GPUs and TPUs is lower.
    # A precision that the user has set for all of JAX wins.
    chosen: Any = jax.config
    return None if chosen.jax_default_matmul_precision else lax.Precision.HIGHEST


def uniform_within(bound: float) -> Callable[[Any, tuple[int, ...]], Array]:
    """A Flax initializer: uniform within ±bound, the distribution of torch's own draws."""
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def widen(x: Any) -> Array:
    """x in the type that its function is computed in: float32 for the half types, as in torch."""
    check_input(x)
    x = jnp.asarray(x)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32) if floating else jnp.float32)


def narrow(y: Array, x: Any) -> Array:
    """y rounded to x's type, where x is floating-point."""
    return y.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else y
