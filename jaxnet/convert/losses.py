"""torch's losses as jaxnet's functions."""

import functools
from collections.abc import Callable
from typing import Any

from jaxnet import losses
from jaxnet.cache import by_value
from jaxnet.convert._traced_losses import TracedLoss
from jaxnet.convert._unsupported import Unsupported, describe, torch_class
from jaxnet.convert.state import as_array

# The function of each loss, and the attributes that are its options beside `reduction`.
_LOSSES: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "BCELoss": (losses.binary_cross_entropy, ("weight",)),
    "BCEWithLogitsLoss": (losses.binary_cross_entropy_with_logits, ("weight", "pos_weight")),
    "CrossEntropyLoss": (losses.cross_entropy, ("weight", "ignore_index", "label_smoothing")),
    "NLLLoss": (losses.nll_loss, ("weight", "ignore_index")),
    "MSELoss": (losses.mse_loss, ()),
    "L1Loss": (losses.l1_loss, ()),
    "SmoothL1Loss": (losses.smooth_l1_loss, ("beta",)),
}


def loss_from_torch(loss: Any) -> Callable[[Any, Any], Any]:
    """One of torch's losses as `loss(outputs, targets)`, a scalar, for `fit`.

    A BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, NLLLoss, MSELoss, L1Loss or SmoothL1Loss becomes
    the function of `jaxnet.losses`. Any other callable (`torch.nn.functional.huber_loss`, a lambda
    of torch's operations, a module) is exported like a net, when it is first traced with outputs
    and targets of some shapes, and held against torch there.

    Args:
      loss: a callable of torch's, whose reduction gives a scalar. Tensors that it holds are
        constants.

    Raises:
      Unsupported: it is no callable, its reduction is "none", or, when it is traced, it has no
        graph, or one with an operation that no rule computes.

    >>> import torch, numpy as np
    >>> loss = loss_from_torch(torch.nn.MSELoss(reduction="sum"))
    >>> print(loss(np.array([3.0, 0.0], np.float32), np.array([1.0, 1.0], np.float32)))
    5.0
    """
    name = torch_class(loss, "torch.nn", "forward")
    if getattr(loss, "reduction", "") == "none":
        raise Unsupported([f"{type(loss).__name__} has reduction='none', expected 'mean' or 'sum'"])
    if name not in _LOSSES:
        if not callable(loss) or isinstance(loss, type):
            said = f"loss is {describe(loss)}, which has no translation"
            raise Unsupported([said], "supported: a callable of torch's, loss(outputs, targets)")
        return TracedLoss(loss)
    values = [getattr(loss, key) for key in _LOSSES[name][1]]
    values = [as_array(value) if hasattr(value, "detach") else value for value in values]
    return _bind(name, loss.reduction, *values)


@by_value(arrays=True)
def _bind(name: str, reduction: str, *values: Any) -> Callable[[Any, Any], Any]:
    """The loss of that name with the values of its options."""
    function, options = _LOSSES[name]
    keywords = dict(zip(options, values, strict=True))
    return functools.partial(function, reduction=reduction, **keywords)
