"""Norms, dropouts, recurrent layers, activations, statistics and losses of other libraries."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from torchref.variants.variant import Variant, set_argument

_EPS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)
_NORMS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")


def list_norms() -> Iterator[Variant]:
    """Another `eps`."""
    places = {"layer_norm": 4, "group_norm": 4, "batch_norm": 7, "instance_norm": 7, "rms_norm": 3}
    for name in _NORMS:
        for eps in _EPS:
            yield set_argument(f"{name} has eps {eps:g}", (name,), places[name], "eps", eps)


def list_dropouts() -> Iterator[Variant]:
    """Another rate, no scale, or a mask that is shared."""

    def rated(rate: float) -> Callable[..., Any]:
        def change(function: Any, args: tuple, keywords: dict) -> Any:
            p = keywords.get("p", args[1] if len(args) > 1 else 0.5)
            out = function(*args, **keywords)
            return out * (1 - p) / (1 - rate) if 0 < p < 1 else out

        return change

    for rate in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        words = f"a dropout scales by 1 / (1 - {rate:g}), the rate {rate:g} for torch's"
        yield Variant(words, ("dropout",), rated(rate))

    def unscaled(function: Any, args: tuple, keywords: dict) -> Any:
        return function(*args, **keywords) * (1 - keywords.get("p", (*args, 0.5)[1]))

    yield Variant("a dropout does not scale what it keeps", ("dropout",), unscaled)

    def absent(function: Any, args: tuple, keywords: dict) -> Any:
        return args[0]

    yield Variant("nothing is dropped", ("dropout",), absent)

    def shared(axes: int) -> Callable[..., Any]:
        def change(function: Any, args: tuple, keywords: dict) -> Any:
            out = function(*args, **keywords)
            x = args[0]
            if x.ndim <= axes:
                return NotImplemented
            noise = torch.where(x == 0, 0.0, out / x)
            return x * noise[(slice(0, 1),) * axes].expand(x.shape)

        return change

    for axes in (1, 2):
        words = f"one dropout mask is shared along the first {'axis' if axes == 1 else 'two axes'}"
        yield Variant(words, ("dropout",), shared(axes))


def list_gates() -> Iterator[Variant]:
    """The gates of a recurrent layer in another order."""

    def permuted(order: tuple[int, ...]) -> Callable[..., Any]:
        def change(function: Any, args: tuple, keywords: dict) -> Any:
            weights = [_reorder(weight, order) for weight in args[2]]
            return function(*args[:2], weights, *args[3:], **keywords)

        return change

    for name, gates in (("lstm", "ifgo"), ("gru", "rzn")):
        for order in itertools.permutations(range(len(gates))):
            if order != tuple(range(len(gates))):
                words = f"the gates are in the order {', '.join(gates[i] for i in order)}"
                yield Variant(words, (name,), permuted(order))


def _reorder(weight: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    parts = weight.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def list_others() -> Iterator[Variant]:
    """Activations and interpolation with other options."""

    def toggled(function: Any, args: tuple, keywords: dict) -> Any:
        now = keywords.get("approximate", "none")
        return function(*args, approximate="none" if now == "tanh" else "tanh")

    yield Variant("GELU is the tanh approximation, or is not where torch's is", ("gelu",), toggled)

    def cornered(function: Any, args: tuple, keywords: dict) -> Any:
        given = dict(zip(("input", "size", "scale_factor", "mode"), args, strict=False)) | keywords
        if given.get("mode", "nearest") in ("nearest", "area", "nearest-exact"):
            return NotImplemented
        return function(**given | {"align_corners": not given.get("align_corners")})

    yield Variant("interpolation has another align_corners", ("interpolate",), cornered)
    for slope in (0.01, 0.2, 0.3):
        words = f"the negative slope is {slope}"
        yield set_argument(words, ("leaky_relu",), 1, "negative_slope", slope)


def list_statistics() -> Iterator[Variant]:
    """Another momentum or variance of running statistics."""

    def swapped(function: Any, args: tuple, keywords: dict) -> Any:
        given = _bind_batch_norm(args, keywords)
        return function(**given | {"momentum": 1 - given["momentum"]})

    words = "momentum is the share of the old value where torch's is that of the new"
    yield Variant(words, ("batch_norm",), swapped)

    def biased(function: Any, args: tuple, keywords: dict) -> Any:
        given = _bind_batch_norm(args, keywords)
        x, var, momentum = given["input"], given["running_var"], given["momentum"]
        if var is None or not given["training"]:
            return NotImplemented
        old, count = var.clone(), x.numel() / x.shape[1]
        out = function(**given)
        kept = old * (1 - momentum)
        # The backward pass has kept it, and does not use it.
        var.data.copy_(kept + (var.data - kept) * (count - 1) / count)
        return out

    words = "batchnorm-variance: the running variance takes the biased variance of the batch"
    yield Variant(words, ("batch_norm",), biased)


def _bind_batch_norm(args: tuple, keywords: dict) -> dict[str, Any]:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum")
    defaults = {"weight": None, "bias": None, "training": False, "momentum": 0.1}
    return defaults | dict(zip((*names, "eps"), args, strict=False)) | keywords


def list_losses() -> Iterator[Variant]:
    """Another reduction."""

    def ignoring(function: Any, args: tuple, keywords: dict) -> Any:
        target = args[1] if len(args) > 1 else keywords["target"]
        given = keywords | {"reduction": "sum"}
        return function(*args, **given) / target.numel()

    entropies = ("cross_entropy", "nll_loss")
    yield Variant("the mean is over the ignored targets too", entropies, ignoring)
    names = (*entropies, "mse_loss", "l1_loss", "binary_cross_entropy", "smooth_l1_loss")
    for reduction in ("sum", "mean"):
        yield Variant(
            f"the reduction is the {reduction}",
            (*names, "binary_cross_entropy_with_logits", "kl_div", "huber_loss"),
            lambda f, args, keywords, reduction=reduction: f(
                *args, **keywords | {"reduction": reduction}
            ),
        )
