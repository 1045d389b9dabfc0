"""Which masks a net's dropouts draw from torch's stream: in one training forward, or in many."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from jaxnet.checks import check_net
from jaxnet.nn import Dropout
from jaxnet.random import Generator, dropout_mask
from jaxnet.random.arguments import as_probability
from jaxnet.random.distributions import bernoulli_ranks
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
    for drop in list_drops(net, x):
        if generator.cuda is not None and drop.dtype != jnp.float32:
            raise TypeError(
                f"dropout {'.'.join(drop.path)!r} has {drop.dtype} input: torch's CUDA masks are "
                "known here for float32 alone"
            )
        generator, keep = dropout_mask(generator, drop.p, drop.shape)
        masks = _place(masks, drop.path, keep)
    return generator, masks


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
            x_in = arguments[0]
            p = as_probability(layer.p)
            found[layer.path] = Drop(layer.path, p, x_in.shape, x_in.dtype)
        return call(*arguments, **keywords)

    def forward(x):
        with flax.linen.intercept_methods(note):
            return net.init_with_output(jax.random.key(0), x)[0]

    jax.eval_shape(forward, x)
    return list(found.values())


Forwards = Sequence[tuple[int, list[Drop]]]
"""How many forwards there are that drop alike, and what they drop; in the order of execution."""


def draw_ahead(
    generator: Generator, forwards: Forwards
) -> tuple[Generator, list[UInt8[Array, "times elements"]]]:
    """The masks of many forwards in one draw, not yet cut: those of `draw_masks`, called in turn.

    For runs of steps: one long draw costs less than many short ones, and is compiled once. From
    the CPU's stream. Returns the generator, and for each of `forwards` a row of ranks for each
    time, for `cut_masks`.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5)])
    >>> forwards = [(2, list_drops(net, jnp.ones((1, 4))))]
    >>> _, (ranks,) = draw_ahead(jaxnet.random.manual_seed(1), forwards)
    >>> print(cut_masks(forwards, 0, ranks[1])["0"])
    [[False  True  True False]]
    """
    sizes = [(times, sum(drop.size for drop in drops)) for times, drops in forwards]
    total = sum(times * size for times, size in sizes)
    generator, ranks = bernoulli_ranks(generator, _list_kept(forwards), total)
    parts, begin = [], 0
    for times, size in sizes:
        parts.append(ranks[begin : begin + times * size].reshape(times, size))
        begin += times * size
    return generator, parts


def cut_masks(forwards: Forwards, kind: int, ranks: UInt8[Array, " elements"]) -> Any:
    """The masks of one of `forwards[kind]`, nested as `draw_masks` does, from its row of ranks."""
    kept = _list_kept(forwards)
    expected = (sum(drop.size for drop in forwards[kind][1]),)
    if ranks.shape != expected:
        raise ValueError(f"ranks must have shape {expected}, not {ranks.shape}")
    masks, begin = {}, 0
    for drop in forwards[kind][1]:
        keep = ranks[begin : begin + drop.size] > kept.index(1.0 - drop.p)
        masks = _place(masks, drop.path, keep.reshape(drop.shape))
        begin += drop.size
    return masks


def _list_kept(forwards: Forwards) -> tuple[float, ...]:
    """The probabilities of keeping, each once, the greatest first."""
    return tuple(sorted({1.0 - drop.p for _, drops in forwards for drop in drops}, reverse=True))


def _place(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Any) -> Any:
    if not path:
        return leaf
    first, *rest = path
    return {**tree, first: _place(tree.get(first, {}), tuple(rest), leaf)}
