"""Why an update is not torch's: each cause is read from the numbers, and must explain them all."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

_FITS = 1e-4
"""Of an update's size, what a cause may leave unexplained."""


class Moved(NamedTuple):
    """One parameter's step."""

    ours: np.ndarray
    torchs: np.ndarray
    """Exactly, in float64."""
    weights: np.ndarray
    """Before the step."""
    grads: np.ndarray
    terms: int = 1
    """How many of torch's tensors the port holds as one sum."""


def explain_update(moved: Mapping[str, Moved], first: str) -> list[str]:
    """Causes of the divergence of the parameter `first`, the simplest first.

    >>> step = np.array([0.5, -1.0])
    >>> explain_update({"w": Moved(step / 2, step, step * 0, step)}, "w")[0]
    "the update is 0.5 times torch's: another learning rate, or a sum where torch takes a mean"
    """
    return list(_list(moved, first))


def _list(moved: Mapping[str, Moved], first: str) -> Iterator[str]:
    step = moved[first]
    ratio = _ratio(step.ours, step.torchs)
    if step.terms > 1 and ratio is not None and abs(ratio - 1 / step.terms) < _FITS:
        yield (
            f"merged-bias: torch has {_count(step.terms)} biases where the port has their sum, "
            f"which therefore moves {step.terms} times as far in torch"
        )
        return
    norm = float(
        np.sqrt(sum((each.grads.astype(np.float64) ** 2).sum() for each in moved.values()))
    )
    if ratio is not None and all(_near(_ratio(m.ours, m.torchs), ratio) for m in moved.values()):
        if 0 < abs(ratio - 1) < 1e-3 and abs((ratio - 1) * norm - 1e-6) < 2e-7:
            yield (
                "clip-epsilon: clip_grad_norm_ divides by the norm + 1e-6, "
                "optax.clip_by_global_norm by the norm"
            )
            return
        yield (
            f"the update is {ratio:.4g} times torch's: another learning rate, or a sum where torch "
            "takes a mean"
        )
        return
    apart = step.ours - step.torchs
    share = _ratio(apart, step.weights)
    if share is not None and share:
        yield (
            f"weight decay is another: the steps differ by {share:.3g} of the weight, so that the "
            f"port decays {'less' if share > 0 else 'more'} than torch"
        )
        return
    yield from _clipped(moved)


def _clipped(moved: Mapping[str, Moved]) -> Iterator[str]:
    """Whether each element is a multiple of its gradient, cut at one value."""
    ours = np.concatenate([m.ours.ravel() for m in moved.values()])
    grads = np.concatenate([m.grads.ravel() for m in moved.values()]).astype(np.float64)
    most = np.abs(ours).max(initial=0.0)
    cut = np.abs(ours) > (1 - 1e-5) * most
    if most and 1 < cut.sum() < len(ours):
        rate = _ratio(ours[~cut], grads[~cut])
        if rate and (np.abs(rate * grads[cut]) >= most * (1 - 1e-4)).all():
            yield f"gradients are clipped by value, at {most / abs(rate):.3g}, not by their norm"


def _ratio(ours: np.ndarray, torchs: np.ndarray) -> float | None:
    """The one number by which torch's differ from the port's; None where there is none."""
    size = float((torchs * torchs).sum())
    if not size or not np.isfinite(ours).all():
        return None
    ratio = float((ours * torchs).sum() / size)
    left = np.linalg.norm(ours - ratio * torchs)
    return ratio if left <= _FITS * max(abs(ratio), 1e-3) * size**0.5 else None


def _near(ratio: float | None, other: float) -> bool:
    return ratio is None or abs(ratio - other) <= _FITS * max(abs(other), 1e-3)


def _count(number: int) -> str:
    return {2: "two", 3: "three"}.get(number, str(number))
