"""Which masks a net's dropouts draw from torch's stream in one training forward."""

from collections.abc import Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp

from jaxnet.nn import Dropout
from jaxnet.random import Generator, dropout_mask
from jaxnet.random.engine import check_generator


def draw_masks(net: flax.linen.Module, generator: Generator, x: Any) -> tuple[Generator, Any]:
    """The masks that one training forward of x draws in torch, in the order of execution.

    Works under jit. Returns them nested like the parameters, ready for `masks=`: a dictionary, or
    the mask itself where `net` is one `Dropout`.

    Raises:
      TypeError: `generator` is not a `jaxnet.random.Generator`, or it is a card's, whose masks
        depend on the type of what they drop, and a dropout's input is not float32.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5)])
    >>> generator, masks = draw_masks(net, jaxnet.random.manual_seed(1), jnp.ones((2, 4)))
    >>> print(masks["0"])
    [[ True  True  True  True]
     [False  True  True False]]
    """
    check_generator(generator)
    masks: Any = {}
    for path, (p, x_in) in _dropouts(net, x).items():
        if generator.cuda is not None and x_in.dtype != jnp.float32:
            raise TypeError(
                f"dropout {'.'.join(path)!r} has {x_in.dtype} input: torch's CUDA masks are known "
                "here for float32 alone"
            )
        generator, keep = dropout_mask(generator, p, x_in.shape)
        masks = _place(masks, path, keep)
    return generator, masks


def _place(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    first, *rest = path
    return {**tree, first: _place(tree.get(first, {}), tuple(rest), leaf)}


def _dropouts(net: flax.linen.Module, x: Any) -> dict[tuple[str, ...], tuple[float, Any]]:
    """Path of every dropout that draws, with its p and its abstract input, as executed."""
    found: dict[tuple[str, ...], tuple[float, Any]] = {}

    def note(call, arguments, keywords, context):
        layer = context.module
        if isinstance(layer, Dropout) and context.method_name == "__call__" and 0 < layer.p < 1:
            found[layer.path] = (layer.p, arguments[0])
        return call(*arguments, **keywords)

    def forward(x):
        with flax.linen.intercept_methods(note):
            return net.init_with_output(jax.random.key(0), x)[0]

    jax.eval_shape(forward, x)
    return found
