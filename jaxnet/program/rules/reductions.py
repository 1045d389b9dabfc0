"""Sums, means, extremes and norms over axes."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.losses.regression import absolute
from jaxnet.nn._functions import moments
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import rule
from jaxnet.program.rules._types import as_integers, cast


def axes_of(x, dim):
    """A tuple of axes; all for None and for an empty list."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(x.ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(d % x.ndim for d in dims) if x.ndim else ()


def _summand(x, dtype):
    return as_integers(x) if dtype is None else cast(x, dtype)


@rule("aten.sum.dim_IntList")
def total(x, dim=None, keepdim=False, dtype=None):
    """Integers and booleans are added as int64."""
    return jnp.sum(_summand(x, dtype), axes_of(x, dim), keepdims=keepdim)


@rule("aten.sum.default")
def sum_all(x, dtype=None):
    return jnp.sum(_summand(x, dtype))


@rule("aten.mean.dim")
def mean(x, dim=None, keepdim=False, dtype=None):
    return jnp.mean(cast(x, dtype), axes_of(x, dim), keepdims=keepdim)


@rule("aten.mean.default")
def mean_all(x, dtype=None):
    return jnp.mean(cast(x, dtype))


@rule("aten.prod.default")
def prod_all(x, dtype=None):
    return jnp.prod(_summand(x, dtype))


@rule("aten.prod.dim_int")
def prod(x, dim, keepdim=False, dtype=None):
    return jnp.prod(_summand(x, dtype), axes_of(x, dim), keepdims=keepdim)


@rule("aten.cumsum.default")
def cumsum(x, dim, dtype=None):
    return jnp.cumsum(_summand(x, dtype), dim) if x.ndim else _summand(x, dtype)


@rule("aten.cumprod.default")
def cumprod(x, dim, dtype=None):
    return jnp.cumprod(_summand(x, dtype), dim) if x.ndim else _summand(x, dtype)


@rule("aten.logcumsumexp.default")
def logcumsumexp(x, dim):
    return lax.cumlogsumexp(x, dim % x.ndim) if x.ndim else x


@rule("aten.logsumexp.default")
def logsumexp(x, dim, keepdim=False):
    y = widen(x)
    return narrow(jax.nn.logsumexp(y, axes_of(x, dim), keepdims=keepdim), x)


@rule("aten.amax.default")
def amax(x, dim=(), keepdim=False):
    """The largest; equal ones share the gradient."""
    return jnp.max(x, axes_of(x, dim), keepdims=keepdim)


@rule("aten.amin.default")
def amin(x, dim=(), keepdim=False):
    return jnp.min(x, axes_of(x, dim), keepdims=keepdim)


@rule("aten.aminmax.default")
def aminmax(x, dim=None, keepdim=False):
    return amin(x, dim, keepdim), amax(x, dim, keepdim)


rule("aten.max.default")(lambda x: jnp.max(x))
rule("aten.min.default")(lambda x: jnp.min(x))


def _extreme(x, dim, keepdim, find):
    """The extreme of an axis and its place: the first of equal ones, which gets the gradient."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int32)
    places = jnp.expand_dims(find(x, dim), dim)
    values = jnp.take_along_axis(x, places, dim)
    if keepdim:
        return values, places
    return jnp.squeeze(values, dim), jnp.squeeze(places, dim)


@rule("aten.max.dim")
def max_dim(x, dim, keepdim=False):
    return _extreme(x, dim, keepdim, jnp.argmax)


@rule("aten.min.dim")
def min_dim(x, dim, keepdim=False):
    return _extreme(x, dim, keepdim, jnp.argmin)


@rule("aten.argmax.default")
def argmax(x, dim=None, keepdim=False):
    return jnp.argmax(x, dim, keepdims=keepdim) if x.ndim else jnp.zeros((), jnp.int32)


@rule("aten.argmin.default")
def argmin(x, dim=None, keepdim=False):
    return jnp.argmin(x, dim, keepdims=keepdim) if x.ndim else jnp.zeros((), jnp.int32)


for _name in ("any", "all"):
    _function = getattr(jnp, _name)
    rule(f"aten.{_name}.default")(lambda x, f=_function: f(x))
    rule(f"aten.{_name}.dim", f"aten.{_name}.dims")(
        lambda x, dim=None, keepdim=False, f=_function: f(x, axes_of(x, dim), keepdims=keepdim)
    )


@rule("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(x, dim=None):
    return jnp.sum(as_integers(x != 0), axes_of(x, dim))


def _variance(x, dim, correction, keepdim):
    axes = axes_of(x, dim)
    count = math.prod(x.shape[axis] for axis in axes)
    _, variance = moments(widen(x), axes)
    left = max(count - (1 if correction is None else correction), 0)
    variance = variance * (count / left if left else math.nan)
    return variance if keepdim else jnp.squeeze(variance, axes)


def _root(variance):
    """The square root, with torch's gradient of a standard deviation at 0: 0."""
    still = variance == 0
    return jnp.where(still, 0.0, jnp.sqrt(jnp.where(still, 1.0, variance)))


@rule("aten.var.correction")
def var(x, dim=None, correction=None, keepdim=False):
    """The sum of squared distances from the mean over n - correction, 1 for None."""
    return narrow(_variance(x, dim, correction, keepdim), x)


@rule("aten.std.correction")
def std(x, dim=None, correction=None, keepdim=False):
    return narrow(_root(_variance(x, dim, correction, keepdim)), x)


@rule("aten.var.dim")
def var_dim(x, dim=None, unbiased=True, keepdim=False):
    return var(x, dim, int(unbiased), keepdim)


@rule("aten.std.dim")
def std_dim(x, dim=None, unbiased=True, keepdim=False):
    return std(x, dim, int(unbiased), keepdim)


@rule("aten.var.default")
def var_all(x, unbiased=True):
    return var(x, None, int(unbiased))


@rule("aten.std.default")
def std_all(x, unbiased=True):
    return std(x, None, int(unbiased))


@rule("aten.var_mean.correction")
def var_mean(x, dim=None, correction=None, keepdim=False):
    return var(x, dim, correction, keepdim), mean(x, dim, keepdim)


@rule("aten.std_mean.correction")
def std_mean(x, dim=None, correction=None, keepdim=False):
    return std(x, dim, correction, keepdim), mean(x, dim, keepdim)


@rule("aten.linalg_vector_norm.default")
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


@rule("aten.norm.Scalar")
def norm(x, p=2):
    return vector_norm(x, p)


@rule("aten.norm.ScalarOpt_dim", "aten.norm.ScalarOpt_dim_dtype", "aten.norm.ScalarOpt_dtype")
def norm_dim(x, p, dim=None, keepdim=False, dtype=None):
    return vector_norm(x, 2 if p is None else p, dim, keepdim, dtype)


@rule("aten.linalg_norm.default")
def linalg_norm(x, ord=None, dim=None, keepdim=False, dtype=None):
    axes = axes_of(x, dim)
    if ord is not None and len(axes) == 2:
        raise NotImplementedError("linalg_norm of matrices has a rule for the Frobenius norm alone")
    return vector_norm(x, 2 if ord is None else ord, dim, keepdim, dtype)


@rule("aten.trace.default")
def trace(x):
    return jnp.sum(_summand(jnp.diagonal(x), None))


@rule("aten.dist.default")
def dist(x, other, p=2):
    return vector_norm(x - other, p)
