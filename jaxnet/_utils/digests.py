"""What tells arrays, functions and nets apart, the same in every process."""

import hashlib
import re
from functools import partial
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


def name_net(net: Any) -> str:
    """A net as it prints, without the addresses that differ from process to process."""
    return strip_addresses(repr(net))


def strip_addresses(text: str) -> str:
    """A text the same in every process.

    >>> strip_addresses("<function f at 0x7f00>")
    '<function f>'
    """
    return re.sub(r"( at )?0x[0-9a-f]+", "", text)


def name_function(function: Any) -> str:
    """A function's name and, of a partial, its arguments; the same in every process.

    >>> import math
    >>> name_function(partial(math.pow, 3))
    'math.pow(3)'
    """
    if isinstance(function, partial):
        arguments = [repr(value) for value in function.args]
        arguments += [f"{name}={value!r}" for name, value in function.keywords.items()]
        return f"{name_function(function.func)}({', '.join(arguments)})"
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else type(function).__name__


def digest_text(text: str) -> str:
    """What tells texts apart that may hold addresses, which differ from process to process."""
    return hashlib.sha256(strip_addresses(text).encode()).hexdigest()


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
