"""What ports are known to do otherwise: each is tried on torch's own step, and named if it fits."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_EPS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)
_NORMS = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm")
_PRODUCTS = ("mul", "div", "__mul__", "__rmul__", "__truediv__", "true_divide", "imul")


class Variant(NamedTuple):
    """An operation as another library may have it."""

    words: str
    operations: tuple[str, ...]
    """Names of the functions that it replaces."""
    change: Callable[..., Any]
    """`change(function, args, keywords)`, or NotImplemented where it does not apply."""


class Changed(TorchFunctionMode):
    """Within this a variant takes the place of its operations: of all, or of one call."""

    def __init__(self, variant: Variant, only: int | None = None) -> None:
        super().__init__()
        self._variant, self._only = variant, only
        self.calls = 0
        """How many calls the variant applied to."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: D105
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._variant.operations:
            if self._only is None or self._only == self.calls:
                result = self._variant.change(func, args, kwargs)
                if result is not NotImplemented:
                    self.calls += 1
                    return result
            else:
                self.calls += 1
        return func(*args, **kwargs)


def list_variants(stage: str) -> Iterator[Variant]:
    """What may explain a divergence at a stage."""
    if stage == "outputs":
        yield from _norms()
        yield from _convolutions()
        yield from _dropouts()
        yield from _attention()
        yield from _gates()
        yield from _others()
    elif stage == "buffers":
        yield from _statistics()
    elif stage == "loss":
        yield from _losses()
    elif stage == "gradients":
        yield _set("the row of padding gets a gradient too", ("embedding",), 2, "padding_idx", None)


def _set(words: str, operations: tuple[str, ...], at: int, name: str, value: Any) -> Variant:
    """An argument has another value, by position or by name."""

    def change(function: Any, args: tuple, keywords: dict) -> Any:
        if len(args) > at:
            return function(*args[:at], value, *args[at + 1 :], **keywords)
        return function(*args, **keywords | {name: value})

    return Variant(words, operations, change)


def _norms() -> Iterator[Variant]:
    places = {"layer_norm": 4, "group_norm": 4, "batch_norm": 7, "instance_norm": 7, "rms_norm": 3}
    for name in _NORMS:
        for eps in _EPS:
            yield _set(f"{name} has eps {eps:g}", (name,), places[name], "eps", eps)


def _convolutions() -> Iterator[Variant]:
    names = ("conv1d", "conv2d", "conv3d")

    def same(function: Any, args: tuple, keywords: dict) -> Any:
        if "pool" in function.__name__:
            return _pool_same(function, args, keywords)
        x, weight, bias, stride, padding, dilation, groups = _bind_convolution(args, keywords)
        pads = _pads_of_same(x.shape[2:], weight.shape[2:], stride, dilation)
        return function(F.pad(x, pads), weight, bias, stride, 0, dilation, groups)

    words = 'the padding is "SAME", which adds more at the end'
    yield Variant(words, (*names, *_POOLS), same)
    yield Variant(f"{words}, in convolutions", names, same)

    def flipped(function: Any, args: tuple, keywords: dict) -> Any:
        x, weight, *rest = args
        return function(x, weight.flip(*range(2, weight.ndim)), *rest, **keywords)

    turned = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    yield Variant("the kernel of a transposed convolution is not flipped", turned, flipped)
    yield Variant("the kernel is flipped", names, flipped)


_POOLS = ("max_pool1d", "max_pool2d", "max_pool3d")


def _pads_of_same(sizes: Any, kernels: Any, strides: Any, dilations: Any) -> list[int]:
    """What XLA's SAME adds before and after each axis, the last axis first, as `F.pad` has it."""
    pads = []
    for size, kernel, step, spread in zip(sizes, kernels, strides, dilations, strict=True):
        need = max((math.ceil(size / step) - 1) * step + (kernel - 1) * spread + 1 - size, 0)
        pads = [need // 2, need - need // 2, *pads]
    return pads


def _pool_same(function: Any, args: tuple, keywords: dict) -> Any:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(names, args, strict=False)) | keywords
    x = given["input"]
    axes = int(function.__name__[-2])
    kernel = _repeat(given["kernel_size"], axes)
    stride = _repeat(given.get("stride") or kernel, axes)
    pads = _pads_of_same(x.shape[-axes:], kernel, stride, (1,) * axes)
    return function(F.pad(x, pads, value=-math.inf), kernel, stride)


def _repeat(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _bind_convolution(args: tuple, keywords: dict) -> list[Any]:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, args, strict=False)) | keywords
    axes = given["weight"].ndim - 2
    found: list[Any] = [given["input"], given["weight"], given.get("bias")]
    for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
        found.append(_repeat(given.get(name, default), axes))
    return [*found, given.get("groups", 1)]


def _dropouts() -> Iterator[Variant]:
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


def _attention() -> Iterator[Variant]:
    def unscaled(function: Any, args: tuple, keywords: dict) -> Any:
        numbers = [a for a in args if isinstance(a, int | float)]
        tensors = [a for a in args if isinstance(a, torch.Tensor) and a.ndim > 2]
        return tensors[0] if len(numbers) == len(tensors) == 1 else NotImplemented

    yield Variant("a scale, a constant that torch multiplies by, is left out", _PRODUCTS, unscaled)
    attend = ("scaled_dot_product_attention",)
    yield Variant(
        "attention is not scaled",
        attend,
        lambda f, args, keywords: f(*args, **keywords | {"scale": 1.0}),
    )
    yield Variant(
        "attention is not causal",
        attend,
        lambda f, args, keywords: f(*args, **keywords | {"is_causal": False}),
    )

    def reordered(function: Any, args: tuple, keywords: dict) -> Any:
        x, *sizes = args
        sizes = list(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
        if len(sizes) < 4 or 3 not in sizes[2:] or x.ndim != 3:
            return NotImplemented
        at = sizes.index(3, 2)
        other = at + 1 if at + 1 < len(sizes) - 1 else at - 1
        sizes[at], sizes[other] = sizes[other], sizes[at]
        return x.reshape(sizes).transpose(at, other)

    words = "q, k and v are split in another order: heads outside, or q, k, v outside"
    yield Variant(words, ("reshape", "view"), reordered)


def _gates() -> Iterator[Variant]:
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


def _others() -> Iterator[Variant]:
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
        yield _set(words, ("leaky_relu",), 1, "negative_slope", slope)


def _statistics() -> Iterator[Variant]:
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


def _losses() -> Iterator[Variant]:
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
