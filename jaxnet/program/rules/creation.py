"""New arrays: constants, ranges, grids."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import is_floating


@aten("full")
def full(size, fill_value, dtype=None, *, result):
    return jnp.full(tuple(size), fill_value, result.dtype)


# What is empty holds anything in torch; here, zeros.
for _name, _value in {"zeros": 0, "ones": 1, "empty": 0}.items():
    aten("empty.memory_format" if _name == "empty" else _name)(
        lambda size, dtype=None, *, result, value=_value: full(size, value, result=result)
    )
    aten(f"new_{_name}")(
        lambda x, size, dtype=None, *, result, value=_value: full(size, value, result=result)
    )
    aten(f"{_name}_like")(
        lambda x, dtype=None, *, result, value=_value: full(x.shape, value, result=result)
    )

tabulate({
    "new_full": lambda x, size, fill_value, dtype=None, *, result: (
        full(size, fill_value, result=result)
    ),
    "full_like": lambda x, fill_value, dtype=None, *, result: (
        full(x.shape, fill_value, result=result)
    ),
    "empty_strided empty_permuted": lambda size, stride, dtype=None, *, result: (
        full(size, 0, result=result)
    ),
    "new_empty_strided": lambda x, size, stride, dtype=None, *, result: (
        full(size, 0, result=result)
    ),
    "scalar_tensor": lambda s, dtype=None, *, result: jnp.asarray(s, result.dtype),
    "arange": lambda end, dtype=None, *, result: arange(0, end, result=result),
    "eye eye.m": lambda n, m=None, dtype=None, *, result: jnp.eye(n, m, dtype=result.dtype),
    "tril_indices": lambda row, col, offset=0, dtype=None, *, result: (
        jnp.asarray(np.stack(np.tril_indices(row, offset, col)), result.dtype)
    ),
    "triu_indices": lambda row, col, offset=0, dtype=None, *, result: (
        jnp.asarray(np.stack(np.triu_indices(row, offset, col)), result.dtype)
    ),
})  # fmt: skip


@aten("arange.start arange.start_step")
def arange(start, end, step=1, dtype=None, *, result):
    """start + i * step, of each i in float64 and then rounded, as torch does."""
    count = result.shape[0]
    if is_floating(jnp.zeros((), result.dtype)):
        return jnp.asarray(start + np.arange(count) * np.float64(step), result.dtype)
    return jnp.asarray(int(start) + np.arange(count) * int(step), result.dtype)


@aten("linspace")
def linspace(start, end, steps, dtype=None, *, result):
    """From both ends to the middle, in the type of what is given."""
    dtype = result.dtype if np.issubdtype(result.dtype, np.floating) else np.dtype(np.float32)
    if steps < 2 or not is_floating(jnp.zeros((), result.dtype)):
        return jnp.asarray(np.linspace(start, end, steps), result.dtype)
    # bfloat16 is computed in float32.
    wide = np.promote_types(dtype, np.float32)
    first, last, order = wide.type(start), wide.type(end), np.arange(steps)
    step = (last - first) / wide.type(steps - 1)
    rising, falling = first + step * order.astype(wide), last - step * order[::-1].astype(wide)
    return jnp.asarray(np.where(order < steps // 2, rising, falling), result.dtype)


@aten("one_hot")
def one_hot(x, num_classes=-1, *, result):
    """1 where an axis of classes counts to x; how many there are must be given."""
    if num_classes < 0:
        raise NotImplementedError("one_hot counts its classes in the data: give num_classes")
    return jax.nn.one_hot(x, num_classes, dtype=result.dtype)


@aten("hann_window hann_window.periodic")
def hann_window(window_length, periodic=True, dtype=None, *, result):
    return jnp.asarray(np.hanning(window_length + periodic)[:window_length], result.dtype)
