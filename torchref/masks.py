"""What a port's dropouts draw in a step, as jaxnet's stream has it."""

from collections.abc import Callable
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnet.cache import memoize
from jaxnet.nn import draw
from jaxnet.random import Generator, dropout_mask

Dropouts = tuple[tuple[str, float, Any], ...]
"""Names, probabilities and shapes of the dropouts that torch's net ran, in their order."""


@memoize
def make_draw(jnet: Any) -> Callable[[Generator, Dropouts, Any], tuple[Generator, Any]]:
    """The masks of a step: of jaxnet's net, or of as many dropouts as torch's net ran."""

    def draw_step(generator: Generator, dropouts: Dropouts, x: Any) -> tuple[Generator, Any]:
        if jnet is not None:
            return draw(jnet, generator, x)
        masks = {}
        for name, p, shape in dropouts:
            generator, masks[name] = dropout_mask(generator, p, shape)
        return generator, masks

    return jax.jit(draw_step, static_argnums=1)


def flatten(masks: Any) -> dict[str, Any]:
    """Masks nested by layer under dotted names; the mask of a net that is one dropout under ""."""
    return flatten_dict(masks, sep=".") if isinstance(masks, dict) else {"": masks}


def nest(named: dict[str, Any]) -> Any:
    """The way back."""
    return named[""] if list(named) == [""] else unflatten_dict(named, sep=".")
