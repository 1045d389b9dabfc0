"""What a net draws at random in a training forward: the masks of its dropouts."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
from jax import lax

from jaxnet._utils.validation import INT32, check_count, check_net
from jaxnet.nn.layers import Dropout
from jaxnet.random import Generator, dropout_mask
from jaxnet.random._arguments import as_probability
from jaxnet.random.distributions import bernoulli_ranks
from jaxnet.random.mt19937 import check_generator


def draw(net: flax.linen.Module, generator: Generator, x: Any) -> tuple[Generator, Any]:
    """What one training forward of x draws in torch, in the order of execution.

    Works under jit. Returns the generator afterwards and the draws, which are dropout masks (True =
    kept), nested like the parameters and ready for `draws=`: a dictionary, or the mask itself where
    `net` is one `Dropout`.

    Raises:
      TypeError: `generator` is not a `jaxnet.random.Generator`, or it is a GPU's, whose masks
        depend on the type of what they drop, and a dropout's input is not float32.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5)])
    >>> generator, draws = draw(net, jaxnet.random.manual_seed(1), jnp.ones((2, 4)))
    >>> print(draws["0"])
    [[ True  True  True  True]
     [False  True  True False]]
    """
    generator, draws = draw_steps(net, generator, x, 1)
    return generator, jax.tree.map(lambda values: values[0], draws)


def draw_steps(
    net: flax.linen.Module, generator: Generator, x: Any, steps: int
) -> tuple[Generator, Any]:
    """What so many training forwards draw, one after another, each array with a leading axis.

    Of torch's CPU stream one long draw is made, which is faster than many short ones and compiles
    once; the bits are the same.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5)])
    >>> generator = jaxnet.random.manual_seed(1)
    >>> print(draw_steps(net, generator, jnp.ones((1, 4)), 2)[1]["0"])
    [[[ True  True  True  True]]
    <BLANKLINE>
     [[False  True  True False]]]
    """
    check_generator(generator)
    check_count("steps", steps, INT32)
    drops = list_drops(net, x)
    if not drops:
        return generator, {}
    if generator.cuda is not None:
        return lax.scan(lambda state, _: _draw_cuda(drops, state), generator, length=steps)
    # The greatest first: a draw is True for p where its rank is above the number of greater ones.
    kept = tuple(sorted({1.0 - drop.p for drop in drops}, reverse=True))
    size = sum(drop.size for drop in drops)
    generator, ranks = bernoulli_ranks(generator, kept, steps * size)
    ranks = ranks.reshape(steps, size)
    draws, begin = {}, 0
    for drop in drops:
        keep = ranks[:, begin : begin + drop.size] > kept.index(1.0 - drop.p)
        draws = _insert(draws, drop.path, keep.reshape(steps, *drop.shape))
        begin += drop.size
    return generator, draws


def _draw_cuda(drops: list["Drop"], generator: Generator) -> tuple[Generator, Any]:
    draws: Any = {}
    for drop in drops:
        if drop.dtype != jnp.float32:
            raise TypeError(
                f"dropout {'.'.join(drop.path)!r} has {drop.dtype} input: torch's CUDA masks are "
                "known here for float32 alone"
            )
        generator, keep = dropout_mask(generator, drop.p, drop.shape)
        draws = _insert(draws, drop.path, keep)
    return generator, draws


class Drop(NamedTuple):
    """A dropout that draws a mask in every training forward."""

    path: tuple[str, ...]
    p: float
    shape: tuple[int, ...]
    """Of its input, and so of its mask."""
    dtype: Any

    @property
    def size(self) -> int:
        """Elements of its mask."""
        return math.prod(self.shape)


def list_drops(net: flax.linen.Module, x: Any) -> list[Drop]:
    """Every dropout that draws in a training forward of x (abstract or not), as executed.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5), jaxnet.nn.Dropout(0.0)])
    >>> [drop.path for drop in list_drops(net, jnp.ones((2, 4)))]
    [('0',)]
    """
    check_net(net)
    found: dict[tuple[str, ...], Drop] = {}

    def note(call, arguments, keywords, context):
        layer = context.module
        if isinstance(layer, Dropout) and context.method_name == "__call__" and 0 < layer.p < 1:
            p, x = as_probability(layer.p), arguments[0]
            found[layer.path] = Drop(layer.path, p, x.shape, x.dtype)
        return call(*arguments, **keywords)

    def forward(x):
        with flax.linen.intercept_methods(note):
            return net.init_with_output(jax.random.key(0), x)[0]

    jax.eval_shape(forward, x)
    return list(found.values())


def _insert(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    first, *rest = path
    return {**tree, first: _insert(tree.get(first, {}), tuple(rest), leaf)}
