"""A divergence and its causes: what the two arrays show, what a stage suggests to look at."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.certificate.bounds import OTHER_NORMALS, Numbers

FOLLOWED = ("AVX2", "AVX512")
"""The kernels of torch whose numbers jaxnet draws, as `get_cpu_capability` names them."""

HINTS = {
    "initial weights": (
        "are the weights torch's, under torch's names or in a leaf of their own?",
        "does the initializer draw in torch's order, weight before bias, with its bounds?",
    ),
    "rows": (
        "does each epoch draw what a DataLoader draws (a base seed of two words, two more for a "
        "shuffle), and the permutation from the seed's own generator?",
        "is a short last batch dropped, padded or repeated?",
    ),
    "masks": (
        "does every dropout draw two words for each element, in the order of execution?",
        "is the scale float32's 1 divided by float32's 1 - p, not the rounded 1 / (1 - p)?",
    ),
    "outputs": (
        "is a weight transposed, an axis another one, an option of the layer (eps, slope, "
        "approximate) left at another default?",
        "is the net in training mode, and does it multiply in full float32?",
    ),
    "buffers": (
        "does the running variance take the unbiased variance of the batch?",
        "torch's momentum is the share of the new value, Flax's that of the old one",
    ),
    "loss": (
        "is the reduction the mean over the same elements, ignored rows left out?",
        "are logarithms clamped, weights and smoothing as in torch?",
    ),
    "gradients": (
        "is the mask applied on the way back as well?",
        "does something stop the gradient, or clip, or sum where torch takes a mean?",
        "which of two equal elements does a maximum give the gradient to?",
        "does what a ReLU takes, where it is no layer's output, lie within rounding of 0?",
    ),
    "update": (
        "is eps added outside the root, after the bias correction?",
        "is weight decay part of the gradient (L2) or apart from it (AdamW)?",
        "do momentum, dampening and nesterov begin as in torch, the first gradient undamped?",
        "does each parameter group have its own options, and the schedule its own epoch?",
    ),
    "weights": ("are updates added in float32, and once?",),
    "evaluation": (
        "does evaluation still drop units, or use a batch's own statistics?",
        "are the running statistics those after the last step?",
    ),
    "whole run": (
        "each step alone agrees: does the loop carry the optimizer's state, the buffers and the "
        "generator from step to step?",
    ),
    "stream": ("does something draw more or fewer random numbers than torch?",),
}
"""What is worth a look where a stage diverges, in sentences."""

STAGES = tuple(HINTS)
"""In the order in which an error travels."""


@dataclass(frozen=True)
class Divergence:
    """The first place where a port diverges from torch."""

    epoch: int
    """Counted from 1; 0 before the first."""
    step: int
    """Counted from 1 over the whole run; 0 before the first."""
    stage: str
    tensor: str
    jax: Any
    torch: Any
    causes: tuple[str, ...]
    """What the numbers show, and what was tried and makes them agree; the best first."""
    hints: tuple[str, ...] = ()
    """What is worth a look at this stage."""
    index: tuple[int, ...] | None = None
    """Of the element that is furthest off; None where shapes differ or something is missing."""
    exact: Any = None
    """The element in float64; None where it is an integer or a choice."""
    ulps: float | None = None
    """Between the two, in float32's spacing at torch's value."""
    error: float | None = None
    """The port's, against float64."""
    torch_error: float | None = None
    """torch's, of the same element."""
    bound: float | None = None


class Diverged(Exception):
    """Ends the comparison; `divergence` says where."""

    def __init__(self, divergence: Divergence) -> None:
        self.divergence = divergence
        super().__init__(divergence.stage)

    def because(self, *causes: str) -> "Diverged":
        """The same with causes that were tried, before what the numbers show."""
        causes = *causes, *self.divergence.causes
        return Diverged(replace(self.divergence, causes=causes))


def kernel_causes(
    kernels: str, jax: np.ndarray, torch: np.ndarray, uniform: np.ndarray, normal: np.ndarray
) -> tuple[str, ...]:
    """Sentences that name torch's kernels, where they alone make an initial tensor differ.

    Args:
      kernels: those that torch runs, as `torch.backends.cpu.get_cpu_capability()` names them.
      jax, torch: the tensor, from both sides.
      uniform, normal: what jaxnet draws where the last step of `uniform_`, or all of `normal_`,
        rounds a product and then the sum, as an FMA does not.
    """
    if kernels in FOLLOWED or jax.shape != torch.shape:
        return ()
    by_uniform, by_normal = (other.tobytes() != jax.tobytes() for other in (uniform, normal))
    if by_uniform and uniform.tobytes() == torch.tobytes():
        tried = "with uniform_ rounded twice, as those kernels round it, jaxnet draws torch's bits"
    elif by_normal and not by_uniform and np.abs(jax - torch).max() <= OTHER_NORMALS:
        tried = "normal_ takes other logarithms, sines and cosines there, and is no further off"
    else:
        return ()
    return (
        f"torch runs its {kernels} kernels (torch.backends.cpu.get_cpu_capability()), not AVX2's",
        tried,
        "torch has the same weights on x86 with AVX2 or later, where ATEN_CPU_CAPABILITY is unset",
    )


FORMULAS = {
    "batchnorm-variance": "running variances take the biased variance of a batch",
    "clip-epsilon": "gradients are clipped by their norm, torch's by the norm + 1e-6",
    "merged-bias": "one bias stands for two of torch's, whose sum moves twice as far",
}
"""Differences of formula that ports are known to have, and a user may grant."""


def list_causes(jax: Numbers | None, torch: Numbers | None) -> tuple[str, ...]:
    """What the two arrays show, in sentences."""
    return () if jax is None or torch is None else tuple(_seen(jax, torch))


def _seen(jax: Numbers, torch: Numbers) -> Iterator[str]:
    """What the arrays themselves show."""
    if torch.ndim > 1 and torch.size > 1:
        for axes in list(itertools.permutations(range(torch.ndim)))[1:]:
            turned = np.transpose(torch, axes)
            if turned.shape == jax.shape and _alike(jax, turned):
                yield f"it is torch's with the axes in the order {axes}: is it transposed?"
                return
    if jax.shape != torch.shape or not torch.size:
        return
    if torch.dtype.kind in "biu":
        yield from _seen_in_choices(jax, torch)
        return
    jax, torch = jax.astype(np.float64).ravel(), torch.astype(np.float64).ravel()
    if not (np.isfinite(jax).all() and np.isfinite(torch).all()):
        yield "one of the two is nan or infinite: is a logarithm or a quotient not guarded?"
        return
    power = float(torch @ torch)
    if power == 0:
        return
    ratio = float(jax @ torch) / power
    rest = float(np.linalg.norm(jax - ratio * torch) / np.sqrt(power))
    if abs(ratio - 1) > 1e-5 and rest < 1e-3 * abs(ratio - 1):
        yield f"all of it is {ratio:.6g} times torch's: is a factor, or a sum for a mean, in it?"
    elif not _alike(jax, torch) and _alike(np.sort(jax), np.sort(torch)):
        yield "the same numbers are in another order"
    else:
        off = float(np.linalg.norm(jax - torch)) / np.sqrt(power)
        yield f"as a whole it is off by {off:.2g} of torch's"


def _seen_in_choices(jax: np.ndarray, torch: np.ndarray) -> Iterator[str]:
    flat_jax, flat_torch = jax.ravel(), torch.ravel()
    for shift in (1, -1, 2, -2):
        if flat_torch.size > 4 and np.array_equal(
            flat_jax[max(0, shift) : len(flat_jax) + min(0, shift)],
            flat_torch[max(0, -shift) : len(flat_torch) + min(0, -shift)],
        ):
            yield f"it is torch's shifted by {abs(shift)}: is one draw too many or too few?"
            return
    if torch.dtype.kind == "b" and np.array_equal(jax, ~torch):
        yield "it is torch's inverted: True must mean kept"
    elif torch.dtype.kind != "b" and np.array_equal(np.sort(flat_jax), np.sort(flat_torch)):
        yield "the same rows are in another order"


def _alike(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.allclose(left, right, rtol=1e-5, atol=1e-6 * float(np.abs(right).max())))
