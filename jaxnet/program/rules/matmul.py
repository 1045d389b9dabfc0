"""Products: linear layers, matrices, batches of them, einsum."""

import jax.numpy as jnp
import numpy as np

from jaxnet.nn._product import product
from jaxnet.nn.base import narrow, precision
from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules.reductions import vector_norm


def _plus(y, bias):
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


@aten("linear")
def linear(x, weight, bias=None):
    return _plus(product(x, weight), bias)


@aten("matmul linalg_matmul mm bmm mv dot vdot")
def matmul(x, other):
    """NumPy's; leading axes are broadcast."""
    if x.ndim > 1 and other.ndim > 1:
        lead = np.broadcast_shapes(x.shape[:-2], other.shape[:-2])
        x = jnp.broadcast_to(x, (*lead, *x.shape[-2:]))
        other = jnp.broadcast_to(other, (*lead, *other.shape[-2:]))
    return jnp.matmul(x, other, precision=precision())


def _weigh(x, y, beta, alpha):
    """beta * x + alpha * y; what is times 0 is left out."""
    y = y if alpha == 1 else y * jnp.asarray(alpha, y.dtype)
    return _plus(y, None if beta == 0 else x if beta == 1 else x * jnp.asarray(beta, x.dtype))


tabulate({
    "addmm addmv baddbmm": lambda x, mat1, mat2, beta=1, alpha=1: (
        _weigh(x, matmul(mat1, mat2), beta, alpha)
    ),
    "addbmm": lambda x, batch1, batch2, beta=1, alpha=1: (
        _weigh(x, jnp.sum(matmul(batch1, batch2), 0), beta, alpha)
    ),
    "outer ger": lambda x, vec2: x[:, None] * vec2[None, :],
    "einsum": lambda equation, tensors, path=None: (
        jnp.einsum(equation.replace(" ", ""), *tensors, precision=precision())
    ),
})  # fmt: skip


@aten("inner")
def inner(x, other):
    """Sums over the last axis of both."""
    if not x.ndim or not other.ndim:
        return x * other
    return jnp.tensordot(x, other, (-1, -1), precision=precision())


@aten("bilinear")
def bilinear(input1, input2, weight, bias=None):
    """x1 W_o x2 + b_o for each output o."""
    y = jnp.einsum("...i,oij,...j->...o", input1, weight, input2, precision=precision())
    return _plus(y, bias)


@aten("tensordot")
def tensordot(x, other, dims_self, dims_other):
    """Sums over pairs of axes; of a pair with a length of 1, over the other."""
    for mine, its in zip(dims_self, dims_other, strict=True):
        if x.shape[mine] == 1:
            other = other.sum(its, keepdims=True)
        elif other.shape[its] == 1:
            x = x.sum(mine, keepdims=True)
    return jnp.tensordot(x, other, (tuple(dims_self), tuple(dims_other)), precision=precision())


@aten("cdist")
def cdist(x1, x2, p=2, compute_mode=None):
    """Distances of all rows of one from all of the other; the gradient at 0 is 0."""
    lead = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    rows = jnp.broadcast_to(x1[..., :, None, :], (*lead, x1.shape[-2], 1, x1.shape[-1]))
    columns = jnp.broadcast_to(x2[..., None, :, :], (*lead, 1, x2.shape[-2], x2.shape[-1]))
    return narrow(vector_norm(rows - columns, p, [-1]), x1)
