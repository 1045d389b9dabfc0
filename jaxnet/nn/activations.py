"""Functions of single elements, and the softmaxes of one axis, as layers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxnet._utils.validation import check_number, nearest
from jaxnet.nn._arguments import as_axis, check_input
from jaxnet.nn.base import Module, narrow, widen

Floats = Float[Array | np.ndarray, "..."]


class ReLU(Module):
    """y = max(x, 0), with gradient 0 at 0: `torch.nn.ReLU`.

    >>> import jax.numpy as jnp
    >>> print(ReLU()(jnp.array([-1.0, 0.0, 2.0])))
    [0. 0. 2.]

    Source: `torch.nn.ReLU`.
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        check_input(x)
        return jax.nn.relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope * x; the gradient at 0 is `negative_slope`.

    >>> import jax.numpy as jnp
    >>> print(LeakyReLU(0.5)(jnp.array([-2.0, 0.0, 2.0])))
    [-1.  0.  2.]

    Source: `torch.nn.LeakyReLU`, without `inplace`.
    """

    negative_slope: float = 0.01

    def __post_init__(self):
        check_number("negative_slope", self.negative_slope)
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        wide = widen(x)
        return narrow(jnp.where(wide > 0, wide, wide * self.negative_slope), x)


# JAX's own derivative, expm1(x) + 1, is 0 below -17: exp(x) is not.
_expm1 = jax.custom_jvp(jnp.expm1)
_expm1.defjvps(lambda tangent, y, x: tangent * jnp.exp(x))


class ELU(Module):
    """y = x where x > 0, else alpha * (exp(x) - 1); the gradient at 0 is `alpha`.

    >>> import jax.numpy as jnp
    >>> print(ELU(alpha=2.0)(jnp.array([-100.0, 0.0, 3.0])))
    [-2.  0.  3.]

    Source: `torch.nn.ELU`, without `inplace`; Clevert, Unterthiner and Hochreiter (2016).
    """

    alpha: float = 1.0

    def __post_init__(self):
        check_number("alpha", self.alpha)
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        wide = widen(x)
        # The inner choice keeps an overflow of exp out of the gradient of large x.
        curve = self.alpha * _expm1(jnp.where(wide > 0, 0.0, wide))
        return narrow(jnp.where(wide > 0, wide, curve), x)


def _logistic_slope(x):
    """The derivative of 1 / (1 + exp(-x)); y * (1 - y) would cancel for large x."""
    z = jnp.exp(-jnp.abs(x))
    return z / lax.square(1.0 + z)


_logistic = jax.custom_jvp(jax.nn.sigmoid)
_logistic.defjvps(lambda tangent, y, x: tangent * _logistic_slope(x))


class GELU(Module):
    """y = x * Phi(x), Phi the normal distribution function: `torch.nn.GELU`.

    `approximate="tanh"` takes Phi(x) as (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2.

    Raises:
      ValueError: `approximate` is neither "none" nor "tanh".

    torch computes Phi(x) as (1 + erf(x / sqrt(2))) / 2, or with that tanh, which cancels for
    negative x; erfc and the logistic function here do not. So the two differ by the rounding errors
    of 1, times x, and this is the nearer one to y.

    >>> import jax.numpy as jnp
    >>> print(GELU()(jnp.array([-100.0, 0.0, 100.0])))
    [ -0.   0. 100.]

    Source: `torch.nn.GELU`; Hendrycks and Gimpel (2016).
    """

    approximate: str = "none"

    def __post_init__(self):
        if self.approximate not in (known := ("none", "tanh")):
            said = f"{self.approximate!r}{nearest(self.approximate, known)}"
            raise ValueError(f'approximate must be "none" or "tanh", not {said}')
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        wide = widen(x)
        if self.approximate == "none":
            return narrow(jax.nn.gelu(wide, approximate=False), x)
        inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
        return narrow(wide * _logistic(2.0 * inner), x)  # (1 + tanh(u)) / 2


class SiLU(Module):
    """y = x / (1 + exp(-x)): `torch.nn.SiLU`.

    >>> import jax.numpy as jnp
    >>> print(SiLU()(jnp.array([-200.0, 0.0, 100.0])))
    [ -0.   0. 100.]

    Source: `torch.nn.SiLU`, without `inplace`; Elfwing, Uchibe and Doya (2018).
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(jax.nn.silu(widen(x)), x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)): `torch.nn.Sigmoid`.

    >>> import jax.numpy as jnp
    >>> print(Sigmoid()(jnp.array([0.0])))
    [0.5]

    Source: `torch.nn.Sigmoid`.
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(jax.nn.sigmoid(widen(x)), x)


class LogSigmoid(Module):
    """y = log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)): `torch.nn.LogSigmoid`.

    >>> import jax.numpy as jnp
    >>> print(LogSigmoid()(jnp.array([-100.0, 0.0, 200.0])))
    [-100.          -0.6931472    0.       ]

    Source: `torch.nn.LogSigmoid`.
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        wide = widen(x)
        # min and |x| as choices: their own derivatives at 0 would not add up to torch's 1/2.
        negative = wide < 0
        rest = jnp.log1p(jnp.exp(jnp.where(negative, wide, -wide)))
        return narrow(jnp.where(negative, wide, 0.0) - rest, x)


# XLA's tanh errs by 2 ulp of 1 near its limits, which 1 - y^2 would double.
_tanh = jax.custom_jvp(jnp.tanh)
_tanh.defjvps(lambda tangent, y, x: tangent * (4.0 * _logistic_slope(2.0 * x)))


class Tanh(Module):
    """y = tanh(x): `torch.nn.Tanh`.

    >>> import jax.numpy as jnp
    >>> print(Tanh()(jnp.array([-100.0, 0.0])))
    [-1.  0.]

    Source: `torch.nn.Tanh`.
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(_tanh(widen(x)), x)


class Softplus(Module):
    """y = log(1 + exp(beta * x)) / beta, and y = x where beta * x > threshold.

    Raises:
      ValueError: `beta` is 0.

    torch's exp overflows where beta * x is above 88, if `threshold` lets it come so far; this does
    not. There torch's gradient is nan.

    >>> import jax.numpy as jnp
    >>> print(Softplus()(jnp.array([-200.0, 0.0, 30.0])))
    [ 0.         0.6931472 30.       ]

    Source: `torch.nn.Softplus`.
    """

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self):
        check_number("threshold", self.threshold)
        if check_number("beta", self.beta) == 0:
            raise ValueError(f"beta must be other than 0, not {self.beta}")
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        wide = widen(x)
        scaled = wide * self.beta
        negative = scaled < 0  # as in LogSigmoid
        rest = jnp.log1p(jnp.exp(jnp.where(negative, scaled, -scaled)))
        soft = jnp.where(negative, 0.0, scaled) + rest
        return narrow(jnp.where(scaled > self.threshold, wide, soft / self.beta), x)


class Softmax(Module):
    """y_i = exp(x_i) / sum_j exp(x_j) along the axis `dim`: `torch.nn.Softmax`.

    Raises:
      ValueError: x has no axis `dim`.

    torch guesses an axis, with a warning, where `dim` is not given; here it must be.

    >>> import jax.numpy as jnp
    >>> print(Softmax(dim=-1)(jnp.array([[1000.0, 1000.0]])))
    [[0.5 0.5]]

    Source: `torch.nn.Softmax`.
    """

    dim: int

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(jax.nn.softmax(widen(x), axis=as_axis("dim", self.dim, x.ndim)), x)


class LogSoftmax(Module):
    """y_i = x_i - log(sum_j exp(x_j)) along the axis `dim`: `torch.nn.LogSoftmax`.

    Raises:
      ValueError: x has no axis `dim`.

    torch guesses an axis, with a warning, where `dim` is not given; here it must be.

    >>> import jax.numpy as jnp
    >>> print(LogSoftmax(dim=0)(jnp.array([0.0, -1000.0])))
    [    0. -1000.]

    Source: `torch.nn.LogSoftmax`.
    """

    dim: int

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(jax.nn.log_softmax(widen(x), axis=as_axis("dim", self.dim, x.ndim)), x)
