"""What an optimizer adds to a weight, with the roundings of its coefficients that are known.

torch and optax round the same coefficients at different places. Such a difference has a name and a
size, and is granted to a port.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxnet.cache import memoize
from jaxnet.certificate.bounds import View
from jaxnet.certificate.comparison import Comparator
from torchref.reference.float64 import Reference

DECAY, CORRECTION = "adamw-decay-rounding", "adam-bias-correction"
_ADAM = torch.optim.Adam, torch.optim.AdamW

_NOTABLE = 1e-3
"""The share of a decay by which float32 must change it to be mentioned."""

Updates = Iterable[tuple[tuple[str, ...], np.ndarray]]


def grant(
    comparator: Comparator,
    name: str,
    ours: np.ndarray,
    change: np.ndarray,
    view: View,
    others: Updates,
) -> tuple[View, dict[str, float]]:
    """The update with the known differences that explain the port's; each with its size.

    Args:
      comparator: holds `ours` against them.
      name: the parameter.
      ours, change: the port's update, and torch's as its weights show it.
      view: the exact one.
      others: what `list_updates` gives; it is asked only where `ours` is not the exact one.
    """
    if comparator.hold("update", name, ours, change, view, own=False).agrees:
        return view, {}
    for causes, other in others:
        changed = view._replace(exact=other)
        if comparator.hold("update", name, ours, change, changed, own=False).agrees:
            return changed, dict.fromkeys(causes, find_share(other, view.exact))
    return view, {}


def find_decay(others: Updates, view: View) -> dict[str, float]:
    """How much of a step torch's rounding of a decay's factor makes, where there is a decay."""
    for causes, other in others:
        if causes == (DECAY,):
            return {DECAY: find_share(other, view.exact)}
    return {}


def describe_decay(optimizer: torch.optim.Optimizer) -> str | None:
    """What float32 makes of AdamW's decay, where that is not what was asked for."""
    for group in optimizer.param_groups:
        asked = float(group.get("lr", 0)) * group.get("weight_decay", 0)
        if not asked or not isinstance(optimizer, _ADAM) or not _is_apart(optimizer, group):
            continue
        applied = (1 - float(np.float32(1 - asked))) / asked
        if applied == 0:
            return f"a decay of lr * weight_decay = {asked:.3g}: torch applies none of it"
        if abs(applied - 1) > _NOTABLE:
            return (
                f"a decay of lr * weight_decay = {asked:.3g}: torch applies {applied:.3g} times it"
            )
    return None


def find_share(other: np.ndarray, exact: np.ndarray) -> float:
    """How much a difference makes of a tensor's largest number."""
    scale = np.abs(exact).max(initial=0.0)
    return float(np.abs(other - exact).max(initial=0.0) / scale) if scale else 0.0


@memoize
def hold_still(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer without its updates where the second part of the state, booleans, is True."""
    own = optax.with_extra_args_support(optimizer)

    def init(params):
        return own.init(params), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool), params)

    def update(updates, state, params=None, **extra):
        updates, inner = own.update(updates, state[0], params, **extra)
        zeros = jax.tree.map(jnp.zeros_like, updates)
        return jax.tree.map(jnp.where, state[1], zeros, updates), (inner, state[1])

    return optax.GradientTransformationExtraArgs(init, update)


def list_updates(
    optimizer: torch.optim.Optimizer,
    parameter: torch.Tensor,
    before: np.ndarray,
    exact: np.ndarray,
    reference: Reference,
    *,
    optax: bool,
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The updates that another rounding of the coefficients gives, each with the names of why.

    Args:
      optimizer: torch's, after its step.
      parameter: one of its parameters.
      before: the parameter before the step.
      exact: its update in float64, with the coefficients that torch really uses.
      reference: knows the optimizer's state in float64.
      optax: whether the port's optimizer may be optax's, which forms `1 - beta**t` in float32.
    """
    group = _find_group(optimizer, parameter)
    if group is None or not isinstance(optimizer, _ADAM):
        return
    state = optimizer.state[parameter]
    if "exp_avg" not in state:
        return
    decay = _find_decay(optimizer, group, before)
    scale = _find_correction(group, state, reference)
    wanted = [((DECAY,), decay, 1.0)] if np.any(decay != 0) else []
    if optax:
        wanted += [((CORRECTION,), 0.0, scale), ((DECAY, CORRECTION), decay, scale)]
    decayed = _find_decayed(optimizer, group, before)
    for names, other, factor in wanted:
        yield names, (exact - decayed) * factor + decayed + other


def _find_group(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> Any:
    for group in optimizer.param_groups:
        if any(parameter is own for own in group["params"]):
            return group
    return None


def _is_apart(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Whether the decay is apart from the gradient, as AdamW has it."""
    return isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay"))


def _find_decayed(optimizer: Any, group: dict[str, Any], before: np.ndarray) -> np.ndarray:
    """What torch's decay adds: weights times 1 - lr * weight_decay, rounded to float32."""
    if not _is_apart(optimizer, group):
        return np.zeros(before.shape)
    return before * (float(np.float32(1 - float(group["lr"]) * group["weight_decay"])) - 1)


def _find_decay(optimizer: Any, group: dict[str, Any], before: np.ndarray) -> np.ndarray:
    """What the decay adds where that factor is not rounded, beside what torch's adds."""
    if not _is_apart(optimizer, group):
        return np.zeros(before.shape)
    whole = -float(group["lr"]) * group["weight_decay"] * before
    return whole - _find_decayed(optimizer, group, before)


@partial(jax.jit, static_argnums=0)
def _correct(beta: float, step: Any) -> Any:
    """1 - beta**t as `optax.tree.bias_correction` computes it."""
    return 1 - beta**step


def _find_correction(group: dict[str, Any], state: Any, reference: Reference) -> np.ndarray:
    """The factor by which optax's bias correction, formed in float32, changes a step of Adam's."""
    step = int(state["step"])
    factors = [float(_correct(beta, step)) / (1 - beta**step) for beta in group["betas"]]
    name = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
    root = np.sqrt(
        np.maximum(reference.look(state[name]).exact, 0) / (1 - group["betas"][1] ** step)
    )
    before, eps = root + group["eps"], group["eps"]
    return before / (root / np.sqrt(factors[1]) + eps) / factors[0]
