"""Checks that several rooms make of what they are given."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.processes import fetch
from jaxnet.cache import jit

INT32 = 2**31 - 1
"""The largest index of a row, and the most steps that a state counts: both are int32."""
_INT64 = 2**63 - 1


def nearest(name: Any, choices: Iterable[Any]) -> str:
    """The end of an error about a name that is none of `choices`: the one that was meant, or "".

    >>> "name must be one of logits, dropout, not 'logts'" + nearest("logts", ["logits", "dropout"])
    "name must be one of logits, dropout, not 'logts'; did you mean 'logits'?"
    >>> nearest("adam", ["logits", "dropout"])
    ''
    """
    if not isinstance(name, str) or name.isdecimal():
        return ""
    known = {choice.casefold(): choice for choice in choices if isinstance(choice, str)}
    found = difflib.get_close_matches(name.casefold(), known, 1)
    return f"; did you mean {known[found[0]]!r}?" if found else ""


def check_pair(data: Any, of: str = "(x, y)") -> tuple[Any, Any]:
    """The two parts of a pair; reject anything else."""
    if isinstance(data, Mapping | str) or not isinstance(data, Iterable) or hasattr(data, "dtype"):
        raise TypeError(f"data must be {of}, not {type(data).__name__}")
    parts = tuple(data)
    if len(parts) != 2:
        raise ValueError(f"data must be {of}, two things, not {len(parts)} of them")
    return parts


def check_real(**arrays: Any) -> None:
    """Reject anything but real numbers: strings, objects, complex numbers, keys."""
    for name, values in arrays.items():
        dtype: Any = getattr(values, "dtype", None)
        if not isinstance(values, jax.Array | np.ndarray):
            try:
                dtype = np.asarray(values).dtype
            except (TypeError, ValueError, RuntimeError):  # rows of several lengths, for one
                dtype = np.dtype(object)
        if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
            what = dtype if hasattr(values, "dtype") else f"a {type(values).__name__} of {dtype}"
            raise TypeError(f"{name} must hold real numbers, not {what}")


def check_finite(name: str, rows: Any, numbers: Any = None) -> None:
    """Reject rows with nan or an infinity, naming the first: every weight would become nan.

    `numbers` says which rows these are, if not all in their order.
    """
    kind = getattr(rows, "dtype", np.float64)
    if isinstance(rows, jax.core.Tracer) or not jnp.issubdtype(kind, jnp.floating):
        return
    if isinstance(rows, jax.Array) and _is_elsewhere(rows):
        if _is_finite(rows):  # there, without a copy to the host
            return
    values = fetch(rows)
    finite = np.isfinite(values)
    if finite.all():
        return
    row = int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    value = np.asarray(values[row])[~finite[row]].reshape(-1)[0]
    number = row if numbers is None else int(numbers[row])
    raise ValueError(f"{name} must be finite, but its row {number} holds {value}")


def _is_elsewhere(array: jax.Array) -> bool:
    """Whether it is on an accelerator, or on the devices of other processes."""
    return not array.is_fully_addressable or any(d.platform != "cpu" for d in array.devices())


@jit
def _is_finite(values):
    return jnp.isfinite(values).all()


def check_devices(**trees: Any) -> None:
    """Reject arrays that were put on different devices."""
    places: dict[frozenset, str] = {}
    for name, tree in trees.items():
        for leaf in committed_arrays(tree):
            places.setdefault(frozenset(leaf.devices()), name)
    if len(places) > 1:
        (first, name), (second, other) = list(places.items())[:2]
        raise ValueError(
            f"{name} is on {_names(first)} but {other} is on {_names(second)}: move one of them, "
            f"with jax.device_put({other}, jax.devices()[...]) for example"
        )


def committed_arrays(tree: Any) -> list[jax.Array]:
    """The arrays that were put somewhere; the others go where these are. Tracers have no place."""
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
    ]


def check_count(name: str, value: Any, most: int = _INT64) -> int:
    """A count as an int; reject anything but an integer from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {value}")
    return int(value)


def check_number(name: str, value: Any) -> float:
    """A real number as a float; reject anything else, numbers in strings too."""
    if not isinstance(value, str | bytes | bytearray):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"{name} must be a number, not {value!r}")


def check_function(name: str, value: Any, what: str = "a function") -> None:
    """Reject what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be {what}, not {value!r}")


def check_net(net: Any) -> None:
    """Reject anything but a Flax module, such as a class that was not called."""
    if not isinstance(net, flax.linen.Module):
        raise TypeError(f"net must be a Flax module, not {net!r}")


def check_optimizer(optimizer: Any, name: str = "optimizer") -> None:
    """Reject anything but an optimizer: also a function of `jaxnet.optim` that was not called."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"{name} must be an optax optimizer, such as jaxnet.optim.sgd(), not {optimizer!r}"
        )


def check_stream(generator: Any) -> None:
    """Reject anything but a random generator."""
    if hasattr(generator, "next_normal_sample"):  # jaxnet.random.Generator's, not known here
        return
    dtype = getattr(generator, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(
            "generator must be a jaxnet.random.Generator or a jax.random.key, "
            f"not {type(generator).__name__}"
        )


def check_mapping(name: str, value: Any, of: str) -> None:
    """Reject anything but a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of {of}, not {type(value).__name__}")


def _names(devices: frozenset) -> str:
    return ", ".join(sorted(str(device) for device in devices))
