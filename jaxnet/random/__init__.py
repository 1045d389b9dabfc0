"""torch's random streams as pure functions: the same integers from the same seed, without torch.

A generator is data: each function takes one and returns the next one beside its values.
"""

from jaxnet.random.distributions import bernoulli, dropout_mask, randint, random_int64, uniform
from jaxnet.random.initializers import (
    kaiming_normal,
    kaiming_uniform,
    trunc_normal,
    xavier_normal,
    xavier_uniform,
)
from jaxnet.random.mt19937 import Generator, manual_seed
from jaxnet.random.normal import normal
from jaxnet.random.permutation import randperm
from jaxnet.random.state import get_state, set_state

__all__ = [
    "Generator",
    "bernoulli",
    "dropout_mask",
    "get_state",
    "kaiming_normal",
    "kaiming_uniform",
    "manual_seed",
    "normal",
    "randint",
    "random_int64",
    "randperm",
    "set_state",
    "trunc_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
]
