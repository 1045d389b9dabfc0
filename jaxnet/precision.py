"""How exactly a run multiplies and rounds: `parity`, `fast` or `float64`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.validation import nearest

Precision = Literal["parity", "fast", "float64"]
"""How exactly a run computes; `MEANINGS` says what each is."""

MEANINGS: dict[Precision, str] = {
    "parity": "float32, full matmul precision",
    "fast": "float32, the backend's own matmul precision",
    "float64": "float64, full matmul precision",
}

_MATMUL = {"parity": "highest", "fast": "default", "float64": "highest"}


def check_precision(name: Any) -> Precision:
    """The name of a precision; a ValueError that lists them for any other.

    >>> check_precision("fast")
    'fast'
    """
    if name not in get_args(Precision):
        listed = ", ".join(MEANINGS)
        raise ValueError(
            f"precision must be one of {listed}, not {name!r}{nearest(name, MEANINGS)}"
        )
    return name


@contextmanager
def use(name: Precision) -> Iterator[None]:
    """What is traced, compiled and run in here has this precision, whatever is set for all of JAX.

    `parity` multiplies float32 in full, as torch does by default. `fast` lets the backend choose:
    TF32 on NVIDIA's GPUs, where `torch.set_float32_matmul_precision("high")` allows it in torch;
    on a CPU the numbers are those of `parity`. `float64` makes 64-bit types possible, as
    `jax.enable_x64` does; `cast` makes arrays of them, as `net.double()` does in torch. Outside,
    JAX's functions round such arrays to float32, with a warning; NumPy's do not.

    Raises:
      ValueError: the name is another.

    >>> with use("float64"):
    ...     print(jnp.ones(2).dtype)
    float64
    """
    check_precision(name)
    with jax.enable_x64(name == "float64"), jax.default_matmul_precision(_MATMUL[name]):
        yield


def cast(tree: Any, name: Precision) -> Any:
    """A pytree (parameters, a whole `TrainState`) with the floating-point arrays of a precision.

    For `float64` all of them are widened, as by `net.double()` in torch: the value of each number
    stays. For the others, what is float64 is rounded to float32. Integers, booleans, generators
    and keys stay as they are.

    >>> print(cast({"weight": jnp.ones(1), "count": jnp.ones(1, int)}, "float64"))
    {'count': Array([1], dtype=int32), 'weight': Array([1.], dtype=float64)}

    Source: `torch.nn.Module.double`, `torch.nn.Module.float`.
    """
    with use(name):
        return jax.tree.map(partial(cast_array, name=name), tree)


def cast_array(values: Any, name: Precision) -> jax.Array:
    """`cast` of one array, or of what `jnp.asarray` makes one of; to be called inside `use`."""
    check_precision(name)
    try:
        array = as_array(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"tree must hold arrays or numbers, not {values!r:.60}") from error
    if name == "float64" and jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(jnp.float64)
    return array.astype(jnp.float32) if array.dtype == np.float64 else array


def as_array(values: Any) -> jax.Array:
    """`jnp.asarray`, which compiles a program for every new shape of a NumPy array, without that.

    >>> print(as_array(np.ones(2)))
    [1. 1.]
    """
    return jax.device_put(values) if isinstance(values, np.ndarray) else jnp.asarray(values)
