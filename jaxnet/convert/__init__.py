"""torch's nets, losses, optimizers and their state as jaxnet's, and back.

torch's objects are read by their attributes, or exported by torch itself, which alone imports it.
What cannot be translated exactly raises `Unsupported`, which names it and its place; nothing is
approximated.
"""

from jaxnet.convert._unsupported import Unsupported
from jaxnet.convert.files import (
    load_safetensors,
    load_train_state,
    save_safetensors,
    save_train_state,
)
from jaxnet.convert.handover import train_state_from_torch
from jaxnet.convert.losses import loss_from_torch
from jaxnet.convert.modules import from_torch
from jaxnet.convert.optimizers import optimizer_from_torch
from jaxnet.convert.saving import load, save
from jaxnet.convert.state import (
    from_state_dict,
    opt_state_from_torch,
    opt_state_to_torch,
    to_state_dict,
)

__all__ = [
    "Unsupported",
    "from_state_dict",
    "from_torch",
    "load",
    "load_safetensors",
    "load_train_state",
    "loss_from_torch",
    "opt_state_from_torch",
    "opt_state_to_torch",
    "optimizer_from_torch",
    "save",
    "save_safetensors",
    "save_train_state",
    "to_state_dict",
    "train_state_from_torch",
]
