"""Attention: another scale, other masks, another order of the heads."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from torchref.variants.variant import Variant

_ATTEND = ("scaled_dot_product_attention",)
_FILLS = ("masked_fill", "masked_fill_")
_REST = ("dropout_p", "is_causal")
_PRODUCTS = ("mul", "div", "__mul__", "__rmul__", "__truediv__", "true_divide", "imul")


def list_scales() -> Iterator[Variant]:
    """Scores that are not scaled."""

    def unscaled(function: Any, args: tuple, keywords: dict) -> Any:
        numbers = [a for a in args if isinstance(a, int | float)]
        tensors = [a for a in args if isinstance(a, torch.Tensor) and a.ndim > 2]
        return tensors[0] if len(numbers) == len(tensors) == 1 else NotImplemented

    yield Variant("a scale, a constant that torch multiplies by, is left out", _PRODUCTS, unscaled)
    yield Variant(
        "attention is not scaled",
        _ATTEND,
        lambda f, args, keywords: f(*args, **keywords | {"scale": 1.0}),
    )


def list_masks() -> Iterator[Variant]:
    """A mask that is left out, or means the contrary."""
    yield Variant(
        "attention is not causal",
        _ATTEND,
        lambda f, args, keywords: f(*args, **keywords | {"is_causal": False}),
    )

    def masked(mask: Callable[[Any], Any]) -> Callable[..., Any]:
        def change(function: Any, args: tuple, keywords: dict) -> Any:
            if function.__name__ in _FILLS:
                given = dict(zip(("mask", "value"), args[1:], strict=False)) | keywords
                other = mask(given["mask"])
                return args[0] if other is None else function(args[0], other, given["value"])
            given = keywords.get("attn_mask", args[3] if len(args) > 3 else None)
            if given is None or (other := mask(given)) is given:
                return NotImplemented
            named = dict(zip(_REST, args[4:], strict=False)) | keywords | {"attn_mask": other}
            return function(*args[:3], **named)

        return change

    words = "a mask is left out"
    yield Variant(words, (*_ATTEND, *_FILLS), masked(lambda mask: None))
    words = "a mask is True where torch's is False"
    inverted = masked(lambda mask: ~mask if mask.dtype == torch.bool else mask)
    yield Variant(words, (*_ATTEND, *_FILLS), inverted)


def list_heads() -> Iterator[Variant]:
    """q, k, v and heads in another order."""

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
