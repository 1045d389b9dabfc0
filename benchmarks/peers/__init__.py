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
    torchs = [torch_eager.LECTURE, torch_eager.SLICED, torch_compiled.PIECES, torch_compiled.CHUNKS]
    jaxs = [each for m in (flax_nnx, flax_linen, equinox_loop) for each in (m.LOOP, m.SCAN)]
    others = [each for m in (keras_fit, sklearn_mlp) for each in (m.LOOP, m.FIT)]
    return [jaxnet_fit.FIT, *torchs, *jaxs, *others, numpy_hand.NUMPY, floor.FLOOR]
