"""Where a program's random numbers come from: noted, given, or drawn from a key of JAX's."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from jaxnet._utils.validation import nearest
from jaxnet.nn.draws import Draw


class Listing:
    """Notes what would be drawn, and gives zeros."""

    def __init__(self) -> None:
        self.draws: list[Draw] = []

    def __call__(self, draw: Draw) -> Any:
        """Zeros in place of what is drawn."""
        self.draws.append(draw)
        return jnp.zeros(draw.shape, _dtype(draw))


class Given:
    """Hands out what was drawn before, by name.

    Raises:
      ValueError: there is nothing of that name, or of another shape; or, from `check_all`, some
        that nothing asked for.
    """

    def __init__(self, draws: Any) -> None:
        nested = draws if isinstance(draws, Mapping) else {"": draws}
        self._left = {".".join(path): value for path, value in flatten_dict(nested).items()}
        self._names = tuple(self._left)

    def __call__(self, draw: Draw) -> Any:
        """What was drawn under that name."""
        name = ".".join(draw.path)
        if name not in self._left:
            raise ValueError(
                f"draws must have {name!r}, {draw.kind} {list(draw.shape)}; there are "
                f"{list(self._names)}{nearest(name, self._names)}"
            )
        value = jnp.asarray(self._left.pop(name))
        if value.shape != draw.shape:
            raise ValueError(f"draws: {name!r} must have shape {draw.shape}, not {value.shape}")
        if draw.kind == "keep" and value.dtype != jnp.bool_:
            raise ValueError(f"draws: {name!r} must be a boolean mask, not {value.dtype}")
        return value

    def check_all(self) -> None:
        """Reject what nothing has asked for."""
        if self._left:
            raise ValueError(f"draws names {list(self._left)}, which this net does not draw")


class Keyed:
    """Draws from a key of JAX's, each with a key of its own: the same distributions."""

    def __init__(self, key: Any) -> None:
        self._key, self._count = key, 0

    def __call__(self, draw: Draw) -> Any:
        """Numbers of JAX's."""
        key, shape, dtype = jax.random.fold_in(self._key, self._count), draw.shape, _dtype(draw)
        self._count += 1
        if draw.kind == "keep":
            return jax.random.bernoulli(key, draw.parameter, shape)
        if draw.kind == "randint":
            return jax.random.randint(key, shape, *draw.parameter)
        if draw.kind == "randperm":
            return jax.random.permutation(key, draw.parameter)
        kind = {"multinomial": "uniform"}.get(draw.kind, draw.kind)
        values = getattr(jax.random, kind)(key, shape, dtype)
        return values / draw.parameter if kind == "exponential" else values


def _dtype(draw: Draw) -> Any:
    fixed = {"keep": "bool", "randint": "int32", "randperm": "int32"}
    wide = draw.kind == "multinomial" or draw.dtype == "float64"
    return jax.dtypes.canonicalize_dtype(fixed.get(draw.kind, "float64" if wide else "float32"))
