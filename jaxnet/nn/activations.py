"""Functions of single elements, and the softmaxes of one axis, as layers."""

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxnet._utils.validation import check_number, nearest
from jaxnet.nn._arguments import as_axis, check_input
from jaxnet.nn._functions import elu, gelu, leaky_relu, log_sigmoid, softplus, tanh
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

    negative_slope: float | int = 0.01

    def __post_init__(self):
        self.negative_slope = check_number("negative_slope", self.negative_slope)
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(leaky_relu(widen(x), self.negative_slope), x)


class ELU(Module):
    """y = x where x > 0, else alpha * (exp(x) - 1); the gradient at 0 is `alpha`.

    >>> import jax.numpy as jnp
    >>> print(ELU(alpha=2.0)(jnp.array([-100.0, 0.0, 3.0])))
    [-2.  0.  3.]

    Source: `torch.nn.ELU`, without `inplace`; Clevert, Unterthiner and Hochreiter (2016).
    """

    alpha: float | int = 1.0

    def __post_init__(self):
        self.alpha = check_number("alpha", self.alpha)
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(elu(widen(x), self.alpha), x)


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
        return narrow(gelu(widen(x), self.approximate), x)


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
        return narrow(log_sigmoid(widen(x)), x)


class Tanh(Module):
    """y = tanh(x): `torch.nn.Tanh`.

    >>> import jax.numpy as jnp
    >>> print(Tanh()(jnp.array([-100.0, 0.0])))
    [-1.  0.]

    Source: `torch.nn.Tanh`.
    """

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(tanh(widen(x)), x)


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

    beta: float | int = 1.0
    threshold: float | int = 20.0

    def __post_init__(self):
        self.threshold = check_number("threshold", self.threshold)
        self.beta = check_number("beta", self.beta)
        if self.beta == 0:
            raise ValueError(f"beta must be other than 0, not {self.beta}")
        super().__post_init__()

    def __call__(self, x: Floats) -> Float[Array, "..."]:
        """x of any shape to the same shape."""
        return narrow(softplus(widen(x), self.beta, self.threshold), x)


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
