"""torch's random streams as pure functions: the same integers from the same seed, without torch.

A generator is data: each function takes one and returns the next one beside its values.
"""

from jaxnet.random.distributions import bernoulli, dropout_mask, uniform
from jaxnet.random.engine import Generator, manual_seed
from jaxnet.random.shuffles import randperm

__all__ = ["Generator", "bernoulli", "dropout_mask", "manual_seed", "randperm", "uniform"]
