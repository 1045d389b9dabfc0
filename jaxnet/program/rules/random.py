"""What draws at random: dropout, and tensors of random numbers.

Each says what torch draws, in torch's order; whoever runs the graph says from where.
"""

import jax.numpy as jnp

from jaxnet.nn._functions import scale_kept
from jaxnet.program.registry import rule


@rule("aten.native_dropout.default")
def native_dropout(x, p, train, *, draw):
    """The result and the mask; nothing is drawn for p = 0 and p = 1, as `dropout` does."""
    if not train or p == 0 or x.size == 0:
        return x, jnp.ones(x.shape, bool)
    if p == 1:
        return x * jnp.zeros((), x.dtype), jnp.zeros(x.shape, bool)
    keep = draw("keep", 1.0 - p, x.shape, like_input=True)
    return scale_kept(x, keep, p), keep


@rule("aten.dropout.default")
def dropout(x, p, train, *, draw):
    return native_dropout(x, p, train, draw=draw)[0]


@rule("aten.bernoulli.p")
def bernoulli_p(x, p=0.5, *, draw, result):
    """True with probability p, whatever x holds."""
    return draw("keep", p, x.shape, like_input=True).astype(result.dtype)


@rule("aten.bernoulli.default")
def bernoulli(x, *, draw, result):
    """1 where a uniform number is below x."""
    return (draw("uniform", None, x.shape, like_input=True) < x).astype(result.dtype)


@rule("aten.bernoulli.Tensor")
def bernoulli_tensor(x, p, *, draw, result):
    p = jnp.broadcast_to(p, x.shape)
    return (draw("uniform", None, x.shape, like_input=True) < p).astype(result.dtype)


for _kind, _name in {"uniform": "rand", "normal": "randn"}.items():
    rule(f"aten.{_name}.default")(
        lambda size, dtype=None, *, draw, result, kind=_kind: draw(kind, None, tuple(size)).astype(
            result.dtype
        )
    )
    rule(f"aten.{_name}_like.default")(
        lambda x, dtype=None, *, draw, result, kind=_kind: draw(
            kind, None, x.shape, like_input=True
        ).astype(result.dtype)
    )


@rule("aten.uniform.default")
def uniform(x, low=0.0, high=1.0, *, draw, result):
    drawn = draw("uniform", None, x.shape, like_input=True)
    return (drawn * (high - low) + low).astype(result.dtype)


@rule("aten.normal_functional.default")
def normal(x, mean=0.0, std=1.0, *, draw, result):
    drawn = draw("normal", None, x.shape, like_input=True)
    return (drawn * std + mean).astype(result.dtype)


@rule("aten.exponential.default")
def exponential(x, lambd=1.0, *, draw, result):
    return (draw("exponential", None, x.shape, like_input=True) / lambd).astype(result.dtype)


@rule("aten.randint.default")
def randint(high, size, dtype=None, *, draw, result):
    return draw("randint", (0, high), tuple(size)).astype(result.dtype)


@rule("aten.randint.low")
def randint_low(low, high, size, dtype=None, *, draw, result):
    return draw("randint", (low, high), tuple(size)).astype(result.dtype)


@rule("aten.randint_like.default")
def randint_like(x, high, dtype=None, *, draw, result):
    return draw("randint", (0, high), x.shape, like_input=True).astype(result.dtype)


@rule("aten.randint_like.low_dtype")
def randint_like_low(x, low, high, dtype=None, *, draw, result):
    return draw("randint", (low, high), x.shape, like_input=True).astype(result.dtype)


@rule("aten.randperm.default")
def randperm(n, dtype=None, *, draw, result):
    return draw("randperm", n, (n,)).astype(result.dtype)


@rule("aten.multinomial.default")
def multinomial(x, num_samples, replacement=False, *, draw):
    """Places drawn with weights x: with replacement where a uniform number meets their sums, else
    those of the largest of x over exponential numbers."""
    if not replacement or num_samples == 1:
        race = x / draw("exponential", None, x.shape).astype(x.dtype)
        return jnp.argsort(race, -1, stable=True, descending=True)[..., :num_samples]
    sums = jnp.cumsum(x, -1)
    sums = (sums / sums[..., -1:]).at[..., -1].set(1)
    drawn = draw("multinomial", None, (*x.shape[:-1], num_samples))
    below = sums[..., None, :] < drawn[..., :, None]
    return jnp.sum(below.astype(jnp.int32), -1)
