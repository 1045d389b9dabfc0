"""Normalization over features, channels, groups of channels and batches."""

import math

import jax.numpy as jnp
from jax import lax

from jaxnet.nn import _functions
from jaxnet.nn._functions import moments, normalize_channels
from jaxnet.nn.base import narrow, widen
from jaxnet.program.registry import aten
from jaxnet.program.rules.reductions import vector_norm


@aten("layer_norm")
def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-05, cudnn_enable=True):
    return narrow(_functions.layer_norm(widen(x), len(normalized_shape), weight, bias, eps), x)


@aten("native_layer_norm")
def native_layer_norm(x, normalized_shape, weight, bias, eps):
    """The result, the means and 1 / sqrt(variance + eps)."""
    mean, variance = moments(widen(x), tuple(range(-len(normalized_shape), 0)))
    y = layer_norm(x, normalized_shape, weight, bias, eps)
    return y, mean.astype(x.dtype), (1 / jnp.sqrt(variance + eps)).astype(x.dtype)


@aten("_fused_rms_norm")
def fused_rms_norm(x, normalized_shape, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight, and 1 / sqrt(...); eps is the type's own for None."""
    y = widen(x)
    squares = jnp.mean(lax.square(y), tuple(range(-len(normalized_shape), 0)), keepdims=True)
    root = jnp.sqrt(squares + (jnp.finfo(y.dtype).eps if eps is None else eps))
    y = y / root
    return narrow(y if weight is None else y * jnp.broadcast_to(weight, y.shape), x), 1 / root


@aten("rms_norm")
def rms_norm(x, normalized_shape, weight=None, eps=None):
    return fused_rms_norm(x, normalized_shape, weight, eps)[0]


def _scale(y, weight, bias):
    """y times a weight, plus a bias, of each channel, axis 1."""
    across = (1, -1, *(1,) * (y.ndim - 2))
    y = y if weight is None else y * jnp.broadcast_to(weight.reshape(across), y.shape)
    return y if bias is None else y + jnp.broadcast_to(bias.reshape(across), y.shape)


def _group_norm(x, groups, weight, bias, eps):
    grouped = widen(x).reshape(x.shape[0], groups, -1)
    mean, variance = moments(grouped, (2,))
    y = ((grouped - mean) / jnp.sqrt(variance + eps)).reshape(x.shape)
    return narrow(_scale(y, weight, bias), x), mean[..., 0], variance[..., 0]


@aten("group_norm")
def group_norm(x, num_groups, weight=None, bias=None, eps=1e-05, cudnn_enabled=True):
    return _group_norm(x, num_groups, weight, bias, eps)[0]


@aten("native_group_norm")
def native_group_norm(x, weight, bias, N, C, HxW, group, eps):
    y, mean, variance = _group_norm(x, group, weight, bias, eps)
    return y, mean.astype(x.dtype), (1 / jnp.sqrt(variance + eps)).astype(x.dtype)


def _normalize(x, mean, variance, weight, bias, eps):
    return narrow(normalize_channels(widen(x), mean, variance, weight, bias, eps), x)


def _moved(running, new, momentum):
    new = lax.stop_gradient(new).reshape(running.shape).astype(running.dtype)
    return ((1 - momentum) * running + momentum * new).astype(running.dtype)


@aten("_native_batch_norm_legit_functional")
def batch_norm_functional(x, weight, bias, running_mean, running_var, training, momentum, eps):
    """The result, the batch's mean and 1 / sqrt(variance + eps), and the running ones after it.

    The running variance moves toward the unbiased one.
    """
    if not training:
        y, *empty = batch_norm_no_training(x, weight, bias, running_mean, running_var, 0.0, eps)
        return y, *empty, running_mean, running_var
    mean, variance = moments(widen(x), (0, *range(2, x.ndim)))
    count = math.prod(x.shape) // x.shape[1]
    unbiased = variance * (count / (count - 1) if count > 1 else math.nan)
    return (
        *batch_norm_no_stats(x, weight, bias, training, momentum, eps),
        _moved(running_mean, mean, momentum),
        _moved(running_var, unbiased, momentum),
    )


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_no_stats(x, weight, bias, training, momentum, eps):
    mean, variance = moments(widen(x), (0, *range(2, x.ndim)))
    y = _normalize(x, mean, variance, weight, bias, eps)
    return y, mean.reshape(-1), (1 / jnp.sqrt(variance + eps)).reshape(-1)


@aten("_native_batch_norm_legit_no_training")
def batch_norm_no_training(x, weight, bias, running_mean, running_var, momentum, eps):
    """With the running ones; of the batch nothing is computed, so two results are empty."""
    y = _normalize(x, widen(running_mean), widen(running_var), weight, bias, eps)
    empty = jnp.zeros((0,), x.dtype)
    return y, empty, empty


@aten("batch_norm")
def batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled):
    if not training:
        return batch_norm_no_training(x, weight, bias, running_mean, running_var, 0.0, eps)[0]
    if running_mean is not None:
        raise NotImplementedError("batch_norm that changes its running statistics in place")
    return batch_norm_no_stats(x, weight, bias, True, 0.0, eps)[0]


@aten("instance_norm")
def instance_norm(
    x, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled
):
    """Over each image's own channels, or with the running statistics."""
    if not use_input_stats:
        return batch_norm_no_training(x, weight, bias, running_mean, running_var, 0.0, eps)[0]
    if running_mean is not None:
        raise NotImplementedError("instance_norm that changes its running statistics in place")
    return _group_norm(x, x.shape[1], weight, bias, eps)[0]


@aten("_weight_norm_interface")
def weight_norm_interface(v, g, dim=0):
    """v * (g / |v|), the norm over all axes but `dim`, and the norm."""
    axes = [axis for axis in range(v.ndim) if axis != dim % v.ndim]
    norm = vector_norm(v, 2, axes if dim != -1 else list(range(v.ndim)), True)
    return v * jnp.broadcast_to(g / norm, v.shape), norm.astype(g.dtype)


aten("_weight_norm")(lambda v, g, dim=0: weight_norm_interface(v, g, dim)[0])
