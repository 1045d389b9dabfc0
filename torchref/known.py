"""Differences of formula that ports are known to have, and a user may grant by name."""

import numpy as np
import torch

from jaxnet.certificate.bounds import View
from jaxnet.certificate.causes import FORMULAS
from torchref.steps import Step

SCALES = frozenset({"clip-epsilon", "merged-bias"})
"""Those that change the updates, and with them the whole run."""


def bias_variance(net: torch.nn.Module, name: str, step: Step, view: View) -> View | None:
    """The running variance that a layer would have, did it keep the biased variance of the batch.

    With m the momentum, n the numbers of a channel and v the variance that torch divides by n - 1,
    torch keeps (1 - m) old + m v, and the others (1 - m) old + m v (n - 1) / n.
    """
    layer, _, last = name.rpartition(".")
    module = net.get_submodule(layer)
    momentum = getattr(module, "momentum", None)
    if last != "running_var" or momentum is None or layer not in step.outputs:
        return None
    count = step.outputs[layer].size / step.buffers[name].size
    kept = (1 - momentum) * step.buffers_before[name].astype(np.float64)
    return view._replace(exact=kept + (view.exact - kept) * (count - 1) / count)


def check_known(known: object) -> tuple[str, ...]:
    """The names that `certify` was given."""
    names = (known,) if isinstance(known, str) else tuple(known)  # pyright: ignore
    if strange := sorted(set(names) - set(FORMULAS)):
        raise ValueError(f"known must be among {', '.join(FORMULAS)}, not {strange[0]!r}")
    return names
