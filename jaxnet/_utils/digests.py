"""What tells arrays and seeds apart, the same in every process."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.processes import fetch


def as_host_array(leaf: Any) -> np.ndarray:
    """An array of the state as NumPy has it, of a key its words; called by every process."""
    return fetch(as_words(leaf))


def as_words(leaf: Any) -> Any:
    """A random key as its words, which NumPy can hold; any other array as it is."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf


def digest_array(values: Any) -> str:
    """SHA-256 of an array's type, shape and bytes.

    >>> digest_array(np.zeros(2, np.float32))[:8]
    '4016bdf5'
    """
    array = as_host_array(values)
    digest = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # bfloat16 too
    return digest.hexdigest()


def name_seed(seed: Any) -> int | str:
    """A seed as a number, or a key's words.

    >>> import jaxnet
    >>> name_seed(jaxnet.random.manual_seed(2**40))
    1099511627776
    """
    if hasattr(seed, "seed"):  # a jaxnet.random.Generator
        low, high = (int(word) for word in seed.seed)
        return high << 32 | low
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return f"jax.random.key {jax.random.key_data(seed).tolist()}"
    return int(seed)
