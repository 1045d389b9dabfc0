"""Draws that only the host makes, called from compiled code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnet.random.mt19937 import Generator


def is_traced(generator: Generator) -> bool:
    """Whether jit, scan or vmap traces it."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(generator))


def call_host(
    draw: Callable[[Generator], tuple[Generator, np.ndarray]],
    generator: Generator,
    count: int,
    dtype: Any,
) -> tuple[Generator, Any]:
    """`draw(generator)` on the host, whose `count` numbers are of this type, float32 or float64."""
    # As words: a callback's thread has JAX's settings of its own, and would round float64.
    width = np.dtype(dtype).itemsize // 4

    def on_host(generator: Any) -> Any:
        generator, values = draw(jax.tree.map(np.asarray, generator))
        return generator, np.asarray(values, dtype).view(np.uint32).reshape(count, width)

    kinds = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), generator)
    kinds = kinds, jax.ShapeDtypeStruct((count, width), np.uint32)
    generator, words = jax.pure_callback(on_host, kinds, generator, vmap_method="sequential")
    words = words[:, 0] if width == 1 else words
    return generator, lax.bitcast_convert_type(words, jnp.dtype(dtype))
