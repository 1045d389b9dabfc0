"""The losses of the lecture and their neighbors, with torch's arguments, edge cases and gradients.

Each function is pure and may be jitted, vmapped and differentiated. Shapes and dtypes are always
checked; values only where they are known, so not in an argument that jit, vmap or grad traces.
"""

from jaxnet.losses.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from jaxnet.losses.classes import cross_entropy, nll_loss
from jaxnet.losses.regression import l1_loss, mse_loss, smooth_l1_loss

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]
