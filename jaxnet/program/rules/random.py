"""What draws at random: dropout, and tensors of random numbers.

Each says what torch draws, in torch's order; whoever runs the graph says from where.
"""

import jax.numpy as jnp

from jaxnet.nn._functions import scale_kept
from jaxnet.program.registry import aten, tabulate


@aten("native_dropout")
def native_dropout(x, p, train, *, draw):
    """The result and the mask; nothing is drawn for p = 0 and p = 1, as `dropout` does."""
    if not train or p == 0 or x.size == 0:
        return x, jnp.ones(x.shape, bool)
    if p == 1:
        return x * jnp.zeros((), x.dtype), jnp.zeros(x.shape, bool)
    keep = draw("keep", 1.0 - p, x.shape, like_input=True)
    return scale_kept(x, keep, p), keep


@aten("bernoulli.p")
def bernoulli_p(x, p=0.5, *, draw, result):
    """True with probability p, whatever x holds."""
    return draw("keep", p, x.shape, like_input=True).astype(result.dtype)


@aten("bernoulli.Tensor")
def bernoulli_tensor(x, p, *, draw, result):
    """1 where a uniform number is below p."""
    uniform = draw("uniform", None, x.shape, like_input=True)
    return (uniform < jnp.broadcast_to(p, x.shape)).astype(result.dtype)


def _like(draw, kind, x, parameter=None):
    """Numbers of x's shape, in the order in which x's elements lie in memory."""
    return draw(kind, parameter, x.shape, like_input=True)


for _kind, _name in {"uniform": "rand", "normal": "randn"}.items():
    aten(_name)(
        lambda size, dtype=None, *, draw, result, kind=_kind: draw(kind, None, tuple(size)).astype(
            result.dtype
        )
    )
    aten(f"{_name}_like")(
        lambda x, dtype=None, *, draw, result, kind=_kind: _like(draw, kind, x).astype(result.dtype)
    )

tabulate({
    "dropout": lambda x, p, train, *, draw: native_dropout(x, p, train, draw=draw)[0],
    "bernoulli": lambda x, *, draw, result: bernoulli_tensor(x, x, draw=draw, result=result),
    "uniform": lambda x, low=0.0, high=1.0, *, draw, result: (
        (_like(draw, "uniform", x) * (high - low) + low).astype(result.dtype)
    ),
    "normal_functional": lambda x, mean=0.0, std=1.0, *, draw, result: (
        (_like(draw, "normal", x) * std + mean).astype(result.dtype)
    ),
    "exponential": lambda x, lambd=1.0, *, draw, result: (
        _like(draw, "exponential", x, lambd).astype(result.dtype)
    ),
    "randint": lambda high, size, dtype=None, *, draw, result: (
        draw("randint", (0, high), tuple(size)).astype(result.dtype)
    ),
    "randint.low": lambda low, high, size, dtype=None, *, draw, result: (
        draw("randint", (low, high), tuple(size)).astype(result.dtype)
    ),
    "randint_like": lambda x, high, dtype=None, *, draw, result: (
        _like(draw, "randint", x, (0, high)).astype(result.dtype)
    ),
    "randint_like.low_dtype": lambda x, low, high, dtype=None, *, draw, result: (
        _like(draw, "randint", x, (low, high)).astype(result.dtype)
    ),
    "randperm": lambda n, dtype=None, *, draw, result: (
        draw("randperm", n, (n,)).astype(result.dtype)
    ),
})  # fmt: skip


@aten("multinomial")
def multinomial(x, num_samples, replacement=False, *, draw):
    """Places drawn with weights x: with replacement where a uniform number meets their sums, else
    those of the largest of x over exponential numbers."""
    if not replacement or num_samples == 1:
        race = x / draw("exponential", 1.0, x.shape).astype(x.dtype)
        return jnp.argsort(race, -1, stable=True, descending=True)[..., :num_samples]
    sums = jnp.cumsum(x, -1)
    sums = (sums / sums[..., -1:]).at[..., -1].set(1)
    drawn = draw("multinomial", None, (*x.shape[:-1], num_samples))
    below = sums[..., None, :] < drawn[..., :, None]
    return jnp.sum(below.astype(jnp.int32), -1)
