r"""torch.optim's optimizers and learning-rate schedulers, as optax's.

An optimizer is a function that returns an `optax.GradientTransformation` for floating-point
parameters, to be used with `init`, `update` and `optax.apply_updates`; a scheduler, one that
returns an `optax.Schedule`, to be given as an `lr`. All work under jit, scan and vmap.

torch's arguments that choose how the same numbers are computed (`foreach`, `fused`, `capturable`,
`differentiable`) have no meaning under XLA and are left out.

The parts are optax's wherever optax computes what torch computes. The state is the tuple of the
parts' states; `optax.tree.get(opt_state, "exp_avg")` finds a field of it by name.
"""

from jaxnet.optim.adagrad import AdagradState, adagrad
from jaxnet.optim.adam import AdamState, adam, adamw
from jaxnet.optim.rmsprop import RMSpropState, rmsprop
from jaxnet.optim.schedules import cosine_annealing_lr, exponential_lr, lambda_lr, step_lr
from jaxnet.optim.sgd import DampeningState, sgd

__all__ = [
    "AdagradState",
    "AdamState",
    "DampeningState",
    "RMSpropState",
    "adagrad",
    "adam",
    "adamw",
    "cosine_annealing_lr",
    "exponential_lr",
    "lambda_lr",
    "rmsprop",
    "sgd",
    "step_lr",
]
