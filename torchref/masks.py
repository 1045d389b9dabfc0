"""What jaxnet's net draws in a step."""

from collections.abc import Callable
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from jaxnet.cache import memoize
from jaxnet.nn import draw
from jaxnet.random import Generator


@memoize
def make_draw(net: Any) -> Callable[[Generator, Any], tuple[Generator, Any]]:
    """The draws of a step of a net of jaxnet's, compiled."""
    return jax.jit(lambda generator, x: draw(net, generator, x))


def flatten(masks: Any) -> dict[str, Any]:
    """Masks nested by layer under dotted names; the mask of a net that is one dropout under ""."""
    return flatten_dict(masks, sep=".") if isinstance(masks, dict) else {"": masks}
