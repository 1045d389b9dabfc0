"""A jaxnet run between two epochs put into torch's objects, for the torch loop to resume."""

import warnings
from typing import Any

import torch

import jaxnet
from jaxnet.train.state import TrainState


def to_torch(
    state: TrainState,
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    scheduler: Any = None,
    epochs: int | None = None,
    loader_generator: torch.Generator | None = None,
) -> None:
    """Load a state into the net, its optimizer, its scheduler and torch's CPU generator.

    Args:
      state: as `jaxnet.fit` returned it, of a net and an optimizer that were translated from these.
      net, optimizer: what was translated, or the same built anew.
      scheduler: stepped until it has done `epochs` epochs, counted from the very first.
      epochs: see `scheduler`, beside which it must be given.
      loader_generator: the generator of a `DataLoader` that has its own.

    Raises:
      ValueError: the state lacks a tensor of the net's, has others, or has no state for the
        loader's generator. Nothing is loaded then.
      TypeError: the state's generator is not torch's.
    """
    if scheduler is not None and epochs is None:
        raise ValueError("epochs must be given beside a scheduler: how many it has done by now")
    stream = torch.from_numpy(jaxnet.random.get_state(state.generator))
    own = None
    if loader_generator is not None:
        if state.loader_generator is None:
            raise ValueError("state has no generator for a loader: loader_generator must be None")
        own = torch.from_numpy(jaxnet.random.get_state(state.loader_generator))
    named = jaxnet.convert.to_state_dict({"params": state.params, **state.model_state})
    like = {"params": state.params, **state.model_state}
    jaxnet.convert.from_state_dict(net.state_dict(), like)  # lists everything that does not fit
    saved = jaxnet.convert.opt_state_to_torch(state.opt_state, optimizer, net)
    for values in saved["state"].values():
        values |= {key: torch.from_numpy(array) for key, array in values.items()}

    net.load_state_dict({name: torch.from_numpy(array) for name, array in named.items()})
    optimizer.load_state_dict(saved)
    with warnings.catch_warnings():  # no optimizer step has come before these
        warnings.simplefilter("ignore", UserWarning)
        while scheduler is not None and scheduler.last_epoch < (epochs or 0):
            scheduler.step()
    torch.set_rng_state(stream)
    if loader_generator is not None and own is not None:
        loader_generator.set_state(own)
