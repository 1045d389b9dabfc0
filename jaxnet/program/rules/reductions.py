"""Sums, means, extremes and norms over axes."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.losses.regression import absolute
from jaxnet.nn._functions import moments
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import as_integers, cast


def axes_of(x, dim):
    """A tuple of axes; all for None and for an empty list."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(x.ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(d % x.ndim for d in dims) if x.ndim else ()


def _summand(x, dtype=None):
    """Integers and booleans are added, and multiplied, as int64."""
    return as_integers(x) if dtype is None else cast(x, dtype)


for _name, _function, _convert, _of_axes in (
    ("sum", jnp.sum, _summand, "dim_IntList"),
    ("prod", jnp.prod, _summand, "dim_int"),
    ("mean", jnp.mean, cast, "dim"),
):
    aten(_name)(lambda x, dtype=None, *, f=_function, convert=_convert: f(convert(x, dtype)))
    aten(f"{_name}.{_of_axes}")(
        lambda x, dim=None, keepdim=False, dtype=None, *, f=_function, convert=_convert: f(
            convert(x, dtype), axes_of(x, dim), keepdims=keepdim
        )
    )

for _name, _function in {"cumsum": jnp.cumsum, "cumprod": jnp.cumprod}.items():
    aten(_name)(
        lambda x, dim, dtype=None, *, f=_function: (
            f(_summand(x, dtype), dim) if x.ndim else _summand(x, dtype)
        )
    )

# Of equal extremes all share the gradient.
for _name, _function in {"any": jnp.any, "all": jnp.all, "max": jnp.max, "min": jnp.min}.items():
    aten(_name)(lambda x, *, f=_function: f(x))

for _names, _function in {
    "any.dim any.dims": jnp.any,
    "all.dim all.dims": jnp.all,
    "amax": jnp.max,
    "amin": jnp.min,
}.items():
    aten(_names)(
        lambda x, dim=(), keepdim=False, *, f=_function: f(x, axes_of(x, dim), keepdims=keepdim)
    )


def _extreme(x, dim, keepdim, find):
    """The extreme of an axis and its place: the first of equal ones, which gets the gradient."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    places = jnp.expand_dims(find(x, dim), dim)
    values = jnp.take_along_axis(x, places, dim)
    if keepdim:
        return values, places
    return jnp.squeeze(values, dim), jnp.squeeze(places, dim)


for _name, _function in {"max": jnp.argmax, "min": jnp.argmin}.items():
    aten(f"{_name}.dim")(lambda x, dim, keepdim=False, *, f=_function: _extreme(x, dim, keepdim, f))
    aten(f"arg{_name}")(
        lambda x, dim=None, keepdim=False, *, f=_function: (
            f(x, dim, keepdims=keepdim) if x.ndim else jnp.zeros((), jnp.int32)
        )
    )


@aten("aminmax")
def aminmax(x, dim=None, keepdim=False):
    axes = axes_of(x, dim)
    return jnp.min(x, axes, keepdims=keepdim), jnp.max(x, axes, keepdims=keepdim)


@aten("logcumsumexp")
def logcumsumexp(x, dim):
    return lax.cumlogsumexp(x, dim % x.ndim) if x.ndim else x


@aten("logsumexp special_logsumexp")
def logsumexp(x, dim, keepdim=False):
    y = widen(x)
    return narrow(jax.nn.logsumexp(y, axes_of(x, dim), keepdims=keepdim), x)


@aten("count_nonzero count_nonzero.dim_IntList")
def count_nonzero(x, dim=None):
    return jnp.sum(as_integers(x != 0), axes_of(x, dim))


def _root(variance):
    """The square root, with torch's gradient of a standard deviation at 0: 0."""
    still = variance == 0
    return jnp.where(still, 0.0, jnp.sqrt(jnp.where(still, 1.0, variance)))


def _identity(x):
    return x


for _name, _function in {"var": _identity, "std": _root}.items():

    @aten(f"{_name}.correction")
    def deviate(x, dim=None, correction=None, keepdim=False, *, f=_function):
        """Of the sum of squared distances from the mean over n - correction, 1 for None."""
        axes = axes_of(x, dim)
        count = math.prod(x.shape[axis] for axis in axes)
        _, variance = moments(widen(x), axes)
        left = max(count - (1 if correction is None else correction), 0)
        variance = variance * (count / left if left else math.nan)
        return narrow(f(variance if keepdim else jnp.squeeze(variance, axes)), x)

    aten(_name)(lambda x, unbiased=True, f=deviate: f(x, None, int(unbiased)))
    aten(f"{_name}.dim")(
        lambda x, dim=None, unbiased=True, keepdim=False, f=deviate: f(
            x, dim, int(unbiased), keepdim
        )
    )
    aten(f"{_name}_mean.correction")(
        lambda x, dim=None, correction=None, keepdim=False, f=deviate: (
            f(x, dim, correction, keepdim),
            jnp.mean(x, axes_of(x, dim), keepdims=keepdim),
        )
    )


@aten("linalg_vector_norm")
def vector_norm(x, ord=2, dim=None, keepdim=False, dtype=None):
    """(sum |x|^ord)^(1/ord); where it is 0 the gradient is 0, as in torch."""
    x, axes = cast(x, dtype), axes_of(x, dim)
    size = absolute(widen(x))
    if ord == math.inf:
        y = jnp.max(size, axes, keepdims=keepdim)
    elif ord == -math.inf:
        y = jnp.min(size, axes, keepdims=keepdim)
    elif ord == 0:
        y = jnp.sum((size != 0).astype(size.dtype), axes, keepdims=keepdim)
    elif ord == 1:
        y = jnp.sum(size, axes, keepdims=keepdim)
    elif ord == 2:
        y = _root(jnp.sum(lax.square(widen(x)), axes, keepdims=keepdim))
    else:
        y = _norm_of_order(size, ord, axes, keepdim)
    return narrow(y, x)


def _norm_of_order(size, order, axes, keepdim):
    still = size == 0
    power = jnp.where(still, 1.0, size) ** order
    rest = 0.0 if order > 0 else jnp.inf
    sums = jnp.sum(jnp.where(still, rest, power), axes, keepdims=keepdim)
    limit = (sums == 0) | jnp.isinf(sums)
    root = jnp.where(limit, 1.0, sums) ** (1 / order)
    return jnp.where(limit, jnp.where((sums == 0) == (order > 0), 0.0, jnp.inf), root)


@aten("norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype norm.ScalarOpt_dtype")
def norm_dim(x, p, dim=None, keepdim=False, dtype=None):
    return vector_norm(x, 2 if p is None else p, dim, keepdim, dtype)


@aten("linalg_norm")
def linalg_norm(x, ord=None, dim=None, keepdim=False, dtype=None):
    if ord is not None and len(axes_of(x, dim)) == 2:
        raise NotImplementedError("linalg_norm of matrices has a rule for the Frobenius norm alone")
    return norm_dim(x, ord, dim, keepdim, dtype)


tabulate({
    "norm.Scalar": lambda x, p=2: vector_norm(x, p),
    "dist": lambda x, other, p=2: vector_norm(x - other, p),
    "trace": lambda x: jnp.sum(_summand(jnp.diagonal(x))),
})  # fmt: skip
