"""Losses, from the functions of `jaxnet.losses`."""

import jax.numpy as jnp
from jax import lax

from jaxnet import losses
from jaxnet.losses.regression import absolute
from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import promote
from jaxnet.program.rules.reductions import vector_norm

_REDUCTIONS = ("none", "mean", "sum")


def _reduce(loss, reduction):
    return (lambda y: y, jnp.mean, jnp.sum)[reduction](loss)


tabulate({
    "mse_loss": lambda x, target, reduction=1: (
        losses.mse_loss(*promote(x, target), reduction=_REDUCTIONS[reduction])
    ),
    "l1_loss": lambda x, target, reduction=1: (
        losses.l1_loss(*promote(x, target), reduction=_REDUCTIONS[reduction])
    ),
    "smooth_l1_loss": lambda x, target, reduction=1, beta=1.0: (
        losses.smooth_l1_loss(*promote(x, target), reduction=_REDUCTIONS[reduction], beta=beta)
    ),
    "binary_cross_entropy": lambda x, target, weight=None, reduction=1: (
        losses.binary_cross_entropy(x, target, weight, _REDUCTIONS[reduction])
    ),
    "nll_loss_nd nll_loss nll_loss2d": (
        lambda x, target, weight=None, reduction=1, ignore_index=-100: (
            losses.nll_loss(x, target, weight, ignore_index, _REDUCTIONS[reduction])
        )
    ),
    "soft_margin_loss": lambda x, target, reduction=1: (
        _reduce(jnp.log1p(jnp.exp(-target * x)), reduction)
    ),
    "margin_ranking_loss": lambda input1, input2, target, margin=0.0, reduction=1: (
        _reduce(_hinge(-target * (input1 - input2) + margin), reduction)
    ),
})  # fmt: skip


@aten("huber_loss")
def huber_loss(x, target, reduction=1, delta=1.0):
    """d^2 / 2 where d = |x - target| is at most delta, else delta (d - delta / 2)."""
    x, target = promote(x, target)
    size = absolute(x - target)
    inside = size <= delta
    curve = 0.5 * lax.square(jnp.where(inside, size, 0.0))
    return _reduce(jnp.where(inside, curve, delta * (size - 0.5 * delta)), reduction)


@aten("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, reduction=1):
    name = _REDUCTIONS[reduction]
    return losses.binary_cross_entropy_with_logits(x, target, weight, name, pos_weight)


@aten("cross_entropy_loss")
def cross_entropy(x, target, weight=None, reduction=1, ignore_index=-100, label_smoothing=0.0):
    name = _REDUCTIONS[reduction]
    return losses.cross_entropy(x, target, weight, ignore_index, name, label_smoothing)


@aten("kl_div")
def kl_div(x, target, reduction=1, log_target=False):
    """target (log target - x), 0 where the target is 0."""
    x, target = promote(x, target)
    if log_target:
        return _reduce(jnp.exp(target) * (target - x), reduction)
    still = target == 0
    safe = jnp.where(still, 1.0, target)
    return _reduce(jnp.where(still, 0.0, safe * jnp.log(safe)) - target * x, reduction)


@aten("poisson_nll_loss")
def poisson_nll_loss(x, target, log_input, full, eps, reduction):
    loss = jnp.exp(x) - target * x if log_input else x - target * jnp.log(x + eps)
    if full:
        safe = jnp.where(target > 1, target, 2.0)
        stirling = safe * jnp.log(safe) - safe + 0.5 * jnp.log(2 * jnp.pi * safe)
        loss = loss + jnp.where(target > 1, stirling, 0.0)
    return _reduce(loss, reduction)


def _hinge(x):
    """max(x, 0) as torch's clamp_min, whose gradient at 0 is 0."""
    return jnp.where(x > 0, x, 0)


def _embedding_loss(near, far, target, reduction):
    """`near` where the target is 1, max(0, far) where it is -1."""
    near = jnp.where(target == 1, near, 0)
    return _reduce(near + jnp.where(target == -1, _hinge(far), 0), reduction)


@aten("hinge_embedding_loss")
def hinge_embedding_loss(x, target, margin=1.0, reduction=1):
    return _embedding_loss(x, margin - x, target, reduction)


@aten("cosine_similarity")
def cosine_similarity(x1, x2, dim=1, eps=1e-08):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps))."""
    x1, x2 = promote(x1, x2, floating=True)
    if not x1.ndim:
        return cosine_similarity(x1.reshape(1), x2.reshape(1), 0, eps)
    sizes = [vector_norm(x, 2, [dim], True) for x in (x1, x2)]
    first, second = (
        x / jnp.broadcast_to(jnp.where(size < eps, eps, size), x.shape)
        for x, size in zip((x1, x2), sizes, strict=True)
    )
    return jnp.sum(first * second, dim)


@aten("cosine_embedding_loss")
def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction=1):
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    eps = 1e-12  # torch's own, beside the product of the squared sizes
    squares = [jnp.sum(lax.square(x), -1) + eps for x in (input1, input2)]
    cosine = jnp.sum(input1 * input2, -1) / jnp.sqrt(squares[0] * squares[1])
    return _embedding_loss(1 - cosine, cosine - margin, target, reduction)


@aten("pairwise_distance")
def pairwise_distance(x1, x2, p=2, eps=1e-06, keepdim=False):
    x1, x2 = promote(x1, x2)
    return vector_norm(x1 - x2 + eps, p, [-1], keepdim)


@aten("triplet_margin_loss")
def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False, reduction=1
):
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = jnp.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduce(_hinge(margin + near - far), reduction)
