"""Ways to train the same task, jaxnet's first: each as its users would write it."""

from benchmarks.peers import (
    equinox_loop,
    flax_linen,
    flax_nnx,
    floor,
    jaxnet_fit,
    keras_fit,
    numpy_hand,
    sklearn_mlp,
    torch_compiled,
    torch_eager,
)
from benchmarks.task import Contestant


def contestants() -> list[Contestant]:
    """All of them in the table's order; what one needs is imported when it is prepared."""
    return [
        jaxnet_fit.FIT,
        torch_eager.LECTURE,
        torch_eager.SLICED,
        torch_compiled.PIECES,
        torch_compiled.CHUNKS,
        flax_nnx.LOOP,
        flax_nnx.SCAN,
        flax_linen.LOOP,
        flax_linen.SCAN,
        equinox_loop.LOOP,
        equinox_loop.SCAN,
        keras_fit.LOOP,
        keras_fit.FIT,
        sklearn_mlp.LOOP,
        sklearn_mlp.FIT,
        numpy_hand.NUMPY,
        floor.FLOOR,
    ]
