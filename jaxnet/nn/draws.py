"""What a net draws at random in a training forward: masks of its dropouts, and other numbers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet._utils.validation import INT32, check_count, check_net
from jaxnet.nn._kinds import fill
from jaxnet.nn.layers import Dropout
from jaxnet.random import Generator, dropout_mask
from jaxnet.random._arguments import as_probability
from jaxnet.random.distributions import bernoulli_ranks
from jaxnet.random.mt19937 import check_generator


def draw(net: flax.linen.Module, generator: Generator, x: Any) -> tuple[Generator, Any]:
    """What one training forward of x draws in torch, in the order of execution.

    Works under jit. Returns the generator afterwards and the draws, which are dropout masks (True =
    kept), nested like the parameters and ready for `draws=`: a dictionary, or the mask itself where
    `net` is one `Dropout`. A net of `jaxnet.convert.from_torch` may draw other numbers too.

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

    Of torch's CPU stream masks are one long draw, which is faster than many short ones and compiles
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
    drawn = list_draws(net, x)
    if not drawn:
        return generator, {}
    if generator.cuda is not None:
        return lax.scan(lambda state, _: _draw_cuda(drawn, state), generator, length=steps)
    if all(each.kind == "keep" for each in drawn):
        return _draw_masks(drawn, generator, steps)
    if steps == 1 and any(each.is_wide for each in drawn):
        generator, draws = _draw_all(drawn, generator)
        return generator, jax.tree.map(lambda values: jnp.asarray(values)[None], draws)
    return lax.scan(lambda state, _: _draw_all(drawn, state), generator, length=steps)


def _draw_masks(drawn: list["Draw"], generator: Generator, steps: int) -> tuple[Generator, Any]:
    # The greatest first: a draw is True for p where its rank is above the number of greater ones.
    kept = tuple(sorted({each.parameter for each in drawn}, reverse=True))
    size = sum(each.size for each in drawn)
    generator, ranks = bernoulli_ranks(generator, kept, steps * size)
    ranks = ranks.reshape(steps, size)
    draws, begin = {}, 0
    for each in drawn:
        keep = ranks[:, begin : begin + each.size] > kept.index(each.parameter)
        draws = insert(draws, each.path, each.arrange(keep))
        begin += each.size
    return generator, draws


def _draw_all(drawn: list["Draw"], generator: Generator) -> tuple[Generator, Any]:
    """The draws of one step, of any kind."""
    draws: Any = {}
    for each in drawn:
        generator, values = fill(
            generator, each.kind, each.parameter, each.memory, each.dtype, each.is_usual
        )
        draws = insert(draws, each.path, each.arrange(values.reshape(1, -1))[0])
    return generator, draws


def _draw_cuda(drawn: list["Draw"], generator: Generator) -> tuple[Generator, Any]:
    draws: Any = {}
    for each in drawn:
        name = ".".join(each.path)
        if each.kind != "keep" or not each.is_usual:
            raise TypeError(
                f"{name!r} draws {each.kind!r} numbers, or into a transposed tensor: of torch's "
                "CUDA stream the masks of contiguous tensors are known here alone"
            )
        if each.dtype != jnp.float32:
            raise TypeError(
                f"dropout {name!r} has {each.dtype} input: torch's CUDA masks are "
                "known here for float32 alone"
            )
        generator, keep = dropout_mask(generator, 1.0 - each.parameter, each.shape)
        draws = insert(draws, each.path, keep)
    return generator, draws


class Draw(NamedTuple):
    """Numbers that a training forward draws."""

    path: tuple[str, ...]
    kind: str
    """"keep", a mask, "uniform", "normal", "exponential", "randint", "randperm", "multinomial"."""
    parameter: Any
    """Of a mask the probability that an element is True; of integers `(low, high)`, of a
    permutation its length, of exponential numbers their rate."""
    shape: tuple[int, ...]
    dtype: Any
    """Of the tensor that torch fills: of a mask, of what it drops."""
    order: tuple[int, ...] | None = None
    """The axes as they lie in memory, the outermost first; None where in their own order."""

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def is_wide(self) -> bool:
        """Whether it draws integers that only the host draws, of two words each."""
        return self.kind == "randint" and self.parameter[1] - self.parameter[0] >= 2**28

    @property
    def is_usual(self) -> bool:
        """Whether memory has the axes in their own order, as far as one can tell."""
        axes = [axis for axis in self.order or () if self.shape[axis] != 1]
        return axes == sorted(axes)

    @property
    def memory(self) -> tuple[int, ...]:
        """The sizes of the axes, the outermost in memory first."""
        return self.shape if self.order is None else tuple(self.shape[axis] for axis in self.order)

    def arrange(self, values: Any) -> Any:
        """Numbers in the order of memory, (steps, size), as (steps, *shape)."""
        values = values.reshape(len(values), *self.memory)
        if self.is_usual:
            return values.reshape(len(values), *self.shape)
        back = np.argsort(np.asarray(self.order))
        return values.transpose(0, *(int(axis) + 1 for axis in back))


@runtime_checkable
class Drawing(Protocol):
    """A module that says itself what its training forward draws."""

    def list_draws(self, *args: Any, **kwargs: Any) -> list[Draw]:
        """Its draws in a call of these arguments, paths from itself on."""
        ...


def list_draws(net: flax.linen.Module, x: Any) -> list[Draw]:
    """Everything that a training forward of x (abstract or not) draws, as executed.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5), jaxnet.nn.Dropout(0.0)])
    >>> [(each.path, each.parameter) for each in list_draws(net, jnp.ones((2, 4)))]
    [(('0',), 0.5)]
    """
    check_net(net)
    found: dict[tuple[str, ...], Draw] = {}

    def note(call, arguments, keywords, context):
        layer = context.module
        if context.method_name != "__call__":
            return call(*arguments, **keywords)
        if isinstance(layer, Dropout) and 0 < layer.p < 1:
            keep, x = 1.0 - as_probability(layer.p), arguments[0]
            found[layer.path] = Draw(layer.path, "keep", keep, x.shape, x.dtype)
        elif isinstance(layer, Drawing):
            keywords = {key: value for key, value in keywords.items() if key not in _OURS}
            for each in layer.list_draws(*arguments, **keywords):
                each = each._replace(path=(*context.module.path, *each.path))
                found[each.path] = each
        return call(*arguments, **keywords)

    def forward(x):
        with flax.linen.intercept_methods(note):
            return net.init_with_output(jax.random.key(0), x)[0]

    jax.eval_shape(forward, x)
    return list(found.values())


_OURS = ("train", "draws", "capture")
"""Keywords of a call that are no inputs of the net."""


def insert(tree: Any, path: Sequence[str], leaf: Any) -> Any:
    """The nested mapping with a leaf at its place."""
    if not path:
        return leaf
    first, *rest = path
    return {**tree, first: insert(tree.get(first, {}), rest, leaf)}
