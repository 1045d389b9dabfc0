"""What is added around an array: a constant, its own reflection, its rim, itself again."""

import jax.numpy as jnp
from jax import lax

from jaxnet.nn.images import PADDING_MODES
from jaxnet.program.registry import aten


def _around(x, pad):
    """torch's list, of the last axis first, as pairs for every axis."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]


@aten("pad")
def pad(x, pad, mode="constant", value=None):
    """Negative sizes cut off."""
    if mode == "constant":
        return constant_pad_nd(x, pad, 0 if value is None else value)
    around = _around(x, pad)
    x = jnp.pad(x, [(max(a, 0), max(b, 0)) for a, b in around], mode=PADDING_MODES[mode])
    cuts = [slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(around, x.shape, strict=True)]
    return x[tuple(cuts)]


@aten("constant_pad_nd")
def constant_pad_nd(x, pad, value=0):
    config = [(front, behind, 0) for front, behind in _around(x, pad)]
    return lax.pad(x, jnp.asarray(value).astype(x.dtype), config)


for _name, _mode in {"reflection": "reflect", "replication": "replicate"}.items():
    aten(f"{_name}_pad1d {_name}_pad2d {_name}_pad3d")(
        lambda x, padding, mode=_mode: pad(x, padding, mode)
    )
