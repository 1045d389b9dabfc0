"""What ports are known to do otherwise: each is tried on torch's own step, and named if it fits."""

from collections.abc import Iterator

from torchref.variants import attention, layers
from torchref.variants.convolutions import list_convolutions
from torchref.variants.variant import Variant, set_argument


def list_variants(stage: str) -> Iterator[Variant]:
    """What may explain a divergence at a stage."""
    if stage == "outputs":
        yield from layers.list_norms()
        yield from list_convolutions()
        yield from layers.list_dropouts()
        yield from attention.list_scales()
        yield from attention.list_masks()
        yield from attention.list_heads()
        yield from layers.list_gates()
        yield from layers.list_others()
    elif stage == "buffers":
        yield from layers.list_statistics()
    elif stage == "loss":
        yield from layers.list_losses()
    elif stage == "gradients":
        yield set_argument(
            "the row of padding gets a gradient too", ("embedding",), 2, "padding_idx", None
        )
