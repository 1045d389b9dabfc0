"""Products: linear layers, matrices, batches of them, einsum."""

import jax.numpy as jnp
import numpy as np

from jaxnet.nn._product import product
from jaxnet.nn.base import narrow, precision
from jaxnet.program.registry import rule
from jaxnet.program.rules.reductions import vector_norm


@rule("aten.linear.default")
def linear(x, weight, bias=None):
    y = product(x, weight)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


@rule("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default")
@rule("aten.dot.default", "aten.vdot.default")
def matmul(x, other):
    """NumPy's; leading axes are broadcast."""
    if x.ndim > 1 and other.ndim > 1:
        lead = np.broadcast_shapes(x.shape[:-2], other.shape[:-2])
        x = jnp.broadcast_to(x, (*lead, *x.shape[-2:]))
        other = jnp.broadcast_to(other, (*lead, *other.shape[-2:]))
    return jnp.matmul(x, other, precision=precision())


@rule("aten.addmm.default", "aten.addmv.default", "aten.baddbmm.default")
def addmm(x, mat1, mat2, beta=1, alpha=1):
    """beta * x + alpha * (mat1 @ mat2); what is times 0 is left out."""
    y = matmul(mat1, mat2)
    y = y if alpha == 1 else y * jnp.asarray(alpha, y.dtype)
    if beta == 0:
        return y
    return y + jnp.broadcast_to(x if beta == 1 else x * jnp.asarray(beta, x.dtype), y.shape)


@rule("aten.addbmm.default")
def addbmm(x, batch1, batch2, beta=1, alpha=1):
    y = jnp.sum(matmul(batch1, batch2), 0) * jnp.asarray(alpha, x.dtype)
    return y if beta == 0 else y + jnp.asarray(beta, x.dtype) * jnp.broadcast_to(x, y.shape)


@rule("aten.inner.default")
def inner(x, other):
    """Sums over the last axis of both."""
    if not x.ndim or not other.ndim:
        return x * other
    return jnp.tensordot(x, other, (-1, -1), precision=precision())


@rule("aten.outer.default")
def outer(x, vec2):
    return x[:, None] * vec2[None, :]


@rule("aten.einsum.default")
def einsum(equation, tensors, path=None):
    return jnp.einsum(equation.replace(" ", ""), *tensors, precision=precision())


@rule("aten.bilinear.default")
def bilinear(input1, input2, weight, bias=None):
    """x1 W_o x2 + b_o for each output o."""
    y = jnp.einsum("...i,oij,...j->...o", input1, weight, input2, precision=precision())
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


@rule("aten.tensordot.default")
def tensordot(x, other, dims_self, dims_other):
    """Sums over pairs of axes; of a pair with a length of 1, over the other."""
    for mine, its in zip(dims_self, dims_other, strict=True):
        if x.shape[mine] == 1:
            other = other.sum(its, keepdims=True)
        elif other.shape[its] == 1:
            x = x.sum(mine, keepdims=True)
    return jnp.tensordot(x, other, (tuple(dims_self), tuple(dims_other)), precision=precision())


@rule("aten.cdist.default")
def cdist(x1, x2, p=2, compute_mode=None):
    """Distances of all rows of one from all of the other; the gradient at 0 is 0."""
    lead = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    rows = jnp.broadcast_to(x1[..., :, None, :], (*lead, x1.shape[-2], 1, x1.shape[-1]))
    columns = jnp.broadcast_to(x2[..., None, :, :], (*lead, 1, x2.shape[-2], x2.shape[-1]))
    return narrow(vector_norm(rows - columns, p, [-1]), x1)
