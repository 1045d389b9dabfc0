"""One array put where a sharding says."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def put(values: Any, sharding: Any) -> jax.Array:
    """An array where a sharding says, of which each process has all or, if it is a `jax.Array`,
    its own part.
    """
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        words = put(jax.random.key_data(values), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(values))
    elsewhere = isinstance(values, jax.Array) and not values.is_fully_addressable
    if elsewhere or sharding.is_fully_addressable:
        return jax.device_put(values, sharding)
    host = np.asarray(values)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
