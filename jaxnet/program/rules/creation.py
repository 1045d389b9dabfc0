"""New arrays: constants, ranges, grids."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.program.registry import rule
from jaxnet.program.rules._types import is_floating


def _constant(value):
    """Functions of a size, of an array and a size, and of an array alone."""
    return (
        lambda size, dtype=None, *, result: jnp.full(tuple(size), value, result.dtype),
        lambda x, size, dtype=None, *, result: jnp.full(tuple(size), value, result.dtype),
        lambda x, dtype=None, *, result: jnp.full(x.shape, value, result.dtype),
    )


# What is empty holds anything in torch; here, zeros.
for _name, _value in {"zeros": 0, "ones": 1, "empty": 0}.items():
    _full, _new_full, _full_like = _constant(_value)
    rule(f"aten.{_name}.{'memory_format' if _name == 'empty' else 'default'}")(_full)
    rule(f"aten.new_{_name}.default")(_new_full)
    rule(f"aten.{_name}_like.default")(_full_like)


@rule("aten.full.default")
def full(size, fill_value, dtype=None, *, result):
    return jnp.full(tuple(size), fill_value, result.dtype)


@rule("aten.new_full.default")
def new_full(x, size, fill_value, dtype=None, *, result):
    return jnp.full(tuple(size), fill_value, result.dtype)


@rule("aten.full_like.default")
def full_like(x, fill_value, dtype=None, *, result):
    return jnp.full(x.shape, fill_value, result.dtype)


@rule("aten.empty_strided.default", "aten.empty_permuted.default")
def empty_strided(size, stride=(), physical_layout=(), dtype=None, *, result):
    return jnp.zeros(tuple(size), result.dtype)


@rule("aten.new_empty_strided.default")
def new_empty_strided(x, size, stride, dtype=None, *, result):
    return jnp.zeros(tuple(size), result.dtype)


@rule("aten.scalar_tensor.default")
def scalar_tensor(s, dtype=None, *, result):
    return jnp.asarray(s, result.dtype)


@rule("aten.arange.default")
def arange(end, dtype=None, *, result):
    return arange_step(0, end, 1, result=result)


@rule("aten.arange.start")
def arange_start(start, end, dtype=None, *, result):
    return arange_step(start, end, 1, result=result)


@rule("aten.arange.start_step")
def arange_step(start, end, step=1, dtype=None, *, result):
    """start + i * step, of each i in float64 and then rounded, as torch does."""
    count = result.shape[0]
    if is_floating(jnp.zeros((), result.dtype)):
        return jnp.asarray(start + np.arange(count) * np.float64(step), result.dtype)
    return jnp.asarray(int(start) + np.arange(count) * int(step), result.dtype)


@rule("aten.linspace.default")
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


@rule("aten.eye.default", "aten.eye.m")
def eye(n, m=None, dtype=None, *, result):
    return jnp.eye(n, m, dtype=result.dtype)


@rule("aten.tril_indices.default")
def tril_indices(row, col, offset=0, dtype=None, *, result):
    return jnp.asarray(np.stack(np.tril_indices(row, offset, col)), result.dtype)


@rule("aten.triu_indices.default")
def triu_indices(row, col, offset=0, dtype=None, *, result):
    return jnp.asarray(np.stack(np.triu_indices(row, offset, col)), result.dtype)


@rule("aten.one_hot.default")
def one_hot(x, num_classes=-1, *, result):
    """1 where an axis of classes counts to x; how many there are must be given."""
    if num_classes < 0:
        raise NotImplementedError("one_hot counts its classes in the data: give num_classes")
    return jax.nn.one_hot(x, num_classes, dtype=result.dtype)


@rule("aten.hann_window.default")
def hann_window(window_length, dtype=None, *, result):
    return hann_window_periodic(window_length, True, result=result)


@rule("aten.hann_window.periodic")
def hann_window_periodic(window_length, periodic=True, dtype=None, *, result):
    window = np.hanning(window_length + 1)[:-1] if periodic else np.hanning(window_length)
    return jnp.asarray(window, result.dtype)
