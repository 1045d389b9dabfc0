"""Losses, from the functions of `jaxnet.losses`."""

import jax.numpy as jnp
from jax import lax

from jaxnet import losses
from jaxnet.losses.regression import absolute
from jaxnet.program.registry import rule
from jaxnet.program.rules._types import promote
from jaxnet.program.rules.reductions import vector_norm

_REDUCTIONS = ("none", "mean", "sum")


def _reduce(loss, reduction):
    return (lambda y: y, jnp.mean, jnp.sum)[reduction](loss)


@rule("aten.mse_loss.default")
def mse_loss(x, target, reduction=1):
    x, target = promote(x, target)
    return losses.mse_loss(x, target, _REDUCTIONS[reduction])


@rule("aten.l1_loss.default")
def l1_loss(x, target, reduction=1):
    x, target = promote(x, target)
    return losses.l1_loss(x, target, _REDUCTIONS[reduction])


@rule("aten.smooth_l1_loss.default")
def smooth_l1_loss(x, target, reduction=1, beta=1.0):
    x, target = promote(x, target)
    return losses.smooth_l1_loss(x, target, _REDUCTIONS[reduction], beta)


@rule("aten.huber_loss.default")
def huber_loss(x, target, reduction=1, delta=1.0):
    """d^2 / 2 where d = |x - target| is at most delta, else delta (d - delta / 2)."""
    x, target = promote(x, target)
    size = absolute(x - target)
    inside = size <= delta
    curve = 0.5 * lax.square(jnp.where(inside, size, 0.0))
    return _reduce(jnp.where(inside, curve, delta * (size - 0.5 * delta)), reduction)


@rule("aten.binary_cross_entropy.default")
def binary_cross_entropy(x, target, weight=None, reduction=1):
    return losses.binary_cross_entropy(x, target, weight, _REDUCTIONS[reduction])


@rule("aten.binary_cross_entropy_with_logits.default")
def binary_cross_entropy_with_logits(x, target, weight=None, pos_weight=None, reduction=1):
    name = _REDUCTIONS[reduction]
    return losses.binary_cross_entropy_with_logits(x, target, weight, name, pos_weight)


@rule("aten.cross_entropy_loss.default")
def cross_entropy(x, target, weight=None, reduction=1, ignore_index=-100, label_smoothing=0.0):
    name = _REDUCTIONS[reduction]
    return losses.cross_entropy(x, target, weight, ignore_index, name, label_smoothing)


@rule("aten.nll_loss_nd.default", "aten.nll_loss.default", "aten.nll_loss2d.default")
def nll_loss(x, target, weight=None, reduction=1, ignore_index=-100):
    return losses.nll_loss(x, target, weight, ignore_index, _REDUCTIONS[reduction])


@rule("aten.kl_div.default")
def kl_div(x, target, reduction=1, log_target=False):
    """target (log target - x), 0 where the target is 0."""
    x, target = promote(x, target)
    if log_target:
        return _reduce(jnp.exp(target) * (target - x), reduction)
    still = target == 0
    safe = jnp.where(still, 1.0, target)
    return _reduce(jnp.where(still, 0.0, safe * jnp.log(safe)) - target * x, reduction)


@rule("aten.soft_margin_loss.default")
def soft_margin_loss(x, target, reduction=1):
    return _reduce(jnp.log1p(jnp.exp(-target * x)), reduction)


@rule("aten.poisson_nll_loss.default")
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


@rule("aten.margin_ranking_loss.default")
def margin_ranking_loss(input1, input2, target, margin=0.0, reduction=1):
    return _reduce(_hinge(-target * (input1 - input2) + margin), reduction)


@rule("aten.hinge_embedding_loss.default")
def hinge_embedding_loss(x, target, margin=1.0, reduction=1):
    near = jnp.where(target == 1, x, 0)
    far = jnp.where(target == -1, _hinge(margin - x), 0)
    return _reduce(near + far, reduction)


@rule("aten.cosine_similarity.default")
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


@rule("aten.cosine_embedding_loss.default")
def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction=1):
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    eps = 1e-12  # torch's own, beside the product of the squared sizes
    squares = [jnp.sum(lax.square(x), -1) + eps for x in (input1, input2)]
    cosine = jnp.sum(input1 * input2, -1) / jnp.sqrt(squares[0] * squares[1])
    near = jnp.where(target == 1, 1 - cosine, 0)
    far = jnp.where(target == -1, _hinge(cosine - margin), 0)
    return _reduce(near + far, reduction)


@rule("aten.pairwise_distance.default")
def pairwise_distance(x1, x2, p=2, eps=1e-06, keepdim=False):
    x1, x2 = promote(x1, x2)
    return vector_norm(x1 - x2 + eps, p, [-1], keepdim)


@rule("aten.triplet_margin_loss.default")
def triplet_margin_loss(
    anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False, reduction=1
):
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = jnp.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduce(_hinge(margin + near - far), reduction)
