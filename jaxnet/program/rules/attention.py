"""Scaled dot-product attention."""

import math

import jax.numpy as jnp

from jaxnet.nn._functions import scale_kept
from jaxnet.program.registry import aten
from jaxnet.program.rules.functions import safe_softmax, softmax
from jaxnet.program.rules.matmul import matmul


@aten("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
    enable_gqa=False, *, draw,
):  # fmt: skip
    """softmax(Q K^T * scale + mask) V as torch's math path computes it, as on a CPU with dropout.

    Both factors are multiplied by sqrt(scale). A row in which nothing may be seen gives 0. The
    weights are dropped out in an order of their own, row by row.
    """
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        times = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(x, times, -3) for x in (key, value))
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    root = jnp.asarray(root, query.dtype)
    scores = matmul(query * root, jnp.swapaxes(key * root, -1, -2))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is None:
        weights = softmax(scores, -1)
    else:
        mask = jnp.broadcast_to(attn_mask, scores.shape)
        seen = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
        weights = safe_softmax(seen, -1)
    if dropout_p > 0:
        keep = draw("keep", 1.0 - dropout_p, weights.shape)
        weights = scale_kept(weights, keep, dropout_p)
    return matmul(weights, value)
