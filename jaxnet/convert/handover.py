"""A torch run between two epochs as a state that jaxnet resumes from."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnet._utils.validation import INT32, check_optimizer
from jaxnet.convert._ports import read_variables
from jaxnet.convert._unsupported import check_torch
from jaxnet.convert.state import as_array, opt_state_from_torch
from jaxnet.random import set_state
from jaxnet.random._arguments import as_integer
from jaxnet.train.state import TrainState
from jaxnet.train.step import start


def train_state_from_torch(
    net: Any,
    optimizer: Any,
    jax_optimizer: Any,
    generator: Any,
    *,
    step: int = 0,
    loader_generator: Any = None,
) -> TrainState:
    """The state of a torch run between two epochs, for `jaxnet.fit(..., state=...)` to resume.

    Args:
      net, optimizer: torch's, as the run left them.
      jax_optimizer: `optimizer_from_torch(optimizer, net, ...)`.
      generator: `torch.get_rng_state()`.
      step: the steps done, which a schedule counts from.
      loader_generator: `get_state()` of a `DataLoader`'s own generator, where it has one.

    Raises:
      Unsupported, ValueError, TypeError: as `opt_state_from_torch` and `jaxnet.random.set_state`
        raise them, or `net` is no module of torch's.

    The way back is `torchref.handover.to_torch`.
    """
    if not 0 <= as_integer("step", step) <= INT32:
        raise ValueError(f"step must be an integer from 0 to {INT32}, not {step}")
    check_optimizer(jax_optimizer, "jax_optimizer")
    check_torch("net", net, "torch.nn", "torch.nn.Module")
    variables = read_variables(net)
    state = start(jax_optimizer, variables, set_state(as_array(generator)))
    opt_state = opt_state_from_torch(optimizer, net, state.opt_state, count=step)
    own = None if loader_generator is None else set_state(as_array(loader_generator))
    own, done = jax.tree.map(jnp.asarray, own), jnp.asarray(step, jnp.int32)
    return state._replace(opt_state=opt_state, step=done, loader_generator=own)
