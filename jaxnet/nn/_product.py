"""x W^T, with a gradient in W that a CPU computes faster."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxnet.nn.base import precision


@jax.custom_jvp
def product(
    x: Float[Array | np.ndarray, "..."], weight: Float[Array | np.ndarray, "out in"]
) -> Float[Array, "..."]:
    """x W^T for x of shape (..., in) and W of shape (out, in), in the precision that is set."""
    return _contract_last(x, weight)


@partial(product.defjvp, symbolic_zeros=True)
def _product_jvp(primals, tangents):
    (x, weight), (dx, dweight) = primals, tangents
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_contract_last(dx, weight))
    if not isinstance(dweight, SymbolicZero):
        turned = lax.platform_dependent(x, dweight, cpu=_contract_turned, default=_contract_last)
        terms.append(turned)
    return product(x, weight), sum(terms[1:], terms[0])


def _contract_last(x, weight):
    axes = (((x.ndim - 1,), (1,)), ((), ()))
    return lax.dot_general(x, weight, axes, precision=precision())


def _contract_turned(x, weight):
    """The same numbers, of which the derivative in W is a product with $dy^T$, not with $dy$.

    XLA's fast kernels on a CPU contract rows of the left matrix; left to itself XLA folds the
    transposition into the product and takes a slower one. The barrier keeps $dy^T$, which is
    small, apart.
    """
    axes = (((1,), (x.ndim - 1,)), ((), ()))
    turned = lax.dot_general(weight, x, axes, precision=precision())
    return jnp.moveaxis(lax.optimization_barrier(turned), 0, -1)
